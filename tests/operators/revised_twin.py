"""The specification of windows with corrections in plain Python: one row, one window, one instant after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = -(10**30)


class Shape(NamedTuple):
    """``kind``: tumbling, hopping or cumulate; times in any unit."""

    kind: str
    size: int
    every: int
    offset: int = 0

    def windows(self, time: int) -> list[tuple[int, int]]:
        """The (end, start) of all windows that ``time`` is in, found by trying."""
        step = self.size if self.kind != "hopping" else self.every
        first = (time - self.offset) // step - self.size // step - 1
        starts = [self.offset + k * step for k in range(first, first + self.size // step + 3)]
        found = []
        for start in starts:
            ends = [start + self.size]
            if self.kind == "cumulate":
                ends = list(range(start + self.every, start + self.size + 1, self.every))
            found += [(end, start) for end in ends if start <= time < end]
        return sorted(found)


@dataclass
class Cell:
    values: list[int] = field(default_factory=list)
    revision: int = 0
    changed: bool = False


@dataclass
class Twin:
    """``emit``: None sends nothing before a window's end.  ``sent``: (start, end, key, count, sum, revision, final)."""

    shape: Shape
    lateness: int = 0
    emit: int | None = None
    delay: int = 0
    watermark: int = NEVER
    cells: dict[tuple[int, int, str], Cell] = field(default_factory=dict)
    emit_at: int | None = None
    sent: list[tuple[int, int, str, int, int, int, bool]] = field(default_factory=list)
    late: list[tuple[int, str, int]] = field(default_factory=list)

    def run(self, rows: Sequence[tuple[int, str, int]]) -> Twin:
        for row in rows:
            self.row(*row)
            self.watermark = max(self.watermark, row[0] - self.delay)
            self.reach(self.watermark)
        for place in sorted(self.cells):
            self.send(place, True)
        return self

    def row(self, time: int, key: str, value: int) -> None:
        open_windows = [
            (end, start) for end, start in self.shape.windows(time) if end + self.lateness > self.watermark
        ]
        if not open_windows:
            self.late.append((time, key, value))
        if self.emit is not None and self.emit_at is None:
            known = self.watermark if self.watermark != NEVER else time - self.delay
            self.emit_at = (known // self.emit + 1) * self.emit
        for end, start in open_windows:
            cell = self.cells.setdefault((end, start, key), Cell())
            cell.values.append(value)
            cell.changed = True
            if end <= self.watermark:
                self.send((end, start, key), False)

    def reach(self, watermark: int) -> None:
        while True:
            instants = {end for end, _, _ in self.cells} | {end + self.lateness for end, _, _ in self.cells}
            instants |= {self.emit_at} if self.emit_at is not None else set()
            passed = [instant for instant in instants if self.done < instant <= watermark]
            if not passed:
                return
            self.done = instant = min(passed)
            for place in sorted(self.cells):
                over = place[0] + self.lateness == instant
                if over or (self.cells[place].changed and instant in (place[0], self.emit_at)):
                    self.send(place, over)
                if over:
                    del self.cells[place]
            if instant == self.emit_at:
                self.emit_at = None

    done: int = NEVER

    def send(self, place: tuple[int, int, str], final: bool) -> None:
        end, start, key = place
        cell = self.cells[place]
        self.sent.append((start, end, key, len(cell.values), sum(cell.values), cell.revision, final))
        cell.revision += 1
        cell.changed = False
