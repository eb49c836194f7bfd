"""Bad input from end to end: no traceback, the right exit code, and every record either a row or a counted rejection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncflow.cli import run_command

SCHEMA = '{ ts = "timestamp", k = "string", v = "float64" }'


@dataclass(frozen=True)
class Outcome:
    """What a run left: exit code, its rows, the rejected records, the source's part of the ledger, and stderr."""

    code: int
    rows: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    counts: dict[str, Any]
    err: str


Ingest = Callable[..., Outcome]


@pytest.fixture
def ingest(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ingest:
    """Runs a pipeline over ``data`` and checks what holds for every run."""

    def run(
        data: bytes | None,
        format_: str = "csv",
        *,
        path: str = "",
        schema: str = SCHEMA,
        time: bool = False,
        window: bool = False,
        read_rejected: bool = True,
        workers: int = 1,
    ) -> Outcome:
        given_path = path or str(tmp_path / "in")
        if data is not None:
            Path(given_path).write_bytes(data)
        for name in ("out", "rejected", "stats"):
            (tmp_path / name).unlink(missing_ok=True)
        text = f'[sources.s]\ntype = "file"\npath = "{given_path}"\nformat = "{format_}"\n'
        text += (f"schema = {schema}\n" if schema else "") + ('time = "ts"\n' if time else "")
        if window:
            text += (
                '[stages.w]\ntype = "window"\nwindow = { tumbling = "1m" }\naggregates = { n = "count(*)" }\n'
            )
        text += f'[sinks.out]\ntype = "file"\npath = "{tmp_path / "out"}"\ninputs = ["{"w" if window else "s"}"]\n'
        if read_rejected:
            text += f'[sinks.bad]\ntype = "file"\npath = "{tmp_path / "rejected"}"\ninputs = ["s.rejected"]\n'
        (tmp_path / "p.toml").write_text(text)
        command = [
            "run",
            str(tmp_path / "p.toml"),
            "--stats",
            str(tmp_path / "stats"),
            "--workers",
            str(workers),
        ]
        code = run_command(command)
        out, err = capfd.readouterr()
        assert out == "" and "Traceback" not in err and "bug in asyncflow" not in err
        rows, rejected = json_lines(tmp_path / "out"), json_lines(tmp_path / "rejected")
        stats = tmp_path / "stats"
        counts = json.loads(stats.read_text())["sources"].get("s", {}) if stats.exists() else {}
        if counts.get("rows") and counts["rows"] == counts["rejected"]:
            assert code == 1 and err.splitlines()[-1] == "error: every record was rejected"
            code = 0  # it ended in order
        if code == 0:
            assert counts["rows"] == counts["rows_out"] + counts["rejected"] + counts["future"]
            assert window or len(rows) == counts["rows_out"]
            assert len(rejected) == (counts["rejected"] if read_rejected else 0)
            assert (f"s: {counts['rejected']} rejected" in err) == (
                counts["rejected"] > 0 and not read_rejected
            )
        else:
            assert err.startswith("error: ") and len(err.splitlines()) == 1
        return Outcome(code, rows, rejected, counts, err)

    return run


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


HEADER = b"ts,k,v\n"
CSV = b"2024-01-01,a,1\n"
JSON = b'{"ts":"2024-01-01","k":"a","v":1}\n'
LONG = b"x" * (2 << 20)
SURROGATES = b'{"k":"\\ud800"}\n{"k":"\\udc00\\ud800"}\n{"k":"\\ud83d\\ude00"}\n'
DEEP_ARRAYS = b'{"k":' + b"[" * 100_000 + b"\n"
DEEP_OBJECTS = b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"
BEGINNINGS = [
    b"",
    b"{",
    b'{"a":',
    b"a,b\n",
    b'"',
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\n",
    b"\x1f\x8b",
    b'{"a":1}\n',
    b"ts\n2024-01-01\n",
]
# format, input, rows, rejected, what the first rejection says
CASES: dict[str, tuple[str, bytes, int, int, str]] = {
    "csv: empty": ("csv", b"", 0, 0, ""),
    "csv: header only": ("csv", HEADER, 0, 0, ""),
    "csv: header without its end": ("csv", HEADER[:-1], 0, 0, ""),
    "csv: blank lines": ("csv", HEADER + b"\n\r\n\n", 0, 0, ""),
    "csv: truncated": ("csv", HEADER + CSV + CSV[:-3], 1, 1, "expected 3 fields, found 2"),
    "csv: truncated in quotes": ("csv", HEADER + CSV + b'2024-01-01,"a', 1, 1, "unclosed quote"),
    "csv: byte order mark and CRLF": ("csv", b"\xef\xbb\xbf" + (HEADER + CSV + CSV).replace(b"\n", b"\r\n"), 2, 0, ""),
    "csv: binary": ("csv", HEADER + CSV + bytes(range(14, 256)) + b"\n" + CSV, 2, 1, "not UTF-8"),
    "csv: 2 MiB line": ("csv", HEADER + CSV + LONG + b"\n" + CSV, 2, 1, "longer than 1048576 bytes"),
    "csv: 2 MiB line at the end": ("csv", HEADER + CSV + LONG, 1, 1, "longer than 1048576 bytes"),
    "csv: NUL bytes": ("csv", HEADER + b"2024-01-01,a\0b,1\n2024-01-01,a,1\0\n" + bytes(99) + b"\n", 1, 2, "v: not a float64"),
    "csv: invalid UTF-8": ("csv", HEADER + b"2024-01-01,\xff,1\n2024-01-01,\xed\xa0\x80,1\n" + CSV, 1, 2, "not UTF-8"),
    "csv: no leap day": ("csv", HEADER + b"2024-02-29,a,1\n2023-02-29,a,1\n1900-02-29,a,1\n2000-02-29,a,1\n", 2, 2, "ts: not a timestamp"),
    "json: empty": ("json", b"", 0, 0, ""),
    "json: blank lines": ("json", b"\n\r\n \n", 0, 0, ""),
    "json: truncated": ("json", JSON + JSON[:20], 1, 1, "malformed JSON"),
    "json: byte order mark and CRLF": ("json", b"\xef\xbb\xbf" + (JSON + JSON).replace(b"\n", b"\r\n"), 2, 0, ""),
    "json: binary": ("json", JSON + bytes(range(14, 256)) + b"\n" + JSON, 2, 1, "not UTF-8"),
    "json: no objects": ("json", b'1\n[]\nnull\n"x"\n' + JSON, 1, 4, "not a JSON object"),
    "json: 2 MiB line": ("json", JSON + b'{"k":"' + LONG + b'"}\n' + JSON, 2, 1, "longer than 1048576 bytes"),
    "json: NUL bytes": ("json", b'{"k":"a\\u0000b"}\n{"k":"a\0b"}\n' + bytes(99) + b"\n", 1, 2, "malformed JSON"),
    "json: lone surrogates": ("json", SURROGATES, 1, 2, "k: half of a surrogate pair"),
    "json: invalid UTF-8": ("json", b'{"k":"\xff"}\n{"k":"\xed\xa0\x80"}\n' + JSON, 1, 2, "not UTF-8"),
    "json: deep": ("json", JSON + DEEP_ARRAYS + DEEP_OBJECTS + JSON, 2, 2, "JSON nested deeper"),
    "json: no leap day": ("json", b'{"ts":"2024-02-29"}\n{"ts":"2023-02-29"}\n', 1, 1, "ts: not a timestamp"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("read_rejected", [True, False])
def test_each_record_is_a_row_or_a_counted_rejection(ingest: Ingest, case: str, read_rejected: bool) -> None:
    format_, data, rows, rejected, reason = CASES[case]
    for workers in (1, 2):
        outcome = ingest(data, format_, read_rejected=read_rejected, workers=workers)
        assert (outcome.code, len(outcome.rows), outcome.counts["rejected"]) == (0, rows, rejected)
        if rejected and read_rejected:
            assert outcome.rejected[0]["reason"].startswith(reason)
            assert all("in:" in row["position"] and row["record"] is not None for row in outcome.rejected)
        if rejected and not read_rejected:
            assert reason in outcome.err


@pytest.mark.parametrize(
    "data", [b"a\0b\r\n\xff\n\xed\xa0\x80\n" + LONG + b"\n\nend", b"\xef\xbb\xbfa\n\n\xfe\n\xc3\n" + LONG]
)
def test_lines(ingest: Ingest, data: bytes) -> None:
    outcome = ingest(data, "lines", schema="")
    assert (outcome.code, len(outcome.rejected)) == (0, 3)
    assert [row["line"] for row in outcome.rows] == (["a\0b", "", "end"] if data[:1] == b"a" else ["a", ""])


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_numbers_at_the_edges(ingest: Ingest, format_: str) -> None:
    numbers = ["1e999", "-1e999", "-0.0", "NaN", "5e-324", "Infinity"]
    data = HEADER + b"".join(b",a,%s\n" % number.encode() for number in numbers)
    if format_ == "json":
        data = b"".join(b'{"v":%s}\n' % number.encode() for number in numbers)
    rows = ingest(data, format_).rows
    assert [str(row["v"]) for row in rows] == ["Infinity", "-Infinity", "-0.0", "NaN", "5e-324", "Infinity"]


# the type of ts, as written, as it comes out (None: rejected; "future": beyond what the wall clock allows)
TIMES = [
    ("timestamp", "1970-01-01", "1970-01-01T00:00:00Z"),
    ("timestamp", "1969-12-31T23:59:59.5", "1969-12-31T23:59:59.500Z"),
    ("timestamp", "1677-09-21T00:12:43.145224193Z", "1677-09-21T00:12:43.145224193Z"),
    ("timestamp", "1677-09-21T00:12:43.145224192Z", None),
    ("timestamp", "2262-04-11T23:47:16.854775807Z", "future"),
    ("timestamp", "2262-04-11T23:47:16.854775808Z", None),
    ("timestamp", "9999-12-31T23:59:59Z", None),
    ("timestamp", "0001-01-01", None),
    ("timestamp", "2024-02-29T24:00:00", "2024-03-01T00:00:00Z"),
    ("timestamp", "2024-02-29T24:00:01", None),
    ("timestamp", "NaN", None),
    ("timestamp", "", None),
    ("timestamp[s]", "0", "1970-01-01T00:00:00Z"),
    ("timestamp[s]", "-0.0", "1970-01-01T00:00:00Z"),
    ("timestamp[s]", "-1.000000001", "1969-12-31T23:59:58.999999999Z"),
    ("timestamp[s]", "NaN", None),
    ("timestamp[s]", "Infinity", None),
    ("timestamp[s]", "-Infinity", None),
    ("timestamp[s]", "1e999", None),
    ("timestamp[s]", "253402300799", None),
    ("timestamp[s]", "9223372036", "future"),
    ("timestamp[ms]", "1.5", None),
    ("timestamp[ms]", "9223372036854775807", None),
    ("timestamp[ns]", "9223372036854775807", "future"),
    ("timestamp[ns]", "-9223372036854775807", "1677-09-21T00:12:43.145224193Z"),
    ("timestamp[ns]", "-9223372036854775808", None),
]


@pytest.mark.parametrize(("type_", "text", "expected"), TIMES)
@pytest.mark.parametrize("format_", ["csv", "json"])
def test_event_times(ingest: Ingest, format_: str, type_: str, text: str, expected: str | None) -> None:
    schema = SCHEMA.replace("timestamp", type_, 1)
    data = HEADER + text.encode() + b",a,1\n"
    if format_ == "json":
        written = json.dumps(text or None) if type_ == "timestamp" else text
        data = b'{"ts":%s,"k":"a","v":1}\n' % written.encode()
    outcome = ingest(data, format_, schema=schema, time=True)
    assert (outcome.code, outcome.counts["rows"]) == (0, 1)
    assert [row["ts"] for row in outcome.rows] == ([expected] if expected not in (None, "future") else [])
    assert (outcome.counts["rejected"], outcome.counts["future"]) == (expected is None, expected == "future")
    windows = ingest(data, format_, schema=schema, time=True, window=True).rows
    assert [row["n"] for row in windows] == [1] * len(outcome.rows)
    assert all(row["window_start"] < row["window_end"] for row in windows)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"a,b\n1,2\n", "the header has no column 'ts'"),
        (b"ts,k,v,k\n", "the header names column 'k' 2 times"),
        (b"\xff\xfe\x00\n", "the header is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\0\0\0\n", "the header has no column 'ts'"),
        (b'"ts,k,v', "a quote in the header is not closed"),
        (LONG, "no end of the header in the first 1048576 bytes"),
    ],
)
def test_csv_whose_header_is_of_no_use(ingest: Ingest, data: bytes, told: str) -> None:
    outcome = ingest(data)
    assert outcome.code == 1 and told in outcome.err and outcome.rows == []


@pytest.mark.parametrize("format_", ["csv", "json", "lines"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_inputs_that_cannot_be_read(ingest: Ingest, tmp_path: Path, format_: str, suffix: str) -> None:
    schema = "" if format_ == "lines" else SCHEMA
    (tmp_path / f"folder{suffix}").mkdir()
    for name, told in [
        (f"missing{suffix}", "no such file"),
        (f"folder{suffix}", "is a directory, not a file"),
        (f"none-*{suffix}", "no file matches"),
        ("a\\u0000b", "NUL"),
    ]:
        outcome = ingest(None, format_, path=f"{tmp_path}/{name}", schema=schema)
        assert outcome.code == (2 if told == "NUL" else 1) and told in outcome.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("format_", ["csv", "json"])
def test_no_permission(ingest: Ingest, tmp_path: Path, format_: str) -> None:
    (tmp_path / "sealed").touch(mode=0)
    outcome = ingest(None, format_, path=str(tmp_path / "sealed"))
    assert outcome.code == 1 and "no permission to read it" in outcome.err


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
def test_archives_that_are_none(ingest: Ingest, tmp_path: Path, suffix: str) -> None:
    outcome = ingest(HEADER + CSV, path=str(tmp_path / f"in{suffix}"))
    assert outcome.code == 1 and "not valid" in outcome.err


def test_on_error_fail_names_the_record(
    ingest: Ingest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ingest(HEADER + CSV + b"oops\n")
    (tmp_path / "out").unlink()
    (tmp_path / "rejected").unlink()
    assert run_command(["run", str(tmp_path / "p.toml"), "--set", "sources.s.on_error=fail"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("error: s: ") and "in:3 (byte 22): expected 3 fields, found 1" in err


# -- the one-liner, which has to tell format and schema from the input ------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(BEGINNINGS),
    st.binary(max_size=200) | st.text(max_size=60).map(str.encode),
    st.sampled_from(["csv", "json", "lines", None]),
)
def test_any_bytes_at_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], head: bytes, rest: bytes, format_: str | None
) -> None:
    (tmp_path / "any").write_bytes(head + rest)
    code = run_command(
        ["agg", "n=count(*)", "--input", str(tmp_path / "any")] + (["--format", format_] if format_ else [])
    )
    out, err = capfd.readouterr()
    assert code in (0, 1, 2) and "Traceback" not in err and "bug in asyncflow" not in err
    assert (code == 0) == ("error: " not in err)
    if code == 0:
        assert len(out.splitlines()) <= 1 and all("n" in json.loads(line) for line in out.splitlines())
    else:
        assert "every record was rejected" in err or (
            out == "" and err.count("error: ") == len(err.splitlines())
        )


@pytest.mark.parametrize(
    ("data", "args", "code", "out"),
    [
        (b"", [], 0, b""),
        (b"a\n", [], 0, b""),
        (HEADER + CSV, [], 0, b'{"n":1}\n'),
        (JSON + JSON[:9], [], 0, b'{"n":1}\n'),
        (b"\xff\n\0\n", ["--format", "lines"], 0, b'{"n":1}\n'),
        (b"\xff" * 1000, [], 1, b""),
        (JSON + DEEP_ARRAYS + JSON, [], 0, b'{"n":2}\n'),
    ],
)
def test_standard_input(data: bytes, args: list[str], code: int, out: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "asyncflow", "agg", "n=count(*)", *args],
        input=data, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert b"Traceback" not in done.stderr and (code == 0) == (b"error: " not in done.stderr)
