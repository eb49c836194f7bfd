"""Cases for the NDJSON decoder: ``cases()`` gives (name, callable, rows).  ``python bench/kernels.py json`` times them.

A block is decoded in place, so every call works on a fresh copy of it; the copy is a part of what is timed (some 2 ns a row).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from asyncflow._kernels import kernel

BLOCK_ROWS = 3000  # about 256 KiB, what a source reads at once
COLUMNS = (("ts", "timestamp[ms]", True), ("key", "string", False), ("value", "float64", False))


def _key(dice: random.Random) -> str:
    return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=dice.randint(3, 20)))


def _records(dice: random.Random) -> list[dict[str, Any]]:
    keys = [_key(dice) for _ in range(1000)]
    return [
        {
            "ts": 1_700_000_000_000 + row // 10 - dice.randrange(5000),
            "key": dice.choice(keys),
            "value": dice.randrange(-10_000, 10_000) / 100,
            "extra": _key(dice),
        }
        for row in range(BLOCK_ROWS)
    ]


def _flat(dice: random.Random) -> bytes:
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in _records(dice))


def _mixed(dice: random.Random) -> bytes:
    """Four field orders, a third with spaces, escapes and a nested value."""
    lines = []
    for record in _records(dice):
        record["extra"] = 'a"b}{,\\' if dice.randrange(5) == 0 else "plain text"
        record["meta"] = {"a": [1, 2, {"ts": 5}], "b": None, "c": "}"}
        names = list(record)
        turn = dice.randrange(4)
        spaced = dice.randrange(3) == 0
        turned = {name: record[name] for name in names[turn:] + names[:turn]}
        lines.append(json.dumps(turned, separators=(", ", ": ") if spaced else (",", ":")) + "\n")
    return "".join(lines).encode()


def _unalike(dice: random.Random) -> bytes:
    """No two records with the same names: nothing to learn, all is parsed."""
    return b"".join(
        json.dumps(
            {f"{_key(dice)}{name}": value for name, value in record.items()} | {"ts": record["ts"]}
        ).encode()
        + b"\n"
        for record in _records(dice)
    )


def cases() -> list[tuple[str, Callable[[], object], int]]:
    """Flat and mixed records with three columns and with none, and records that all differ."""
    module = kernel("json")
    dice = random.Random(7)
    flat, mixed, unalike = _flat(dice), _mixed(dice), _unalike(dice)

    def case(
        name: str, data: bytes, columns: tuple[tuple[str, str, bool], ...]
    ) -> tuple[str, Callable[[], object], int]:
        names, types, required = zip(*columns, strict=True) if columns else ((), (), ())
        decoder = module.Decoder(names, types, required, 1 << 20, 8)
        original = np.frombuffer(data, np.uint8)
        block = original.copy()

        def decode() -> object:
            block[:] = original
            return decoder.decode(block)

        return name, decode, data.count(b"\n")

    return [
        case("json: flat, 3 of 4 columns", flat, COLUMNS),
        case("json: flat, no column", flat, ()),
        case("json: orders, spaces, nesting, 3 of 5 columns", mixed, COLUMNS),
        case("json: orders, spaces, nesting, no column", mixed, ()),
        case("json: no two records alike, 1 of 5 columns", unalike, COLUMNS[:1]),
    ]
