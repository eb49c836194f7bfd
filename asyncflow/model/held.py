"""The earlier contents of a sink's target, to which a run adds rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

HEAD_BYTES = 1 << 20


class Held(Struct, frozen=True):
    """The contents of a file that is continued, expanded where the file is compressed; never empty.

    ``name``: for messages.  ``head``: the first bytes, at most ``HEAD_BYTES``.  ``ends_line``: the last byte is a newline, so the last
    line is whole.  ``blocks``: reads all bytes again; blocking.
    """

    name: str
    head: bytes
    size_bytes: int
    ends_line: bool
    blocks: Callable[[], Iterator[bytes]]
