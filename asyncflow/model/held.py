"""What the target of a sink held before the rows that a run adds to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

HEAD_BYTES = 1 << 20


class Held(Struct, frozen=True):
    """The contents of a file that is continued, expanded where it is compressed; never empty.

    ``name``: for messages.  ``head``: the first bytes, at most ``HEAD_BYTES``.  ``ends_line``: the last byte is a newline, so no
    record of lines is torn.  ``blocks``: reads all of it again; blocking.
    """

    name: str
    head: bytes
    size_bytes: int
    ends_line: bool
    blocks: Callable[[], Iterator[bytes]]
