"""Kernels never read beyond a block: blocks and texts end at a page that must not be touched.

``CI_LONG=1``: for a minute, else for a few seconds' worth of inputs, by a seed.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import sys
from typing import Any

import numpy as np
import pytest

from asyncflow._kernels import MODE, kernel
from tests.fuzz.fuzz_decoders import SCHEMA, SEEDS, damaged

LONG = os.environ.get("CI_LONG", "") not in ("", "0")
INPUTS = 4000 if LONG else 150
pytestmark = pytest.mark.skipif(
    MODE == "reference" or not sys.platform.startswith("linux"), reason="needs compiled kernels and mprotect"
)
TYPES = list(SCHEMA.values())


class Edge:
    """Memory whose last page must not be touched."""

    def __init__(self, room: int) -> None:
        self._size = (room + mmap.PAGESIZE - 1) // mmap.PAGESIZE * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self._size + mmap.PAGESIZE)
        self._bytes: Any = np.frombuffer(self._memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        last = ctypes.c_void_p(self._bytes.ctypes.data + self._size)
        if libc.mprotect(last, ctypes.c_size_t(mmap.PAGESIZE), 0) != 0:
            pytest.skip("no memory can be closed off here")

    def put(self, data: bytes) -> Any:
        """These bytes, right before that page; they may be written to."""
        block = self._bytes[self._size - len(data) : self._size]
        block[:] = np.frombuffer(data, np.uint8)
        return block


@pytest.fixture(scope="module")
def edge() -> Edge:
    return Edge(1 << 20)


def use_texts(data: Any, starts: Any, lengths: Any, chance: random.Random) -> None:
    """All that kernels do with texts, which end with the block's last byte where the last one does."""
    count = len(starts)
    if not count:
        return
    strings, flags = kernel("strings"), np.empty(count, np.bool_)
    strings.hash64(data, starts, lengths, np.empty(count, np.uint64))
    strings.distinct(data, starts, lengths, np.empty(count, np.int32), np.empty(count, np.int32))
    strings.count_characters(data, starts, lengths, np.empty(count, np.int64))
    strings.equal(data, starts, lengths, data, starts[::-1].copy(), lengths[::-1].copy(), flags)
    strings.among(data, starts, lengths, data, starts[:3], lengths[:3], flags)
    use_functions((data, starts, lengths), chance, flags)
    table = kernel("groups").GroupTable(["string"])
    table.assign([(data, starts, lengths, None)], count)
    table.order()
    kernel("encode").json_rows(count, [("string", data, starts, lengths, None)], [b'"a":'], 0)
    kernel("encode").csv_rows(count, [("string", data, starts, lengths, None)], b",", b'"', b"", 0)


def use_functions(text: Any, chance: random.Random, flags: Any) -> None:
    texts, count, total = kernel("texts"), len(flags), int(text[2].sum())
    part = np.frombuffer(chance.choice((b"a", b"ab", b",", b"x" * 20)), np.uint8)
    wanted = part, np.zeros(1, np.int32), np.array([chance.randint(0, len(part))], np.int32)
    number = np.array([chance.choice((1, 2, 5, -1, -3))])
    out, starts, lengths = (
        np.empty(2 * total + 64, np.uint8),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
    )
    for place in range(3):
        texts.find(*text, *wanted, place, flags)
    texts.like(*text, [b"", part.tobytes(), b""], flags)
    texts.split_part(*text, *wanted, number, starts, lengths)
    texts.substring(*text, number, number, starts, lengths)
    texts.trim(*text, *wanted, starts, lengths)
    texts.change_case(*text, np.arange(1 << 17, dtype=np.int32), True, out, starts, lengths)
    texts.replace(*text, *wanted, part, np.zeros(1, np.int32), np.zeros(1, np.int32), out, starts, lengths)
    texts.concat([text, text], out, starts, lengths)
    for kind in range(3):
        texts.read(*text, kind, np.empty(count, np.int64), flags)


def test_csv(edge: Edge) -> None:
    chance, csv = random.Random(1), kernel("csv")
    for _ in range(INPUTS):
        data = damaged(chance.choice(SEEDS["csv"]), chance, SEEDS["csv"])[: 1 << 20]
        wanted = sorted(chance.sample(range(6), chance.randint(1, 6)))
        plan = csv.Plan(
            delimiter=chance.choice((44, 59)), quote=34, null_text=chance.choice((b"", b"NA")),
            max_record_bytes=chance.choice((5, 64, 1 << 20)), fields=6,
            columns=[(field, TYPES[field], chance.random() < 0.2) for field in wanted], rejects_kept=9,
        )  # fmt: skip
        block = edge.put(data)
        for values, lengths, _valid in plan.decode(block)[4]:
            if lengths is not None:
                use_texts(block, values, lengths, chance)
        cutter, size = csv.Cutter(plan), chance.choice((7, 64, 65, 500))
        rest = b""
        for start in range(0, min(len(data), 3000), size):
            rest += data[start : start + size]
            rest = rest[cutter.cut(edge.put(rest), False)[1] :]


def test_json(edge: Edge) -> None:
    chance, names = random.Random(2), ["ts", "at", "key", "value", "n", "ok", "meta", "meta.ts"]
    for _ in range(INPUTS):
        data = damaged(chance.choice(SEEDS["json"]), chance, SEEDS["json"])[: 1 << 20]
        wanted = chance.sample(names, chance.randint(1, 6))
        types = [SCHEMA.get(name, "string") if chance.random() < 0.8 else "string" for name in wanted]
        decoder = kernel("json").Decoder(wanted, types, [False] * len(wanted), chance.choice((64, 1 << 20)))
        for column in decoder.decode(edge.put(data))[2]:
            if len(column) == 4:
                use_texts(*column[:3], chance)


def test_lines_and_texts(edge: Edge) -> None:
    chance, lines = random.Random(3), kernel("lines")
    for _ in range(INPUTS):
        block = edge.put(damaged(chance.choice(SEEDS["lines"]), chance, SEEDS["lines"])[: 1 << 20])
        count = lines.count_lines(block)
        starts, lengths = np.empty(count, np.int32), np.empty(count, np.int32)
        lines.split_lines(block, 1 << 20, starts, lengths, np.empty(count, np.uint8))
        lines.last_line_end(block)
        use_texts(block, starts, lengths, chance)
