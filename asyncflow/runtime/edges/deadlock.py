"""Detects deadlocks among the channels of a run, and breaks them.

A reader that takes its inputs in a certain order leaves the other inputs waiting.  Where two inputs come from one table, this can block the
input that the reader waits for: ``orders`` has no room towards a union, which waits for a join, which waits for ``orders``.

The reader breaks the deadlock by taking from a blocked input, at the cost of memory.  It is told to do so only in a deadlock: the tables
that its wanted input waits for, directly or through others, are all blocked, and one of them by the reader itself.  A port that is held
for a barrier is not waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from asyncflow.runtime.edges.channel import Channel


class DeadlockDetector:
    """``add`` makes a channel known; from then on its readers and writers are looked at whenever one of them begins to wait."""

    def __init__(self) -> None:
        self._writers: dict[Channel, Sequence[str]] = {}
        self._written: defaultdict[str, list[tuple[Channel, int]]] = defaultdict(list)
        self._read: defaultdict[str, list[Channel]] = defaultdict(list)
        self._several: list[Channel] = []

    def add(self, channel: Channel, writers: Sequence[str]) -> None:
        """``writers``: the table that writes to each port."""
        self._writers[channel] = writers
        self._read[channel.reader].append(channel)
        for port, writer in enumerate(writers):
            self._written[writer].append((channel, port))
        if len(writers) > 1:
            self._several.append(channel)
        if self._several:
            for known in self._writers:
                known.on_wait = self.look

    def look(self) -> None:
        """Lets readers take from any blocked port where waiting for the preferred one is in vain."""
        for channel in self._several:
            if channel.holds_back and self._in_vain(channel):
                channel.give_way()

    def at_rest(self, tables: Iterable[str]) -> bool:
        """All of these wait for one another."""
        return all(map(self._waits_for, tables))

    def _in_vain(self, channel: Channel) -> bool:
        comes_back = False
        seen: set[str] = set()
        ahead = [self._writers[channel][port] for port in channel.awaited_ports]
        while ahead:
            table = ahead.pop()
            if table == channel.reader:
                comes_back = True
            elif table not in seen:
                seen.add(table)
                if not (waits_for := self._waits_for(table)):
                    return False
                ahead += waits_for
        return comes_back

    def _waits_for(self, table: str) -> list[str]:
        """Any of which would let it go on; none where it works, or has ended.  A source with several clients may wait for room in
        several places at once."""
        if blocked := [channel.reader for channel, port in self._written[table] if channel.blocked(port)]:
            return blocked
        for channel in self._read[table]:
            if channel.awaited:
                return [self._writers[channel][port] for port in channel.awaited_ports]
        return []
