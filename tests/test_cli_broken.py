"""Broken pipelines, one kind each: `asyncflow check` exits 2, shows no traceback, gives the TOML path and the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncflow.cli import run_command
from tests.broken_pipelines import assert_refused, check

GOOD = """
name = "sales-per-minute"

[sources.sales]
type = "file"
path = "sales.csv"
format = "csv"
schema = { ts = "timestamp[ms]", store = "string", qty = "int64", price = "float64" }
time = "ts"
watermark_delay = "5s"

[stages.sold]
type = "filter"
where = "qty > 0 AND store IS NOT NULL"

[stages.priced]
type = "derive"
columns = { revenue = "qty * price" }

[stages.per_minute]
type = "window"
window = { tumbling = "1m" }
by = ["store"]
aggregates = { orders = "count(*)", revenue = "sum(revenue)" }

[sinks.out]
type = "stdout"
format = "json"
"""

# what is replaced, by what, and what the error must name
BROKEN: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "not-toml": ('name = "sales-per-minute"', "name = ", ("not TOML", "line 2")),
    "unknown-top-key": ("[sinks.out]", "[sink.out]", ("sink:", "'sinks'")),
    "unknown-source-key": ('time = "ts"', 'tme = "ts"', ("sources.sales.tme", "'time'")),
    "unknown-connector-option": ('path = "sales.csv"', 'path = "sales.csv"\nfolow = true', ("sources.sales.folow", "'follow'")),
    "unknown-connector": ('type = "file"', 'type = "fiel"', ("sources.sales.type", "'fiel'", "'file'")),
    "connector-of-later": ('type = "file"', 'type = "kafka"', ("sources.sales.type", "not built yet")),
    "missing-type": ('type = "file"\n', "", ("sources.sales.type", "missing")),
    "missing-option": ('path = "sales.csv"\n', "", ("sources.sales.path", "missing")),
    "wrong-option-type": ('path = "sales.csv"', "path = 5", ("sources.sales.path", "text")),
    "unknown-format": ('format = "csv"', 'format = "cvs"', ("sources.sales.format", "'cvs'", "'csv'")),
    "unknown-format-option": (
        'format = "csv"',
        'format = { type = "csv", delimeter = ";" }', ("sources.sales.format.delimeter", "'delimiter'")),
    "wrong-format-option": (
        'format = "csv"',
        'format = { type = "csv", header = "yes" }', ("sources.sales.format.header", "true or false")),
    "format-for-sinks-only": ('format = "csv"', 'format = "table"', ("sources.sales.format", "'table'")),
    "share-beyond-one": (
        'revenue = "sum(revenue)"',
        'revenue = "quantile(revenue, 99)"', ("stages.per_minute.aggregates.revenue", "from 0 to 1, not 99", "quantile(x, 0.99)")),
    "number-of-the-top": (
        'revenue = "sum(revenue)"',
        'revenue = "approx_topk(store, 5000)"', ("stages.per_minute.aggregates.revenue", "'approx_top_k'")),
    "unknown-column-type": ('qty = "int64"', 'qty = "int46"', ("sources.sales.schema.qty", "'int64'")),
    "time-not-a-column": ('time = "ts"', 'time = "tss"', ("sources.sales.time", "'ts'")),
    "time-not-a-timestamp": ('time = "ts"', 'time = "qty"', ("sources.sales.time", "int64", "timestamp")),
    "bad-duration": ('watermark_delay = "5s"', 'watermark_delay = "5 sec"', ("sources.sales.watermark_delay", "5 sec", "1m30s")),
    "bad-size": ('time = "ts"', 'time = "ts"\nmax_record_bytes = "1 mega"', ("sources.sales.max_record_bytes", "1 mega", "16MiB")),
    "record-too-long": ('time = "ts"', 'time = "ts"\nmax_record_bytes = "4GiB"', ("sources.sales.max_record_bytes", "below 1GiB")),
    "folder-to-write": ('type = "stdout"', 'type = "file"\npath = "out/"', ("sinks.out", "not a folder", "'out/'")),
    "bad-choice": ('time = "ts"', 'time = "ts"\non_error = "ignore"', ("sources.sales.on_error", "ignore")),
    "unset-variable": ('path = "sales.csv"', 'path = "${NO_SUCH_VARIABLE_HERE}"', ("sources.sales.path", "NO_SUCH_VARIABLE_HERE")),
    "unknown-stage": ('type = "filter"', 'type = "filtre"', ("stages.sold.type", "'filter'")),
    "stage-of-later": ('type = "filter"', 'type = "pattern"', ("stages.sold.type", "'pattern'", "not built yet")),
    "unknown-stage-key": ("where = ", "were = ", ("stages.sold.were", "'where'", "stages.sold.where")),
    "expression-syntax": ('"qty > 0 AND store IS NOT NULL"', '"qty > "', ("stages.sold.where",)),
    "unknown-column": ('"qty * price"', '"qty * prize"', ("stages.priced.columns.revenue", "'prize'", "price")),
    "unknown-function": ('"qty * price"', '"rond(price)"', ("stages.priced.columns.revenue", "rond", "round")),
    "wrong-types": ('"qty * price"', '"store * price"', ("stages.priced.columns.revenue", "string")),
    "condition-not-bool": ('"qty > 0 AND store IS NOT NULL"', '"qty + 1"', ("stages.sold.where", "bool", "int64")),
    "unknown-by-column": ('by = ["store"]', 'by = ["stor"]', ("stages.per_minute.by.stor", "store")),
    "unknown-aggregate": ('"sum(revenue)"', '"summ(revenue)"', ("stages.per_minute.aggregates.revenue", "sum")),
    "column-outside-aggregate": ('"sum(revenue)"', '"revenue"', ("stages.per_minute.aggregates.revenue",)),
    "clashing-columns": ('orders = "count(*)"', 'store = "count(*)"', ("stages.per_minute.aggregates.store", "taken")),
    "clash-with-bounds": ('orders = "count(*)"', 'window_end = "count(*)"', ("stages.per_minute.aggregates.window_end", "taken")),
    "unknown-window": ('{ tumbling = "1m" }', '{ tumblin = "1m" }', ("stages.per_minute.window.tumblin", "'tumbling'")),
    "misspelt-session": ('{ tumbling = "1m" }', '{ sesion = "1m" }', ("stages.per_minute.window.sesion", "'session'")),
    "session-without-gap": ('{ tumbling = "1m" }', '{ session = "0s" }', ("stages.per_minute.window.session", "0s")),
    "session-with-offset": ('{ tumbling = "1m" }', '{ session = "1m", offset = "1s" }', ("stages.per_minute.window.offset", "unknown key")),
    "session-of-rows": ('{ tumbling = "1m" }', '{ session = "ten" }', ("stages.per_minute.window.session", "ten")),
    "count-of-nothing": ('{ tumbling = "1m" }', '{ count = 0 }', ("stages.per_minute.window.count", "at least 1 row")),
    "count-of-time": ('{ tumbling = "1m" }', '{ count = "1m" }', ("stages.per_minute.window.count", "number of rows")),
    "two-kinds-of-window": ('{ tumbling = "1m" }', '{ session = "1m", count = 5 }', ("stages.per_minute.window", "session or count")),
    "every-longer-than-window": ('{ tumbling = "1m" }', '{ hopping = "1m", every = "2m" }', ("stages.per_minute.window.every", "2m", "1m")),
    "window-of-nothing": ('{ tumbling = "1m" }', '{ tumbling = "0s" }', ("stages.per_minute.window.tumbling", "0s")),
    "message-window-on-a-file": ('{ tumbling = "1m" }', '"message"', ("stages.per_minute.window", "'sales'", "messages")),
    "cumulate-not-a-multiple": (
        '{ tumbling = "1m" }',
        '{ cumulate = "1d", every = "7h" }', ("stages.per_minute.window.every", "1d", "multiple", "7h")),
    "cumulate-without-every": ('{ tumbling = "1m" }', '{ cumulate = "1d" }', ("stages.per_minute.window.every", "missing")),
    "cumulate-mistyped": ('{ tumbling = "1m" }', '{ cumulte = "1d", every = "1h" }', ("stages.per_minute.window.cumulte", "'cumulate'")),
    "lateness-not-a-duration": (
        'by = ["store"]',
        'by = ["store"]\nallowed_lateness = "5 sec"', ("stages.per_minute.allowed_lateness", "5 sec")),
    "lateness-below-zero": (
        'by = ["store"]',
        'by = ["store"]\nallowed_lateness = "-5s"', ("stages.per_minute.allowed_lateness", "negative")),
    "lateness-of-all-rows": (
        'window = { tumbling = "1m" }',
        'allowed_lateness = "5s"', ("stages.per_minute.allowed_lateness", "fixed time", "tumbling")),
    "emit-of-all-rows": ('window = { tumbling = "1m" }', 'emit = "updates"', ("stages.per_minute.emit", "fixed time")),
    "emit-mistyped": ('by = ["store"]', 'by = ["store"]\nemit = "update"', ("stages.per_minute.emit", "'update'", "'updates'")),
    "emit-of-another-type": ('by = ["store"]', 'by = ["store"]\nemit = 5', ("stages.per_minute.emit", "text")),
    "emit-key-mistyped": ('by = ["store"]', 'by = ["store"]\nemit = { evry = "5s" }', ("stages.per_minute.emit.evry", "every")),
    "emit-all-the-time": ('by = ["store"]', 'by = ["store"]\nemit = { every = "0s" }', ("stages.per_minute.emit.every", "0s")),
    "clash-with-revisions": (
        'aggregates = { orders = ',
        'emit = "updates"\naggregates = { final = ', ("stages.per_minute.aggregates.final", "taken", "revisions")),
    "window-over-revisions": (
        'revenue = "sum(revenue)" }',
        'revenue = "sum(revenue)" }\nemit = "updates"\n[stages.per_hour]\ntype = "window"\naggregates = { n = "sum(orders)" }',
        ("stages.per_hour.inputs", "'per_minute'", 'where = "final"')),
    "unknown-input": ('type = "filter"', 'type = "filter"\ninputs = ["sale"]', ("stages.sold.inputs", "'sale'", "'sales'")),
    "unknown-side-output": ('format = "json"', 'format = "json"\ninputs = ["sales.rejcted"]', ("sinks.out.inputs", "'sales.rejected'")),
    "reading-a-sink": ('type = "filter"', 'type = "filter"\ninputs = ["out"]', ("stages.sold.inputs", "'out'", "sink")),
    "cycle": ('type = "filter"', 'type = "filter"\ninputs = ["per_minute"]', ("stages.sold.inputs", "cycle")),
    "union-of-different-columns": ('format = "json"', 'format = "json"\ninputs = ["sold", "per_minute"]', ("sinks.out.inputs", "union")),
    "name-taken-twice": ("[sinks.out]", "[sinks.sales]", ("sinks.sales", "taken")),
    "bad-table-name": ("[stages.sold]", '[stages."so-ld"]', ("stages.so-ld", "name")),
    "no-sink": ('[sinks.out]\ntype = "stdout"\nformat = "json"\n', "", ("sinks:", "no sink")),
    "unknown-sink": ('type = "stdout"', 'type = "stdut"', ("sinks.out.type", "'stdout'")),
    "sink-format": ('format = "json"', 'format = "jsn"', ("sinks.out.format", "'json'")),
    "sources-not-tables": ("[sources.sales]", "[sources]\nsales = 5\n[sources.more]", ("sources.sales", "table")),
}  # fmt: skip


def test_the_pipeline_they_are_made_from_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(GOOD, tmp_path) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_pipeline_is_told(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, told = BROKEN[kind]
    assert old in GOOD
    assert_refused(GOOD.replace(old, new, 1), told, tmp_path, capsys)


@pytest.mark.parametrize("kind", [k for k in BROKEN if k not in ("not-toml",)])
def test_run_does_not_start_on_a_broken_pipeline(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, _ = BROKEN[kind]
    path = tmp_path / "pipeline.toml"
    path.write_text(GOOD.replace(old, new, 1).replace("sales.csv", str(tmp_path / "not-there.csv")))
    assert run_command(["run", str(path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_all_problems_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD
    for kind in (
        "unknown-source-key",
        "bad-duration",
        "unknown-column",
        "unknown-window",
        "sink-format",
        "condition-not-bool",
    ):
        text = text.replace(*BROKEN[kind][:2], 1)
    assert check(text, tmp_path) == 2
    err = capsys.readouterr().err
    for path in (
        "sources.sales.tme", "sources.sales.watermark_delay", "stages.priced.columns.revenue",
        "stages.per_minute.window.tumblin", "sinks.out.format", "stages.sold.where",
    ):  # fmt: skip
        assert path in err


def test_one_mistake_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What hangs on a table that could not be read is not blamed too."""
    assert check(GOOD.replace('qty = "int64"', 'qty = "int46"'), tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert check(GOOD.replace("qty * price", "qty * "), tmp_path) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[[sources]]", b"sources = 3", b"\x00", b"[stages.x]\n"]
)
def test_files_that_are_no_pipelines(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_bytes(content)
    assert run_command(["check", str(path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing.toml", ".", "a\0b"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", str(tmp_path / name)]) == 2
    assert "Traceback" not in capsys.readouterr().err
