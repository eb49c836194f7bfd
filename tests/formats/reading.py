"""Reads a stream in pieces through a decoder, as the engine does: for tests of the chunk law."""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncflow.formats.contract import Block, Decoder
from asyncflow.model.batch import Batch

Rows = list[list[Any]]
Rejected = list[tuple[int, int, str, bytes]]


def block(data: bytes) -> Block:
    return np.frombuffer(bytearray(data), np.uint8)


def read(decoder: Decoder, data: bytes, sizes: list[int]) -> tuple[Rows, Rejected]:
    """All rows and rejects (line, offset, reason, record) of a stream that comes in pieces of these sizes, then the rest."""
    rows: Rows = []
    rejected: Rejected = []
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    pieces.append(data[at:])
    held, offset, line, prepared = b"", 0, 0, False
    for number, piece in enumerate(pieces):
        held += piece
        final = number == len(pieces) - 1
        if not prepared:
            skip = decoder.prepare(block(held), final)
            if skip is None:
                continue
            prepared, held, offset = True, held[skip:], offset + skip
        while held:
            cut = decoder.cut(block(held), final)
            if cut.end:
                result = decoder.decode(block(held[: cut.end]))
                batch = Batch(decoder.output, result.columns, result.num_rows)
                rows += [list(row.values()) for row in batch.to_pylist()]
                rejected += [(line + r.line, offset + r.offset, r.reason, r.record) for r in result.rejects]
                line += result.lines
            assert not (cut.end and cut.rejects)
            rejected += [(line + r.line, offset + r.offset, r.reason, r.record) for r in cut.rejects]
            line += cut.lines
            held, offset = held[cut.resume :], offset + cut.resume
            if cut.resume == 0:
                break
    assert not held
    return rows, rejected
