"""The benchmark's query as each engine's script gets it: a JSON object as the only argument.

Group the rows of a file by key, and where there is a window by ``ts`` in windows of ``window_ms`` or sessions ``gap_ms`` apart: count,
sum, min, max and mean of ``value``, or count and quantiles.  The script writes a CSV file ``window,key,n,total,low,high,average``
(no ``window`` column where there is no window; ``window`` is the start in epoch ms; of sessions also ``window_end``; with quantiles
``n,median,high_tail``), rows in any order, and nothing else.  All time from the start of the process to its end counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Query:
    """``path``: a file, ``-`` for standard input, or ``tcp:PORT`` to connect to on loopback.  ``columns``: all of them, in file order,
    by type (``int64``, ``float64``, ``string``).  ``every_ms``: one window starts this often; equal to ``window_ms`` they tumble.
    ``gap_ms``: sessions instead: a row at most this long after the one before it is in the same.  ``tail``: median and the
    quantile at this share instead of sum, min, max and mean.  ``url``: the key is made of the column ``url``: ``parts``, the third to
    the fifth part between slashes put together; ``host``, the host's name in small letters."""

    path: str
    out: str
    format: str  # "csv" or "json"
    columns: dict[str, str]
    threads: int = 1
    delimiter: str = ","
    header: bool = True
    quote: str = '"'
    window_ms: int | None = 60_000
    every_ms: int | None = 60_000
    gap_ms: int | None = None
    tail: float | None = None
    url: str | None = None

    @classmethod
    def from_argv(cls) -> Query:
        return cls(**json.loads(sys.argv[1]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def hops(self) -> bool:
        return self.window_ms != self.every_ms


def open_input(path: str) -> BinaryIO:
    """The live inputs as a binary file."""
    if path == "-":
        return sys.stdin.buffer
    if path.startswith("tcp:"):
        import socket

        return socket.create_connection(("127.0.0.1", int(path[4:]))).makefile("rb", buffering=1 << 20)
    return open(path, "rb")


def line_batches(file: BinaryIO, size_bytes: int = 1 << 16) -> Iterator[list[bytes]]:
    """Whole lines, as many as about ``size_bytes`` hold; for engines that take rows one at a time."""
    while lines := file.readlines(size_bytes):
        yield lines
