"""A stream that cannot be read at all, among others that can: it is one rejected record, and the others go on.

So a client of a listening socket that speaks something else (a health check, a browser) harms nobody.  Its bytes are read to its end and
accounted for like any others.
"""

from __future__ import annotations

import numpy as np

from asyncflow.errors import DataError
from asyncflow.formats.contract import (
    BYTE_ORDER_MARK,
    RECORD_KEPT_BYTES,
    Block,
    Cut,
    Decoded,
    Decoder,
    Reject,
)
from asyncflow.model.schema import Schema
from asyncflow.runtime.ingest.peek import content
from asyncflow.runtime.ingest.streams import NEWLINE


class FallbackDecoder(Decoder):
    """Decodes as ``decoder`` does; a stream that it refuses is one rejected record."""

    def __init__(self, decoder: Decoder) -> None:
        self.output = decoder.output
        self._decoder = decoder

    def prepare(self, head: Block, final: bool) -> int | None:
        try:
            return self._decoder.prepare(head, final)
        except DataError as error:
            self._decoder = Refused(error.message)
            return 0

    def cut(self, data: Block, final: bool) -> Cut:
        return self._decoder.cut(data, final)

    def decode(self, block: Block) -> Decoded:
        return self._decoder.decode(block)


class Refused(Decoder):
    """Drops all there is; its first line that is not blank is rejected, for ``reason``."""

    def __init__(self, reason: str) -> None:
        self.output = Schema(())
        self._reason = reason
        self._told = False

    def cut(self, data: Block, final: bool) -> Cut:
        if self._told:
            return _dropped(data)
        head = data[:RECORD_KEPT_BYTES].tobytes()
        if not final and BYTE_ORDER_MARK.startswith(head):
            return Cut(0, 0)
        text = content(head)
        if len(text) < len(head):
            return _dropped(data[: len(head) - len(text)])
        line, ended, _ = text.partition(b"\n")
        if not (ended or final or len(head) == RECORD_KEPT_BYTES):
            return Cut(0, 0)
        self._told = True
        return _dropped(data, Reject(0, 0, 0, self._reason, line.removesuffix(b"\r")))

    def decode(self, block: Block) -> Decoded:
        return Decoded((), 0)


def _dropped(data: Block, *rejects: Reject) -> Cut:
    return Cut(0, len(data), rejects, int(np.count_nonzero(data == NEWLINE)))
