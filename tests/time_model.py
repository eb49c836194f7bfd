"""The plain model of event time: which rows a window holds, which are late, and when the window is emitted.

A slow model, without batches, columns or coroutines, that the engine must agree with.  It takes one *moment* at a time: a row comes, or a
source sends a watermark, becomes idle, or ends.  The rules, in this order at each moment:

1. A row's limit is the greater of two watermarks before the row: that of its own source and that of the stage.
2. The row counts in each of its windows that ends after the limit.  A row that counts in no window is late; a row that counts in some of
   its windows is late in part.
3. The watermark of the row's source rises to the row's time less the source's delay.  A source's watermark never falls.
4. The stage's watermark rises to the lowest watermark of the sources that count.  A source that has ended, or is idle, does not count;
   where all sources that have not ended are idle, the highest of their watermarks is used.  The stage's watermark never falls.
5. A window whose end the stage's watermark has reached is emitted once, in the order of end, start and key (null last).

Other shapes of windows are other functions from a time to windows (``Hopping``); shapes whose windows merge or are emitted again override
``put`` and ``close``.  An interval join keeps rows in place of windows (``JoinModel``).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

NEVER, FOREVER = -(2**63), 2**63 - 1
Window: TypeAlias = tuple[int, int]


class Row(NamedTuple):
    time: int
    key: str | None
    value: int


NOTHING = Row(0, None, 0)


@dataclass(frozen=True)
class Moment:
    """``kind``: ``row``, ``watermark`` (its source is at least at ``time``), ``silent`` or ``end``."""

    kind: str
    source: int
    row: Row = NOTHING
    time: int = 0


@dataclass(frozen=True)
class Hopping:
    """Windows of ``size``, one starting every ``every``; tumbling where these are equal."""

    size: int
    every: int
    offset: int = 0

    def of(self, time: int) -> list[Window]:
        """Every window that holds this time."""
        first = (time - self.size - self.offset) // self.every
        starts = [
            self.offset + number * self.every for number in range(first, first + self.size // self.every + 3)
        ]
        return [(start, start + self.size) for start in starts if start <= time < start + self.size]


class Result(NamedTuple):
    """A row that comes out: ``first`` and ``last`` are values by event time, of equal times by arrival."""

    start: int
    end: int
    key: str | None
    count: int
    total: int
    first: int
    last: int


@dataclass
class SourceModel:
    delay: int
    watermark: int = NEVER
    silent: bool = False
    ended: bool = False


@dataclass
class TimeModel:
    """A window stage over several sources.  ``results``, ``late``: what has come out so far, in order."""

    shape: Hopping
    delays: Sequence[int]
    results: list[Result] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    late_partly: int = 0
    aggregated: int = 0
    windows_opened: int = 0
    watermark: int = NEVER

    def __post_init__(self) -> None:
        self.sources = [SourceModel(delay) for delay in self.delays]
        self.open: dict[Window, dict[str | None, list[Row]]] = {}

    def happens(self, moment: Moment) -> None:
        source = self.sources[moment.source]
        assert not source.ended
        source.silent = moment.kind == "silent"
        if moment.kind == "row":
            self.put(moment.row, max(source.watermark, self.watermark), moment.source)
            source.watermark = max(source.watermark, moment.row.time - source.delay)
        elif moment.kind == "watermark":
            source.watermark = max(source.watermark, moment.time)
        elif moment.kind == "end":
            source.ended = True
        self.watermark = max(self.watermark, self.lowest())
        self.close(self.watermark)

    def lowest(self) -> int:
        open_ = [source for source in self.sources if not source.ended]
        if not open_:
            return FOREVER
        counting = [source.watermark for source in open_ if not source.silent]
        return min(counting) if counting else max(source.watermark for source in open_)

    def put(self, row: Row, known: int, _source: int) -> None:
        """Takes a row up into its windows, or finds it late; ``known``: the watermark that it is judged by."""
        windows = self.shape.of(row.time)
        in_time = [window for window in windows if window[1] > known]
        if not in_time:
            self.late.append(row)
            return
        self.aggregated += 1
        self.late_partly += len(in_time) < len(windows)
        for window in in_time:
            self.windows_opened += window not in self.open
            self.open.setdefault(window, {}).setdefault(row.key, []).append(row)

    def close(self, watermark: int) -> None:
        """Lets out every window that ends by then."""
        for window in sorted(
            (each for each in self.open if each[1] <= watermark), key=lambda each: (each[1], each[0])
        ):
            groups = self.open.pop(window)
            for key in sorted(groups, key=lambda key: (key is None, key or "")):
                self.results.append(result(window, key, groups[key]))


@dataclass
class JoinModel(TimeModel):
    """A full interval join of two sources: right time - left time lies in ``[lower, upper]``.

    A row expires at its time plus the bound that holds it.  A pair counts unless what was known before one row is beyond the other's
    expiry.  A row without a partner comes alone, unless it is late: no partner could have counted.
    """

    lower: int = 0
    upper: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sides: tuple[list[tuple[Row, int]], list[tuple[Row, int]]] = ([], [])

    def put(self, row: Row, known: int, source: int) -> None:
        self.sides[source].append((row, known))

    def close(self, watermark: int) -> None:
        """Rows wait for the end: what they come to does not depend on when it is looked at."""

    def joined(self) -> tuple[list[tuple[int | None, int | None]], list[int]]:
        """What comes out, as places of rows on either side, in its order, and the late left rows."""
        left, right = self.sides
        holds = max(self.upper, 0), max(-self.lower, 0)
        found: list[tuple[tuple[int, float, float], int | None, int | None]] = []
        for i, (one, known) in enumerate(left):
            for j, (other, seen) in enumerate(right):
                near = self.lower <= other.time - one.time <= self.upper
                counts = known <= other.time + holds[1] and seen <= one.time + holds[0]
                if near and counts and one.key == other.key is not None:
                    found.append(((max(one.time, other.time, known, seen), i, j), i, j))
        matched = {i for _, i, _ in found}, {j for _, _, j in found}
        late = [i for i, (row, known) in enumerate(left) if known > row.time + self.upper + holds[1]]
        for i, (row, known) in enumerate(left):
            if i not in matched[0] and i not in late:
                found.append(((max(row.time + holds[0], known), i, float("inf")), i, None))
        for j, (row, known) in enumerate(right):
            if j not in matched[1] and known <= row.time - self.lower + holds[0]:
                found.append(((max(row.time + holds[1], known), float("inf"), j), None, j))
        return [(i, j) for _, i, j in sorted(found, key=lambda each: each[0])], late


def result(window: Window, key: str | None, rows: Sequence[Row]) -> Result:
    """What a window says of one key's rows, which are in the order in which they came."""
    earliest = min(row.time for row in rows)
    latest = max(row.time for row in rows)
    return Result(
        *window,
        key,
        len(rows),
        sum(row.value for row in rows),
        next(row.value for row in rows if row.time == earliest),
        next(row.value for row in reversed(rows) if row.time == latest),
    )


# -- random schedules ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """What happens, to its end: every source ends within ``moments``."""

    shape: Hopping
    delays: tuple[int, ...]
    moments: tuple[Moment, ...]

    def model(self) -> TimeModel:
        """The model, with all of it having happened."""
        model = TimeModel(self.shape, self.delays)
        for moment in self.moments:
            model.happens(moment)
        return model


def two_sides(seed: int) -> Schedule:
    """A random schedule of two sources."""
    chance = random.Random(seed)
    delays = chance.choice((0, 0, 1, 4, 9)), chance.choice((0, 0, 1, 4, 9))
    return Schedule(Hopping(1, 1), delays, tuple(_moments(chance, 2, True, True, 20)))


def schedule(seed: int, *, silence: bool = True, said: bool = True, most: int = 25) -> Schedule:
    """A random schedule.  ``silence``: sources may fall silent; ``said``: watermarks may rise without rows; ``most``: rows."""
    chance = random.Random(seed)
    size = chance.choice((1, 3, 5, 10, 12))
    every = size if chance.random() < 0.4 else chance.randint(1, size)
    shape = Hopping(size, every, chance.randint(-3, 3))
    delays = tuple(chance.choice((0, 0, 1, 4, 9)) for _ in range(chance.choice((1, 1, 2, 2, 3))))
    return Schedule(shape, delays, tuple(_moments(chance, len(delays), silence, said, most)))


def _moments(chance: random.Random, sources: int, silence: bool, said: bool, most: int) -> Iterator[Moment]:
    now = [chance.randint(-5, 5) for _ in range(sources)]
    open_ = list(range(sources))
    disorder = chance.choice((0, 2, 8, 20))
    for _ in range(chance.randint(0, most)):
        source = chance.choice(open_)
        draw = chance.random()
        if draw < 0.04 and len(open_) > 1:
            open_.remove(source)
            yield Moment("end", source)
        elif draw < 0.12 and silence:
            yield Moment("silent", source)
        elif draw < 0.18 and said:
            yield Moment("watermark", source, time=now[source] + chance.randint(-5, 10))
        else:
            for _ in range(chance.choice((1, 1, 2, 5))):
                now[source] += chance.choice((0, 0, 1, 2, 7))
                time = now[source] - chance.randint(0, disorder)
                yield Moment(
                    "row", source, Row(time, chance.choice(("a", "b", "bb", None)), chance.randint(-9, 9))
                )
    chance.shuffle(open_)
    for source in open_:
        yield Moment("end", source)
