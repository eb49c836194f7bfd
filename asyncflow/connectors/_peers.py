"""Limits and counts of the peers of a listening socket: the same for sources and sinks, tcp and unix.

Descriptors (``max_peers``), memory (``max_bytes``, one budget over all peers) and time (the timeouts) are bounded.  A peer beyond a limit
is refused or cut off, counted, and named in a warning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import time
from collections.abc import Callable

from msgspec import Struct

_log = logging.getLogger("asyncflow.connectors")

SPARE_DESCRIPTORS = 64
"""Left for files, other sockets and the system where the limit of open files is below ``max_peers``."""
SAY_AGAIN_SECONDS = 60.0
KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""The loss of a peer's machine is noticed after two minutes."""


class Limits(Struct, frozen=True):
    """Of one listening socket.  ``max_bytes``: kept for all peers together.  Times in seconds; 0: no limit.

    ``idle_seconds``: without a byte; ``record_seconds``: of waiting for the end of a record; ``slow_seconds``: without taking what is sent.
    """

    max_peers: int
    max_bytes: int
    idle_seconds: float = 0.0
    record_seconds: float = 0.0
    slow_seconds: float = 0.0

    @property
    def sweep_seconds(self) -> float:
        """How often peers are checked for a time limit."""
        times = [each for each in (self.idle_seconds, self.record_seconds, self.slow_seconds) if each]
        return min(1.0, max(0.02, min(times) / 8)) if times else 0.0


class PeerCounts:
    """How many peers came, were refused and were cut off, by reason.  ``text``: the address that is listened at."""

    def __init__(self, text: str, *ways: str) -> None:
        self.counts = dict.fromkeys(("peers", "peers_refused", *(f"peers_cut_{way}" for way in ways)), 0)
        self._text = text
        self._said: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def admits(self, present: int, name: str, limits: Limits) -> bool:
        """Counts a new peer; False where it is refused."""
        self.counts["peers"] += 1
        most = min(limits.max_peers, _descriptor_limit())
        if present < most:
            return True
        self.counts["peers_refused"] += 1
        why = "max_peers" if most == limits.max_peers else "the limit of open files"
        self._say("refused", f"{name} was refused: {present:,} are there ({why})")
        return False

    def cut_off(self, way: str, name: str, why: str) -> None:
        """Counts a peer that is cut off at the limit ``way``."""
        self.counts[f"peers_cut_{way}"] += 1
        self._say(way, f"{name} was cut off: {why}")

    def close(self) -> None:
        """Warns of the peers that were counted without a warning of their own."""
        for way, count in self._unsaid.items():
            if count:
                _log.warning("%s: %s", self._text, _more(way, count))
        self._unsaid.clear()

    def _say(self, way: str, text: str) -> None:
        """Warns at most once a minute for each ``way``, with the number since the last warning."""
        now = time.monotonic()
        if now - self._said.get(way, -SAY_AGAIN_SECONDS) < SAY_AGAIN_SECONDS:
            self._unsaid[way] = self._unsaid.get(way, 0) + 1
            return
        self._said[way] = now
        unsaid = self._unsaid.pop(way, 0)
        more = f" (and {_more(way, unsaid)})" if unsaid else ""
        _log.warning("%s: %s%s", self._text, text, more)


def _more(way: str, count: int) -> str:
    what = "refused" if way == "refused" else f"cut off ({way})"
    return f"{count:,} more were {what}"


class Sweep:
    """Calls ``look(late)`` every ``seconds`` from ``begin`` on, while ``look`` gives True.  ``late``: seconds that the loop was late, which
    do not count against peers."""

    def __init__(self, seconds: float, look: Callable[[float], bool]) -> None:
        self._seconds = seconds
        self._look = look
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None and self._seconds:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._due, loop.time() + self._seconds)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._seconds = 0.0

    def _due(self, due: float) -> None:
        self._timer = None
        if self._look(max(0.0, asyncio.get_running_loop().time() - due)):
            self.begin()


def keep_alive(peer: socket.socket) -> None:
    """Turns on TCP keep-alive, which finds quiet peers that are gone."""
    if peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                peer.setsockopt(socket.IPPROTO_TCP, option, value)


def _descriptor_limit() -> int:
    """How many peers fit into the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else max(soft // 2, soft - SPARE_DESCRIPTORS)
