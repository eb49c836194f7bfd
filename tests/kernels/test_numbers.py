"""Numbers and times as text to values, exactly: the CSV and JSON kernels and their twins against Python's own float, int and datetime.

Each list of texts is one block, so a value is met by the fast loops and by what these leave over; the oracles share no code with the
twins.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import asyncflow._kernels as kernels
from asyncflow._kernels.csv import compiled as compiled_csv
from asyncflow._kernels.csv import reference as twin_csv
from asyncflow._kernels.json import compiled as compiled_json
from asyncflow._kernels.json import reference as twin_json
from asyncflow._kernels.numbers import powers
from asyncflow._kernels.spans import compiled as compiled_spans
from asyncflow._kernels.spans import reference as reference_spans

WRONG, BEYOND = "wrong", "beyond int64"
MIN, MAX = -(2**63), 2**63 - 1
Read = Callable[[str, list[str]], list[Any]]


def merged(column: tuple[Any, ...], rejected: dict[int, str], count: int) -> list[Any]:
    """A value or a reason for each text; floats as their bits."""
    values = column[0].view(np.uint64) if column[0].dtype == np.float64 else column[0]
    good = iter(values.tolist())
    result = [rejected[row] if row in rejected else next(good) for row in range(count)]
    assert next(good, None) is None
    return result


def through_csv(kernel: Any, type_: str, texts: list[str]) -> list[Any]:
    plan = kernel.Plan(
        delimiter=ord(","), quote=ord('"'), null_text=b"", max_record_bytes=1 << 20, fields=2,
        columns=[(0, type_, True)], rejects_kept=2**62,
    )  # fmt: skip
    block = np.frombuffer(bytearray("".join(f"{text},x\n" for text in texts).encode()), np.uint8)
    _, lines, _, rejects, arrays = plan.decode(block)
    assert lines == len(texts)
    reasons = {reject[0]: BEYOND if reject[4] == 2 else WRONG for reject in rejects}
    return merged(arrays[0], reasons, len(texts))


def through_json(kernel: Any, written: str, type_: str, texts: list[str]) -> list[Any]:
    decoder = kernel.Decoder(("a",), (type_,), (True,), 1 << 20, None)
    lines = "".join(f'{{"a":{written % text},"b":1}}\n' for text in texts)
    _, count, arrays, _, rejects = decoder.decode(np.frombuffer(bytearray(lines.encode()), np.uint8))
    assert count == len(texts)
    return merged(arrays[0], dict.fromkeys(rejects[:, 0].tolist(), WRONG), len(texts))


def readers(*, json_numbers: bool) -> dict[str, Read]:
    """By name, every way from text to a value; JSON numbers only where the texts are such."""
    found: dict[str, Read] = {}
    for which, csv, json in (("kernel", compiled_csv, compiled_json), ("twin", twin_csv, twin_json)):
        found[f"csv {which}"] = lambda type_, texts, csv=csv: through_csv(csv, type_, texts)
        found[f"json text {which}"] = lambda *a, json=json: through_json(json, '"%s"', *a)
        if json_numbers:
            found[f"json number {which}"] = lambda *a, json=json: through_json(json, "%s", *a)
    return found


def check(
    type_: str, texts: list[str], expected: list[Any], *, json_numbers: bool, twins: bool = True
) -> None:
    for name, read in readers(json_numbers=json_numbers).items():
        if "twin" in name and not twins:
            continue
        got = read(type_, texts)
        told = expected if name.startswith("csv") else [WRONG if e == BEYOND else e for e in expected]
        wrong = [
            (text, value, want) for text, value, want in zip(texts, got, told, strict=True) if value != want
        ]
        assert not wrong, (name, type_, wrong[:5])


# -- floats ----------------------------------------------------------------------------------------------------------------


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def from_bits(pattern: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", pattern))[0])


def check_floats(texts: Iterable[str], *, json_numbers: bool = True, twins: bool = True) -> None:
    listed = list(texts)
    check("float64", listed, [bits(float(t)) for t in listed], json_numbers=json_numbers, twins=twins)


def halfway(low: float) -> str:
    """What lies just between a positive double and the next one, in full: up to 767 digits."""
    high = np.nextafter(low, np.inf)
    with localcontext(prec=1100):
        middle = (Decimal(low) + Decimal(float(high))) / 2
        return f"{middle:f}" if abs(middle.adjusted()) < 40 else f"{middle:E}"


def beside(text: str) -> list[str]:
    """A half-way text, and the least bit above and below it, which must round differently."""
    mantissa, _, exponent = text.partition("E")
    tail = f"E{exponent}" if exponent else ""
    point = mantissa if "." in mantissa else f"{mantissa}.0"
    head, last = point[:-1], point[-1]
    return [text, f"{point}00001{tail}", f"{point}{'0' * 900}1{tail}"] + (
        [f"{head}{int(last) - 1}{'9' * 30}{tail}"] if last != "0" else []
    )


JSON_NUMBER = st.from_regex(r"\A-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?\Z")
LOOSE_NUMBER = st.from_regex(r"\A[+-]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,4})?\Z")
POSITIVE = st.floats(min_value=0, max_value=1.7e308)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False).map(repr) | JSON_NUMBER, min_size=1, max_size=40
    )
)
@example(
    [
        "1e999",
        "-1e999",
        "-0.0",
        "-0",
        "0e999",
        "-0e-999",
        "1e-400",
        "4.9e-324",
        "2.47e-324",
        "2.4703282292062328e-324",
    ]
)
@example(
    ["1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "2.2250738585072011e-308"]
)
@example(
    [
        "9007199254740993",
        "9007199254740992.9999999999999999",
        "1" + "0" * 308,
        "1" + "0" * 309,
        "0." + "0" * 400 + "1",
    ]
)
def test_floats_are_those_of_python(texts: list[str]) -> None:
    check_floats(texts)


@settings(max_examples=150, deadline=None)
@given(st.lists(LOOSE_NUMBER, min_size=1, max_size=40))
@example([" 1.5 ", "\t-2e3", "5.", ".5", "+7", "007.10", "inf", "-Infinity", "+inf"])
def test_floats_written_in_ways_that_json_numbers_are_not(texts: list[str]) -> None:
    escaped = [text.replace("\t", " ") for text in texts]  # a bare tab is no JSON text
    check_floats(escaped, json_numbers=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(POSITIVE, min_size=1, max_size=8))
@example([0.0, from_bits(1), from_bits(2**52 - 1), 2.2250738585072014e-308, 9007199254740992.0, 1e22, 1e23])
def test_half_way_cases_round_to_even_and_their_neighbours_do_not(lows: list[float]) -> None:
    check_floats(text for low in lows for text in beside(halfway(low)))


def test_many_floats() -> None:
    rng = random.Random(5)
    doubles = [abs(from_bits(rng.getrandbits(64))) for _ in range(20_000)]
    doubles = [value for value in doubles if value < float("inf")]
    subnormals = [from_bits(rng.getrandbits(rng.randint(1, 52))) for _ in range(5_000)]
    check_floats(map(repr, doubles + subnormals), twins=False)
    check_floats((f"{value:.17e}" for value in doubles + subnormals), twins=False)
    check_floats((f"{rng.getrandbits(100)}e{rng.randint(-360, 320)}" for _ in range(20_000)), twins=False)
    check_floats((f"{rng.randint(0, 10**9) / 1000:.3f}" for _ in range(20_000)), twins=False)
    halves = [halfway(value) for value in rng.sample(doubles, 1_000) + subnormals[:200]]
    check_floats((text for half in halves for text in beside(half)), twins=False)


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "+NAN"])
def test_not_a_number_is_a_value(text: str) -> None:
    for read in readers(json_numbers=False).values():
        assert np.isnan(from_bits(read("float64", [text])[0]))


NO_FLOATS = [
    "-",
    "+",
    ".",
    "e5",
    "1e",
    "1e+",
    "--1",
    "1.2.3",
    "1,5",
    "0x10",
    "1_000",
    "1 2",
    "infin",
    "nan(1)",
    "1d5",
    "١",
]


def test_what_is_no_float() -> None:
    check("float64", NO_FLOATS, [WRONG] * len(NO_FLOATS), json_numbers=False)


# -- whole numbers ---------------------------------------------------------------------------------------------------------


def whole(text: str) -> Any:
    return int(text) if MIN <= int(text) <= MAX else BEYOND


EDGES = [
    sign * edge + step
    for edge in (0, 10**18, 10**19, 2**63, 2**64, 10**20)
    for sign in (1, -1)
    for step in range(-11, 12)
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.integers(-(10**21), 10**21) | st.integers(MIN, MAX) | st.sampled_from(EDGES),
        min_size=1,
        max_size=40,
    )
)
@example(EDGES)
@example([MIN, MIN - 1, MAX, MAX + 1, 0])
def test_int64(values: list[int]) -> None:
    check("int64", [str(v) for v in values], [whole(str(v)) for v in values], json_numbers=True)
    padded = [f" {'-' if v < 0 else '+'}{'0' * 25}{abs(v)} " for v in values]
    check("int64", padded, [whole(str(v)) for v in values], json_numbers=False)


def test_what_is_no_int64() -> None:
    texts = ["-", "+", "1.5", "1e3", "1.0", "0x1", "1_0", "--1", "12a", "a12", "1 2", "nan", "true", "９"]
    check("int64", texts, [WRONG] * len(texts), json_numbers=False)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(MIN - 5, MAX + 5) | st.integers(-(10**13), 10**13), min_size=1, max_size=30), st.sampled_from(
    [("timestamp[ms]", 10**6), ("timestamp[us]", 10**3), ("timestamp[ns]", 1)]))  # fmt: skip
@example(
    [MIN, MIN + 1, MAX, -1, 0, MAX // 10**6, MAX // 10**6 + 1, -(MAX // 10**6), -(MAX // 10**6) - 1],
    ("timestamp[ms]", 10**6),
)
def test_epochs(values: list[int], unit: tuple[str, int]) -> None:
    type_, size = unit
    expected = [value * size if MIN < value * size <= MAX else BEYOND for value in values]
    check(type_, [str(value) for value in values], expected, json_numbers=True)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.from_regex(r"\A-?(0|[1-9][0-9]{0,10})(\.[0-9]{1,14})?\Z"), min_size=1, max_size=30))
@example(["0.0000000005", "0.0000000015", "-0.0000000025", "0.00000000050000001", "9223372036.854775807", "9223372036.8547758075",
          "-9223372036.854775807", "-9223372036.854775808", "-0.0", "1e9", "1e10", "1e999", "1e-999", "1700000000.123456789"])  # fmt: skip
def test_epoch_seconds_are_rounded_to_a_nanosecond_half_to_even(texts: list[str]) -> None:
    with localcontext(prec=60):
        expected = [_nanoseconds(Decimal(text)) for text in texts]
    check("timestamp[s]", texts, expected, json_numbers=True)


def _nanoseconds(seconds: Decimal) -> Any:
    if abs(seconds) > 10**12:
        return BEYOND
    scaled = int((seconds * 10**9).to_integral_value())  # the default rounding is half to even
    return scaled if MIN < scaled <= MAX else BEYOND


# -- times -----------------------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(local: datetime, offset_minutes: int, fraction: str) -> Any:
    """ns since the epoch, by datetime: the offset is taken off as a timedelta, for it may leave the years datetime has."""
    since = local.replace(tzinfo=UTC) - EPOCH - timedelta(minutes=offset_minutes)
    ns = (since.days * 86_400 + since.seconds) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return ns if MIN < ns <= MAX else BEYOND


@st.composite
def times(draw: st.DrawFn) -> tuple[str, Any]:
    years = draw(st.sampled_from([(1, 9999), (1677, 2262), (1970, 2038)]))
    local = draw(
        st.datetimes(datetime(years[0], 1, 1), datetime(years[1], 12, 31, 23, 59, 59)).map(
            lambda t: t.replace(microsecond=0)
        )
    )
    if draw(st.booleans()):  # about the ends of February
        local = local.replace(month=3, day=1) - timedelta(days=draw(st.integers(0, 2)))
    fraction = draw(st.from_regex(r"\A[0-9]{0,9}\Z"))
    minutes = draw(st.sampled_from([0, 0, 60, -330, 1439, -1439]) | st.integers(-1439, 1439))
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{draw(st.sampled_from([':', '']))}{abs(minutes) % 60:02}"
    zone = draw(st.sampled_from([zone, "Z", "z", ""])) if minutes == 0 else zone
    separator = draw(st.sampled_from("Tt "))
    text = (
        f"{local.year:04}-{local:%m-%d}{separator}{local:%H:%M:%S}{'.' if fraction else ''}{fraction}{zone}"
    )
    return text, instant(local, minutes, fraction)


@settings(max_examples=200, deadline=None)
@given(st.lists(times(), min_size=1, max_size=30))
@example([("2262-04-11T23:47:16.854775807Z", MAX), ("2262-04-11T23:47:16.854775808Z", BEYOND)])
@example([("1677-09-21T00:12:43.145224193Z", MIN + 1), ("1677-09-21T00:12:43.145224192Z", BEYOND)])
@example([("2262-04-12T23:47:16.854775807+24:00", WRONG), ("2262-04-12T23:46:16.854775807+23:59", MAX)])
@example(
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00", 0),
        ("1970-01-01 00", WRONG),
        ("1969-12-31T23:59:59.999999999", -1),
    ]
)
@example([("2024-06-01T12:00:00+02", 1717236000 * 10**9), ("2024-06-01T12:00:00-0230", 1717252200 * 10**9)])
@example([("2024-06-01T12:00:00.1234567899Z", 1717243200123456789)])
def test_iso_times_are_those_of_datetime(given_times: list[tuple[str, Any]]) -> None:
    texts, expected = zip(*given_times, strict=True)
    check("timestamp", list(texts), list(expected), json_numbers=False)


def test_every_day_that_int64_holds() -> None:
    first, last = date(1677, 9, 22).toordinal(), date(2262, 4, 11).toordinal()
    epoch = date(1970, 1, 1).toordinal()
    texts = [date.fromordinal(day).isoformat() for day in range(first, last + 1)]
    expected = [(day - epoch) * 86_400 * 10**9 for day in range(first, last + 1)]
    check("timestamp", texts, expected, json_numbers=False, twins=False)


def test_every_end_of_february() -> None:
    """Years 1 to 9999: a leap day is a time (maybe one beyond int64), and where there is none it is wrong."""
    texts, expected = [], []
    for year in range(1, 10_000):
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        assert leap == (date(year, 3, 1) - date(year, 2, 28) == timedelta(days=2))
        texts.append(f"{year:04}-02-29T23:59:59Z")
        expected.append(instant(datetime(year, 2, 29, 23, 59, 59), 0, "") if leap else WRONG)
    check("timestamp", texts, expected, json_numbers=False)


NO_TIMES = [
    "2023-02-29", "1900-02-29", "2024-02-30", "2024-00-01", "2024-13-01", "2024-01-00", "2024-01-32", "2024-04-31", "2024-1-1",
    "24-01-01", "2024010", "2024/01/01", "2024-01-01T", "2024-01-01T24:00:01", "2024-01-01T12:60:00", "2024-01-01T12:00:61",
    "2024-01-01T24:01", "2024-01-01T24:00:00.5", "2024-01-01T25:00", "202401011200", "20240101T12", "20240101T12:00", "2024-01-01T1200",
    "20240101T120", "20240101T12000", "2024-0101", "202401-01", "20240230", "20240101T120061",
    "2024-01-01T12", "2024-01-01T1:00", "2024-01-01T12:00:0", "2024-01-01T12:00:00.", "2024-01-01T12:00:00.Z", "2024-01-01T12:00:00ZZ",
    "2024-01-01T12:00:00+", "2024-01-01T12:00:00+1", "2024-01-01T12:00:00+24:00", "2024-01-01T12:00:00+01:60", "2024-01-01T12:00:00+01:0",
    "2024-01-01T12:00:00 +01:00", "2024-01-01X12:00:00", "2024-01-01  12:00:00", "2024-01-01T12:00:00.5.5", "-2024-01-01", "+2024-01-01",
    "12024-01-01", "now", "NaN", "inf", "0", "1700000000", "２０２４-01-01",
]  # fmt: skip


OTHER_TIMES = [
    ("20240101", datetime(2024, 1, 1), 0, ""),
    ("20240229T1234", datetime(2024, 2, 29, 12, 34), 0, ""),
    ("20240101T000000Z", datetime(2024, 1, 1), 0, ""),
    ("20240101 120059.25+0130", datetime(2024, 1, 1, 12, 0, 59), 90, "25"),
    ("20240101T1200-05", datetime(2024, 1, 1, 12), -300, ""),
    ("20240101t120000.5z", datetime(2024, 1, 1, 12), 0, "5"),
    ("2016-12-31T23:59:60Z", datetime(2017, 1, 1), 0, ""),
    ("2016-12-31T23:59:60.5Z", datetime(2017, 1, 1), 0, "5"),
    ("2016-12-31T18:59:60-05:00", datetime(2016, 12, 31, 19), -300, ""),
    ("2024-01-01T12:00:60", datetime(2024, 1, 1, 12, 1), 0, ""),
    ("2024-02-28T24:00", datetime(2024, 2, 29), 0, ""),
    ("2024-01-01T24:00:00Z", datetime(2024, 1, 2), 0, ""),
    ("2024-12-31 24:00:00.000+01:00", datetime(2025, 1, 1), 60, ""),
    ("20241231T240000", datetime(2025, 1, 1), 0, ""),
]
"""ISO 8601 and RFC 3339 beside the usual: the basic form, second 60, the end of a day."""


def test_other_times_of_the_standards() -> None:
    texts = [text for text, *_ in OTHER_TIMES]
    expected = [instant(*said) for _, *said in OTHER_TIMES]
    check("timestamp", texts, expected, json_numbers=False)
    # Among times of the same minute, which are read by what they share.
    for text, at in zip(texts, expected, strict=True):
        near = [text[:16] + ":07Z", text[:16] + ":59", text]
        check("timestamp", near * 2, [*map(one_time, near[:2]), at] * 2, json_numbers=False)


@pytest.mark.parametrize(
    "text", ["2024-01-01T12:00:00,125", "20240101T120000,125Z", "2024-01-01T12:00:00,1250000001"]
)
def test_a_comma_before_the_fraction(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    for module in (compiled_spans, reference_spans):
        values, valid, failed = np.empty(1, np.int64), np.empty(1, bool), np.empty(1, bool)
        module.parse_spans(
            "timestamp", data, np.zeros(1, np.int32), np.full(1, len(data), np.int32), values, valid, failed
        )
        assert not failed[0] and values[0] == instant(datetime(2024, 1, 1, 12), 0, "125")


def one_time(text: str) -> Any:
    """What the twin says of one text."""
    from asyncflow._kernels.columns.reference import parse

    try:
        return parse("timestamp", text.encode())
    except ValueError:
        return WRONG


def test_what_is_no_time() -> None:
    check("timestamp", NO_TIMES, [WRONG] * len(NO_TIMES), json_numbers=False)
    good = "2024-01-01T12:00:00Z"  # among times of one minute, which are read by what they share
    mixed = [text for wrong in NO_TIMES for text in (good, good, wrong)]
    at = instant(datetime(2024, 1, 1, 12), 0, "")
    check("timestamp", mixed, [at, at, WRONG] * len(NO_TIMES), json_numbers=False)


def test_times_of_other_zones_are_not_taken_for_utc() -> None:
    """Rows that share a minute's text, each with a zone of its own."""
    rng, texts, expected = random.Random(3), [], []
    for _ in range(3_000):
        second, minutes = rng.randrange(60), rng.choice([0, 0, 60, -60, 90, 1439])
        fraction = rng.choice(["", "5", "000000001", "123456789"])
        zone = (
            "Z"
            if minutes == 0
            else f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        )
        texts.append(f"2024-02-29T23:59:{second:02}{'.' if fraction else ''}{fraction}{zone}")
        expected.append(instant(datetime(2024, 2, 29, 23, 59, second), minutes, fraction))
    check("timestamp", texts, expected, json_numbers=False)


def test_the_oracle_of_times_is_datetime() -> None:
    there = datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(minutes=-330)))
    assert instant(there.replace(tzinfo=None), -330, "") == int(there.timestamp()) * 10**9


def test_the_table_of_powers_is_its_generators() -> None:
    path = Path(kernels.__file__).with_name("numbers") / "powers.h"
    assert path.read_text() == powers.header()
