"""Records of a known layout, several at a time: a record of another layout among them changes no value."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.test_json_decode import Columns, assert_twins_agree, compiled, decode

COLUMNS: Columns = [
    ("ts", "timestamp[ms]", True),
    ("key", "string", False),
    ("value", "float64", False),
    ("flag", "bool", False),
    ("deep.n", "int64", False),
    ("meta", "string", False),
]
RECORD = '{"ts":%d,"key":"%s","value":%s,"flag":%s,"deep":{"n":%d},"meta":%s,"extra":"%s"}'
INTERRUPTIONS = [
    "",
    " ",
    "\r",
    "{}",
    "[]",
    '{"ts":1}',
    '{"key":"a","ts":1}',
    '{"ts":null,"key":"a"}',
    '{"ts":1,"key":"' + "k" * 300 + '"}',
    '{"ts":1,"key":"a","key":"b\\n"}',
    '{"ts":1,"deep":{"n":1},"deep":{}}',
    '{"ts":1,"key":"a","value":1.5,"flag":true,"deep":{"n":5,"n":6}',
]
VALUES = [
    "1",
    "-1",
    "0",
    "-0",
    "0.5",
    "-12.25",
    "00",
    "01",
    "-01",
    "1.",
    ".5",
    "1.5.5",
    "1-1",
    "--1",
    "-",
    "+1",
    "1e3",
    "1E-2",
]
VALUES += [
    "1.5e",
    "1/2",
    "123456789012345",
    "-12345678901234",
    "1234567890123456",
    "0.12345678901234567",
    "1 ",
    "null",
    "nul",
]
VALUES += ["true", "NaN", "-Infinity", '"7"', '"x"', "[]", "{}", "", "1}", "12345678901234."]
TEXTS = [
    "",
    "k",
    "k" * 14,
    "k" * 31,
    "k" * 32,
    "k" * 33,
    "k" * 70,
    "\\",
    "\\\\",
    '\\"',
    "\\u0041",
    "\\ud800",
    "\x01",
    "\t",
    "é" * 17,
]


def regular(number: int) -> str:
    key, meta = "k" * (number * 7 % 40), ["null", '"m"', "7", '{"a":[1,"}"]}'][number // 50 % 4]
    return RECORD % (
        number,
        key,
        number / 4,
        "true" if number % 3 else "null",
        -number,
        meta,
        "e" * (number % 35),
    )


@pytest.mark.parametrize("lane", range(4))
def test_records_in_step_are_interrupted(lane: int) -> None:
    """After enough records of one layout, at each place among those that are read together."""
    lines = [regular(number) for number in range(40)]
    for interruption in INTERRUPTIONS:
        lines += [regular(number) for number in range(12 + lane)]
        lines += [interruption, *map(regular, range(12 - lane))]
    assert_twins_agree("\n".join(lines).encode(), COLUMNS, max_bytes=250)


@pytest.mark.parametrize("lane", range(4))
def test_values_in_step(lane: int) -> None:
    """Every way to write a number or a text beside regular ones, also as the block's very last."""
    for template, odd in (
        ('{"value":%s,"ts":1}', VALUES),
        ('{"key":"%s","ts":1}', TEXTS),
        ('{"x":%s,"ts":1}', VALUES),
    ):
        for last in odd:
            plain = template % ("k" if '"%s"' in template else "2.5")
            lines = [plain] * (20 + lane)
            for value in odd:
                lines += [plain] * 7 + [template % value]
            lines += [plain] * (9 + lane) + [template % last]
            assert_twins_agree("\n".join(lines).encode(), COLUMNS)


def test_escapes_and_misfits_of_records_in_step_keep_their_rows() -> None:
    """Notes are kept by row, whatever order they came in; with many a record, those are not read in step."""
    for width in (1, 3, 12):
        columns: Columns = [(f"c{i}", "string" if i % 2 else "int64", False) for i in range(width)]
        lines = []
        for row in range(200):
            values = [f'"c{i}":"{row}"' if i % 2 == 0 else f'"c{i}":"\\t{row}"' for i in range(width)]
            if row % 10 == 9:
                values[row % width] = f'"c{row % width // 2 * 2}":"bad \\u00e9"'
            lines.append("{" + ",".join(values) + "}")
        _, _, decoded, rejected, _ = assert_twins_agree("\n".join(lines).encode(), columns)
        assert rejected == 20
        assert decoded[0] == [row for row in range(200) if row % 10 != 9]


def test_an_empty_object_at_a_records_end_clears() -> None:
    """Also in records that follow a layout: the last mention of an object counts."""
    lines = [f'{{"deep":{{"n":{row}}},"deep":{{}}}}' for row in range(30)]
    lines += [f'{{"deep":{{"n":{row}}},"deep":{{}},"ts":1}}' for row in range(30)]
    assert assert_twins_agree("\n".join(lines).encode(), [("deep.n", "int64", False)])[2] == [[None] * 60]


def test_long_keys_are_compared_to_their_end() -> None:
    for length in (20, 24, 25, 26, 27, 28, 40, 100, 125, 130):
        name, other = "n" * length, "n" * (length - 1) + "m"
        lines = [json.dumps({"a": row, name: row, "b": row}, separators=(",", ":")) for row in range(30)]
        lines += [line.replace(name, other) for line in lines[:5]] + lines
        columns: Columns = [("a", "int64", False), (name, "int64", False), ("b", "int64", False)]
        decoded = assert_twins_agree("\n".join(lines).encode(), columns)[2]
        assert decoded[1].count(None) == 5


def test_random_interruptions() -> None:
    dice = random.Random(5)
    for rate in (0.01, 0.1, 0.5):
        lines = []
        for number in range(3000):
            line = regular(number)
            if dice.random() < rate:
                at = dice.randrange(len(line))
                line = dice.choice(
                    [line[:at], line[:at] + dice.choice('"\\{}[]:, 0e-.') + line[at + 1 :], *INTERRUPTIONS]
                )
            lines.append(line)
        assert_twins_agree("\n".join(lines).encode(), COLUMNS, max_bytes=400)


# -- UTF-8 ----------------------------------------------------------------------------------------------------------------


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def rejected_as_text(pieces: list[bytes], before: int) -> list[bool]:
    lines = [b'{"a":"' + b"x" * before + piece + b'"}' for piece in pieces]
    *_, rejects = decode(compiled, b"\n".join(lines), [("a", "string", False)])
    wrong = {reject[0] for reject in rejects}
    assert all(reject[4] == compiled.BAD_UTF8 for reject in rejects)
    return [line in wrong for line in range(len(lines))]


def test_every_pair_of_first_bytes() -> None:
    """With as many continuations behind as make it valid or too long, in lines that take vectors to check."""
    others = [byte for byte in range(0x20, 0x100) if byte not in b'"\\']
    for tail in (b"", b"\x80", b"\xbf\x80", b"\x80\x80\x80"):
        pieces = [bytes([lead, second]) + tail for lead in range(0x80, 0x100) for second in others]
        assert rejected_as_text(pieces, 40) == [not is_utf8(piece) for piece in pieces]


def test_bad_bytes_at_every_place() -> None:
    bad = [
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82\xac\xac",
        b"\xff",
    ]
    good = ["é".encode(), "€".encode(), "😀".encode(), b"\xf4\x8f\xbf\xbf", b"\xed\x9f\xbf"]
    for before in range(140):
        assert rejected_as_text(bad + good, before) == [True] * len(bad) + [False] * len(good)
        for piece in bad + good:  # alone: the whole block is checked at once
            record = b'{"a":"' + b"x" * before + piece
            assert decode(compiled, record, [])[4][0][4] == (
                compiled.MALFORMED if piece in good else compiled.BAD_UTF8
            )
            assert rejected_as_text([piece + b"x" * (150 - before)], before) == [piece in bad]


@pytest.mark.parametrize("level", ["portable", "v2", "v3", "v4"])
def test_on_every_level(level: str) -> None:
    if "ASYNCFLOW_CPU" in os.environ:
        pytest.skip("a level is forced already")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))],
        env={**os.environ, "ASYNCFLOW_CPU": level},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if "that this machine does not have" in done.stdout:
        pytest.skip("this machine does not have it")
    assert done.returncode == 0, done.stdout
