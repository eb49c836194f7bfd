"""The NDJSON kernel against its twin, and the twin against Python's own json."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncflow._kernels.json import compiled
from asyncflow._kernels.json import reference as twin

TYPES = ["bool", "int64", "float64", "string", "timestamp"] + [
    f"timestamp[{u}]" for u in ("s", "ms", "us", "ns")
]
NAMES = ["a", "b", "a.b", "a.b.c", "b.c", "é", "k"]
Columns = list[tuple[str, str, bool]]


def block(data: bytes) -> Any:
    return np.frombuffer(bytearray(data), np.uint8)


def decode(
    kernel: Any, data: bytes, columns: Columns, max_bytes: int = 1 << 20, max_rejects: int | None = None
) -> Any:
    """What a kernel makes of ``data``, as plain values: floats as their bits, text as bytes, null as None."""
    names, types, required = zip(*columns, strict=True) if columns else ((), (), ())
    result = kernel.Decoder(names, types, required, max_bytes, max_rejects).decode(block(data))
    rows, lines, arrays, rejected, rejects = result
    decoded = []
    for type_, column in zip(types, arrays, strict=True):
        *values, valid = column
        if type_ == "string":
            raw, starts, lengths = (array.tolist() for array in values)
            plain = [
                bytes(raw[start : start + length]) for start, length in zip(starts, lengths, strict=True)
            ]
        else:
            assert values[0].dtype == {"bool": np.bool_, "float64": np.float64}.get(type_, np.int64)
            plain = (values[0].view(np.int64) if type_ == "float64" else values[0]).tolist()
        assert len(plain) == rows
        assert valid is None or (len(valid) == rows and not valid.all())
        decoded.append([v if valid is None or valid[row] else None for row, v in enumerate(plain)])
    return rows, lines, decoded, rejected, rejects.tolist()


def assert_twins_agree(data: bytes, columns: Columns, max_bytes: int = 1 << 20) -> Any:
    expected = decode(twin, data, columns, max_bytes)
    assert decode(compiled, data, columns, max_bytes) == expected
    return expected


def bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


# -- records as text, written in every way that JSON allows ---------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "a.b", "b.c", "é", "k", "", "x"])
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.integers(-999, 999).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z"),
    st.sampled_from(["-0", "-0.0", "1e999", "-1e999", "1.0", "1e3", "12e-1", "1200e-2", "0e99999", "1e-400", "NaN", "Infinity",
                     "-Infinity", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "922337203685477580.7e1"]),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["12", " 7 ", "-1.5", "true", "F", "NaN", "Infinity", "inf", "", " ", "2023-11-14T22:13:20Z",
                     "2023-11-14T22:13:20.123456789+01:00", "2023-02-29", "9999-12-31", "1969-12-31 23:59", "\ud800", "\U0001f600"]),
)  # fmt: skip


@st.composite
def json_text(draw: st.DrawFn, text: str) -> str:
    """A string in quotes, each letter plain or escaped in one of the ways there are."""
    how = draw(st.sampled_from(["plain", "ascii", "mixed"]))
    if how == "plain" and not any("\ud800" <= letter <= "\udfff" for letter in text):
        return json.dumps(text, ensure_ascii=False)
    written = json.dumps(text)
    if how == "mixed":
        written = written.replace("/", "\\/").replace("e", "\\u0065").replace("1", "\\u0031")
        if draw(st.booleans()):
            written = written.replace("\\u0065", "\\u0065".upper().replace("\\U", "\\u"))
    return written


@st.composite
def json_value(draw: st.DrawFn, depth: int = 0) -> str:
    kind = draw(st.integers(0, 5 if depth < 3 else 2))
    if kind == 0:
        return draw(NUMBERS)
    if kind == 1:
        return draw(json_text(draw(TEXTS)))
    if kind == 2:
        return draw(st.sampled_from(["null", "true", "false"]))
    if kind == 3:
        return draw(json_object(depth + 1))
    inner = draw(st.lists(json_value(depth + 1), max_size=3))
    return "[" + draw(SPACES) + ",".join(item + draw(SPACES) for item in inner) + "]"


SPACES = st.sampled_from(["", "", "", " ", "\t", " \r "])


@st.composite
def json_object(draw: st.DrawFn, depth: int = 0) -> str:
    members = []
    for _ in range(draw(st.integers(0, 5))):
        key = draw(json_text(draw(KEYS)))
        members.append(
            f"{draw(SPACES)}{key}{draw(SPACES)}:{draw(SPACES)}{draw(json_value(depth))}{draw(SPACES)}"
        )
    return "{" + (",".join(members) or draw(SPACES)) + "}"


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    """Records, some many times over, so that layouts are learned, left and met again."""
    shapes = draw(st.lists(st.one_of(json_object(), st.just(""), st.just(" \r")), min_size=1, max_size=4))
    order = draw(st.lists(st.integers(0, len(shapes) - 1), max_size=30))
    lines = [shapes[i] for i in order]
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    return (ending.join(lines) + draw(st.sampled_from(["", ending]))).encode("utf-8", "surrogatepass")


COLUMNS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(TYPES), st.booleans()),
    max_size=6,
    unique_by=lambda column: column[0],
)


@settings(max_examples=250, deadline=None)
@given(json_lines(), COLUMNS)
def test_twins_agree_on_records(data: bytes, columns: Columns) -> None:
    assert_twins_agree(data, columns)


@settings(max_examples=250, deadline=None)
@given(
    json_lines(),
    COLUMNS,
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3)), max_size=6),
)
def test_twins_agree_on_damaged_records(
    data: bytes, columns: Columns, damage: list[tuple[int, bytes, int]]
) -> None:
    for at, inserted, removed in damage:
        at %= len(data) + 1
        data = data[:at] + inserted + data[at + removed :]
    assert_twins_agree(data, columns, max_bytes=120)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300), st.text('{}[]",:\\ \n\r0123eE+-.aubtrflsn', max_size=300).map(str.encode)
    ),
    COLUMNS,
)
def test_twins_agree_on_garbage(data: bytes, columns: Columns) -> None:
    assert_twins_agree(data, columns)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(NUMBERS, TEXTS.flatmap(json_text)), min_size=12, max_size=60),
    st.sampled_from(TYPES),
    st.sampled_from(TYPES),
    st.integers(0, 40),
)
def test_twins_agree_on_values_of_one_layout(
    values: list[tuple[str, str]], first: str, second: str, padding: int
) -> None:
    pad = "x" * padding
    lines = [f'{{"a":{number},"pad":"{pad}","b":{{"c":{text}}}}}' for number, text in values]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    assert_twins_agree(data, [("a", first, False), ("b.c", second, False)])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=6).filter(lambda key: "." not in key),
            st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text()),
            max_size=5,
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_valid_records_mean_what_python_reads(records: list[dict[str, Any]], ascii_only: bool) -> None:
    types = {type(None): "int64", bool: "bool", int: "int64", float: "float64", str: "string"}
    for kernel in (compiled, twin):
        for record in records:
            line = json.dumps(record, ensure_ascii=ascii_only).encode()
            columns = [(name, types[type(value)], False) for name, value in json.loads(line).items()]
            rows, _, decoded, _, _ = decode(kernel, line, columns)
            assert rows == 1
            for value, column in zip(json.loads(line).values(), decoded, strict=True):
                expected = (
                    value.encode()
                    if isinstance(value, str)
                    else bits(value)
                    if isinstance(value, float)
                    else value
                )
                assert column == [expected]


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        json_object(),
        json_value(),
        st.text('{}[]",:\\ 01eE+-.u', max_size=40).map(lambda text: '{"a":' + text + "}"),
    )
)
@example('{"a":01}')
@example('{"a":1.}')
@example('{"a":.5}')
@example('{"a":+1}')
@example('{"a":-}')
@example('{"a":1e}')
@example('{"a":"\\x"}')
@example('{"a":"\\u12g4"}')
@example('{"a":nul}')
@example('{"a":nan}')
@example('{"a":-NaN}')
@example('{"a" 1}')
@example('{"a":1,}')
@example('{,"a":1}')
@example('{"a":[1,]}')
@example('{"a":[1}')
@example('{"a":1}}')
@example('{"a":1} x')
@example("{a:1}")
@example('{"a":"\t"}')
@example('{"a":1')
@example('{"a')
@example('{"a\\')
def test_accepts_what_python_accepts(text: str) -> None:
    line = text.encode("utf-8", "surrogatepass")
    try:
        record = json.loads(line.decode())
    except ValueError:
        record = None
    rows, *_ = assert_twins_agree(line, [])
    if "\v" not in text and "\f" not in text:
        assert rows == isinstance(record, dict)


# -- cases by hand ----------------------------------------------------------------------------------------------------


def one(line: str | bytes, name: str, type_: str) -> Any:
    """The value of one record's column; the reason where it is rejected."""
    data = line if isinstance(line, bytes) else line.encode()
    rows, _, columns, rejected, rejects = assert_twins_agree(data, [(name, type_, False)])
    assert rows + rejected == 1
    return columns[0][0] if rows else ("rejected", rejects[0][4])


BAD = ("rejected", compiled.BAD_VALUE)


@pytest.mark.parametrize(
    ("line", "type_", "expected"),
    [
        ('{"a":7}', "int64", 7),
        ('{"a":1.0}', "int64", 1),
        ('{"a":1e3}', "int64", 1000),
        ('{"a":-0.0}', "int64", 0),
        ('{"a":12.50e1}', "int64", 125),
        ('{"a":9223372036854775807.0}', "int64", 2**63 - 1),
        ('{"a":9223372036854775808}', "int64", BAD),
        ('{"a":-9223372036854775808}', "int64", -(2**63)),
        ('{"a":1e19}', "int64", BAD),
        ('{"a":1.5}', "int64", BAD),
        ('{"a":"12"}', "int64", 12),
        ('{"a":"\\u0031\\u0032"}', "int64", 12),
        ('{"a":"1.0"}', "int64", BAD),
        ('{"a":""}', "int64", BAD),
        ('{"a":true}', "int64", BAD),
        ('{"a":[1]}', "int64", BAD),
        ('{"a":NaN}', "int64", BAD),
        ('{"a":null}', "int64", None),
        ("{}", "int64", None),
        ('{"a":1e999}', "float64", bits(math.inf)),
        ('{"a":-0.0}', "float64", bits(-0.0)),
        ('{"a":-Infinity}', "float64", bits(-math.inf)),
        ('{"a":"NaN"}', "float64", bits(math.nan)),
        ('{"a":"-Infinity"}', "float64", bits(-math.inf)),
        ('{"a":"x"}', "float64", BAD),
        ('{"a":{}}', "float64", BAD),
        ('{"a":true}', "bool", True),
        ('{"a":"false"}', "bool", False),
        ('{"a":1}', "bool", BAD),
        ('{"a":"\\ud83d\\ude00"}', "string", "\U0001f600".encode()),
        ('{"a":"\\ud83d"}', "string", BAD),
        ('{"a":"\\ude00\\ud83d"}', "string", BAD),
        ('{"a":"\\ud83d\\u0041"}', "string", BAD),
        ('{"b":"\\ud83d","a":"x"}', "string", b"x"),
        ('{"a":""}', "string", b""),
        ('{"a":"\\u0000"}', "string", b"\0"),
        ('{"a":1.50}', "string", b"1.50"),
        ('{"a":NaN}', "string", b"NaN"),
        ('{"a":true}', "string", b"true"),
        ('{"a":[1, {"b" :"\\n"}]}', "string", b'[1, {"b" :"\\n"}]'),
        ('{"a":1700000000000}', "timestamp[ms]", 1_700_000_000_000_000_000),
        ('{"a":1.7e12}', "timestamp[ms]", 1_700_000_000_000_000_000),
        ('{"a":1.5}', "timestamp[s]", 1_500_000_000),
        ('{"a":1.5}', "timestamp[ms]", BAD),
        ('{"a":1e300}', "timestamp[s]", BAD),
        ('{"a":NaN}', "timestamp[s]", BAD),
        ('{"a":"1970-01-01T00:00:01Z"}', "timestamp", 1_000_000_000),
        ('{"a":"1970-01-01T00\\u003a00:01Z"}', "timestamp", 1_000_000_000),
        ('{"a":"1969-12-31"}', "timestamp", -86_400_000_000_000),
        ('{"a":"9999-12-31"}', "timestamp", BAD),
        ('{"a":""}', "timestamp", BAD),
        ('{"a":5}', "timestamp", BAD),
        ('{"a":1,"a":2}', "int64", 2),
        ('{"a":"x","a":2}', "int64", 2),
        ('{"a":2,"a":null}', "int64", None),
        ('{"a":2,"a":"x"}', "int64", BAD),
        ('{"\\u0061":2}', "int64", 2),
    ],
)
def test_values(line: str, type_: str, expected: Any) -> None:
    assert one(line, "a", type_) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"a":{"b":1}}', 1),
        ('{"a.b":1}', 1),
        ('{"a":{"b":1},"a.b":2}', 2),
        ('{"a":{"b":1},"a":{"c":2}}', None),
        ('{"a":{"b":1},"a":5}', None),
        ('{"a":[{"b":1}]}', None),
        ('{"a":null}', None),
        ('{"x":{"a":{"b":1}}}', None),
    ],
)
def test_paths(line: str, expected: Any) -> None:
    assert one(line, "a.b", "int64") == expected


def test_raw_text_of_an_object_and_text_inside_it() -> None:
    columns = [("a", "string", False), ("a.b", "string", False), ("a.b.c", "string", False)]
    data = b'{"a":{"b":{"c":"\\n"}}}\n{"a":"\\t"}\n{"a":{"b":"\\r"}}\n' * 3
    _, _, decoded, _, _ = assert_twins_agree(data, columns)
    assert decoded[0][:3] == [b'{"b":{"c":"\\n"}}', b"\t", b'{"b":"\\r"}']
    assert decoded[1][:3] == [b'{"c":"\\n"}', None, b"\r"]
    assert decoded[2][:3] == [b"\n", None, None]


def test_depth_has_a_limit_and_costs_no_stack() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert one(nested(1000), "x", "int64") is None
    assert one(nested(1001), "x", "int64") == ("rejected", compiled.TOO_DEEP)
    assert one(b'{"a":' * 100_000, "a", "string") == ("rejected", compiled.TOO_DEEP)
    known = (
        b'{"k":1,"a":[]}\n' * 40
        + b'{"k":1,"a":'
        + b"[" * 999
        + b"]" * 999
        + b"}\n"
        + b'{"k":1,"a":[]}\n' * 40
    )
    assert assert_twins_agree(known, [("k", "int64", False)])[0] == 81
    known = known.replace(b"[[", b"[[[", 1).replace(b"]]", b"]]]", 1)
    assert assert_twins_agree(known, [("k", "int64", False)])[3] == 1


def test_reasons_of_whole_records() -> None:
    data = b'{"a":1}\n[1]\n \r\n{"a":\xff}\n"x"\n{"a":"' + b"y" * 40 + b'"}\n{"a":1\n"}\n\x00\n{"a":"\x7f"}'
    rows, lines, _, rejected, rejects = assert_twins_agree(data, [("x", "int64", False)], max_bytes=30)
    assert (rows, lines, rejected) == (2, 10, 7)
    k = compiled
    expected = [(1, k.NOT_OBJECT), (3, k.BAD_UTF8), (4, k.NOT_OBJECT), (5, k.TOO_LONG), (6, k.MALFORMED)]
    expected += [(7, k.NOT_OBJECT), (8, k.NOT_OBJECT)]
    assert [(reject[0], reject[4]) for reject in rejects] == expected
    assert [reject[3] for reject in rejects] == [1] * 7


def test_required_columns() -> None:
    data = b'{"a":1}\n{}\n{"a":null,"b":"x"}\n{"b":"y"}\n{"a":2}\n'
    for columns in ([("a", "int64", True)], [("b", "string", True), ("a", "int64", True)]):
        assert_twins_agree(data, columns)
    _, _, decoded, rejected, rejects = assert_twins_agree(data, [("a", "int64", True)])
    assert decoded == [[1, 2]]
    assert rejected == 3 and [reject[3:6] for reject in rejects] == [[1, compiled.NO_VALUE, 0]] * 3


def test_only_so_many_rejects_are_described() -> None:
    data = b"x\n" * 5000
    for kernel in (compiled, twin):
        _, _, _, rejected, rejects = decode(kernel, data, [], max_rejects=8)
        assert rejected == 5000 and [reject[0] for reject in rejects] == list(range(8))


def test_one_decoder_may_decode_many_blocks() -> None:
    decoder = compiled.Decoder(["a"], ["string"], [False], 1 << 20)
    first, second = block(b'{"a":"\\n1"}\n' * 2000), block(b'{"b":0}\n' * 50)
    assert decoder.decode(first)[0] == 2000 and decoder.decode(second)[0] == 50
    assert decoder.decode(first[:0])[:2] == (0, 0)


def test_threads_share_a_decoder() -> None:
    decoders = [compiled.Decoder([name], ["int64"], [False], 1 << 20) for name in ("a", "b")]
    blocks = [block(b"".join(b'{"a":%d,"b":%d}\n' % (i, -i) for i in range(5000))) for _ in range(8)]

    def total(at: int) -> int:
        return int(decoders[at % 2].decode(blocks[at])[2][0][0].sum())

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            totals = list(pool.map(total, range(8)))
            assert totals == [12_497_500, -12_497_500] * 4


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="unique"):
        compiled.Decoder(["a", "a"], ["int64"] * 2, [False] * 2, 1)
    with pytest.raises(UnicodeEncodeError):
        compiled.Decoder(["\ud800"], ["int64"], [False], 1)
    with pytest.raises(KeyError):
        compiled.Decoder(["a"], ["int32"], [False], 1)


# -- many layouts, and every instruction-set level ---------------------------------------------------------------------


def mixed_records(seed: int, count: int) -> bytes:
    """Records in changing orders and spacings, with escapes, nulls, nesting, misfits, broken and over-long lines."""
    rng = random.Random(seed)
    lines = []
    for _ in range(count):
        fields = {
            "ts": rng.choice(
                [1_700_000_000_000 + rng.randrange(10**6), "1700000000000", None, "soon", 1.7e12]
            ),
            "key": rng.choice(
                ["k", "é", 'a"b\\', "x" * rng.randrange(90), "\U0001f600", rng.randrange(10**6), None]
            ),
            "value": rng.choice([rng.randrange(-1000, 1000) / 100, rng.random(), 10**30, "NaN", True, -0.0]),
            "at": rng.choice(["2023-11-14T22:13:20Z", "2023-11-14T22:13:20.5+02:00", "never", ""]),
            "meta": rng.choice(
                [{"a": [1, 2, {"ts": 5}], "b": None, "c": "}"}, {"n": {"x": rng.randrange(9)}}, [], 4]
            ),
            "flag": rng.choice([True, False, None]),
        }
        names = list(fields)
        turn = rng.randrange(len(names))
        names = names[turn:] + names[:turn]
        names = [name for name in names if rng.random() > 0.1]
        separators = rng.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")])
        line = json.dumps(
            {name: fields[name] for name in names}, ensure_ascii=rng.random() < 0.5, separators=separators
        )
        if rng.random() < 0.05:
            at = rng.randrange(len(line) + 1)
            line = (
                line[:at]
                + rng.choice(["", '"', "\\", "{", "\n", "\x01", "9" * 300])
                + line[at + rng.randrange(3) :]
            )
        lines.append(line + rng.choice(["", "", "", " ", "\r"]))
    return "\n".join(lines).encode()


MIXED: Columns = [
    ("ts", "timestamp[ms]", True),
    ("key", "string", False),
    ("value", "float64", False),
    ("at", "timestamp", False),
    ("meta.n.x", "int64", False),
    ("flag", "bool", False),
    ("meta.c", "string", False),
]


def test_twins_agree_on_many_layouts() -> None:
    rows, lines, _, rejected, _ = assert_twins_agree(mixed_records(1, 3000), MIXED, max_bytes=400)
    assert rows > 500 and rejected > 100 and lines > 3000


def test_twins_agree_where_layouts_never_repeat() -> None:
    lines = [json.dumps({f"x{number}{i}": i for i in range(4)} | {"a": number}) for number in range(1500)]
    lines += [json.dumps({"a": number}) for number in range(100)]
    assert assert_twins_agree("\n".join(lines).encode(), [("a", "int64", False)])[0] == 1600


def test_twins_agree_on_wide_records() -> None:
    for width in (100, 600):
        record = json.dumps({f"column_{i}": i for i in range(width)}).encode()
        columns: Columns = [(f"column_{i}", "int64", False) for i in range(0, width, 3)]
        assert assert_twins_agree((record + b"\n") * 12, columns)[0] == 12


def test_twins_agree_over_several_tiles() -> None:
    record = b'{"a":%d,"s":"\\t%d","pad":"' + b"p" * 60 + b'"}\n'
    data = b"".join(
        b"{}\n" if i % 700 == 3 else b"bad\n" if i % 900 == 5 else record % (i, i) for i in range(3000)
    )
    assert_twins_agree(data, [("a", "int64", True), ("s", "string", False)])


PROBE = """
import hashlib
from tests.kernels.test_json_decode import MIXED, compiled, decode, mixed_records
results = [decode(compiled, mixed_records(seed, 400), MIXED, 400) for seed in range(5)]
print(hashlib.sha256(repr(results).encode()).hexdigest())
"""


def test_every_level_gives_the_same() -> None:
    digests = {}
    for level in ("portable", "v2", "v3", "v4"):
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            env={**os.environ, "ASYNCFLOW_CPU": level},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        if "ImportError" in done.stderr:
            continue  # this machine does not have it
        assert done.returncode == 0, done.stderr
        digests[level] = done.stdout
    assert len(digests) >= 1 and len(set(digests.values())) == 1, digests


def test_twins_agree_on_wide_records_of_misfits() -> None:
    """Every value of many columns is one that its column's loop does not take."""
    columns: Columns = [(f"c{i}", ("int64", "string", "float64")[i % 3], False) for i in range(60)]
    lines = []
    for row in range(40):
        values = {f"c{i}": f'{row}\\"' if i % 3 == 1 else str(row) for i in range(60)}
        lines.append(json.dumps(values | ({"c57": "x"} if row % 7 == 3 else {})))
    assert assert_twins_agree("\n".join(lines).encode(), columns)[:2] == (34, 40)
