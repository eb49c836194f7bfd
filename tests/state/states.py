"""States to be written: of several owners, with parts of many dtypes and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncflow.model.snapshot import Piece, Plain, Saved
from asyncflow.state.directory import StateDirectory
from asyncflow.state.format import About, Contents

RUN, PIPELINE = bytes(range(16)), bytes(range(16, 32))
CELL = np.dtype(
    {
        "names": ["rows", "sums", "low"],
        "formats": ["<i8", ("<f8", (2,)), "<i4"],
        "offsets": [0, 8, 24],
        "itemsize": 32,
    }
)
DTYPES = ("<i8", "<u8", "<f8", "<i4", "|u1", "|i1", "|b1", "|S5", "|V16", CELL)
FIELDS: dict[str, Plain] = {
    "least": -(2**63),
    "most": 2**64 - 1,
    "nothing": None,
    "flag": True,
    "share": 0.1,
    "text": "žluť\0",
    "raw": b"\x00\xff",
    "list": [1, [2, {"three": []}]],
    "within": {"deep": {"deeper": [None, False]}},
}


def about(epoch: int = 1, **more: Any) -> About:
    return About(asyncflow="0.1.0", created_ns=10**18 + epoch, clock_ns=10**18, **more)


def rows(chance: np.random.Generator, dtype: Any, count: int) -> np.ndarray[Any, Any]:
    dtype = np.dtype(dtype)
    data = chance.integers(0, 256, count * dtype.itemsize, np.uint8)
    return (data & 1 if dtype == np.bool_ else data).view(dtype)


def states(epoch: int, most_rows: int = 40) -> dict[str, Saved]:
    """The same ones for the same epoch."""
    chance = np.random.default_rng(epoch)
    found = {}
    for owner in ("events", "per_minute", "out")[: int(chance.integers(1, 4))]:
        parts = {}
        for number in range(int(chance.integers(0, 5))):
            dtype = DTYPES[int(chance.integers(len(DTYPES)))]
            parts[f"part {number}"] = rows(chance, dtype, int(chance.integers(0, most_rows)))
        found[owner] = Saved({**FIELDS, "epoch": epoch}, parts)
    return found


def publish(directory: StateDirectory, epoch: int, some: dict[str, Saved], pieces: int = 3) -> Contents:
    """Writes the states with the parts cut into pieces that alternate."""
    unpublished = directory.begin(epoch, PIPELINE)
    try:
        for number in range(pieces):
            for owner, state in some.items():
                for name, data in state.parts.items():
                    cut = [len(data) * place // pieces for place in range(pieces + 1)]
                    unpublished.add(owner, Piece(name, data[cut[number] : cut[number + 1]]))
        return unpublished.publish(about(epoch), {owner: state.fields for owner, state in some.items()})
    except BaseException:
        unpublished.drop()
        raise


def same(found: Any, wanted: dict[str, Saved]) -> bool:
    """Whether what was loaded is what was written, bit for bit."""
    return set(found) == set(wanted) and all(
        found[owner].fields == state.fields
        and list(found[owner].parts) == list(state.parts)
        and all(
            found[owner].parts[name].dtype == data.dtype
            and found[owner].parts[name].tobytes() == data.tobytes()
            for name, data in state.parts.items()
        )
        for owner, state in wanted.items()
    )
