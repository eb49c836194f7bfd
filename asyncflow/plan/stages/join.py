"""The stage ``join``: two tables of different columns into one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration, format_size
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan import capabilities, graph
from asyncflow.plan.expressions.typed import to_one_type
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted
from asyncflow.plan.windows import Hopping, Tumbling, WindowShape, shape_problems, window_text

KINDS = ("inner", "left", "right", "full", "semi", "anti")
DIRECTIONS = ("backward", "forward", "nearest")
SIDES = ("left", "right")


class Join(Stage, frozen=True):
    """``inputs`` are the left and the right table.  At most one of ``within_ns`` (right time - left time lies between the two, with them),
    ``window`` and ``as_of`` is given; with none of them the right table is read whole first (a lookup).

    ``on``: pairs of a left and a right column, equal in rows that meet.

    ``refresh_ns``: the right table of a lookup is read again, so long by the wall clock after its last reading ended, beside the running
    flow.  Once the new table is whole it takes the old one's place, between two batches of the left table: no row ever sees half a table,
    and rows that came before have seen the old one.  Where a reading fails (the file is gone or broken off, a record is bad and the source
    says ``on_error = "fail"``, ``max_state_bytes`` does not hold the old and the new table together) the old one stays, a warning says so,
    and the run goes on.  Whatever can be read is a table: a file is best replaced by renaming another over it.  Where the left table ends
    the join ends, whatever is being read again.  Which rows see which table hangs on the clock, so a left side that is sure to end is
    refused, as is a kind whose right rows without a partner would come at the end.
    """

    on: tuple[tuple[str, str], ...]
    kind: str = "inner"
    within_ns: tuple[int, int] | None = None
    window: WindowShape | None = None
    as_of: str | None = None
    tolerance_ns: int | None = None
    suffix: str = "_right"
    max_state_bytes: int = 1 << 30
    refresh_ns: int | None = None

    type: ClassVar[str] = "join"
    side_outputs: ClassVar[tuple[str, ...]] = ("late",)
    apart: ClassVar[bool] = True

    def input_key(self, port: int) -> str:
        return SIDES[port]

    @property
    def ways(self) -> tuple[str, ...]:
        return ("left_matched", "left_unmatched", "late", "right_matched", "right_unmatched", "late_right")

    @property
    def is_lookup(self) -> bool:
        return self.within_ns is None and self.window is None and self.as_of is None

    # -- columns -------------------------------------------------------------------------------------------------------

    def right_columns(self, left: Collection[str], right: Iterable[str]) -> dict[str, str]:
        """The right columns of the result and what they are called there; none where only left rows come out.

        Key columns of the same name on both sides stand once, among the left ones."""
        if self.kind in ("semi", "anti"):
            return {}
        merged = {name for name, other in self.on if name == other}
        return {name: name + self.suffix if name in left else name for name in right if name not in merged}

    def output(self, read: Read) -> Schema | None:
        """The left columns, then the right ones."""
        left, right = read
        if left is None or right is None:
            return None
        columns: list[tuple[str, DataType]] = [(field.name, field.type) for field in left]
        taken = self.right_columns(left.names, right.names)
        columns += [(name, right[old].type) for old, name in taken.items()]
        return Schema.of(columns) if len(dict(columns)) == len(columns) else None

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        left, right = read
        keys_left = frozenset(name for name, _ in self.on)
        keys_right = frozenset(name for _, name in self.on)
        if left is None or right is None or wanted is None:
            alone = self.kind in ("semi", "anti") and wanted is None
            return None, keys_right if alone else None
        names = self.right_columns(left.names, right.names)
        from_right = {old for old, name in names.items() if name in wanted}
        # A column is called NAME_right because there is a left one of its name: that one has to be there.
        from_left = {name for name in left.names if name in wanted or name in from_right}
        return keys_left | from_left, keys_right | from_right

    # -- problems ------------------------------------------------------------------------------------------------------

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        left, right = read
        yield from self._words()
        yield from self._meeting()
        yield from self._times()
        yield from self._keys(left, right)
        if self.is_lookup:
            yield from self._one_source(plan)
        if self.refresh_ns is not None:
            yield from self._refresh(self.refresh_ns, plan)
        if left is not None and right is not None:
            yield from self._names(left, right)

    def _words(self) -> Iterable[Problem]:
        if self.kind not in KINDS:
            yield Problem(self.path("kind"), f"unknown kind {self.kind!r}", nearest(self.kind, KINDS))
        if self.as_of is not None and self.as_of not in DIRECTIONS:
            hint = nearest(self.as_of, DIRECTIONS)
            yield Problem(self.path("as_of"), f"unknown direction {self.as_of!r}", hint)
        if self.max_state_bytes <= 0:
            yield Problem(self.path("max_state"), "it must be at least 1 byte")

    def _meeting(self) -> Iterable[Problem]:
        """How the two meet in time."""
        modes = {"within": self.within_ns, "window": self.window, "as_of": self.as_of}
        given = [key for key, value in modes.items() if value is not None]
        for key in given[1:]:
            hint = "a join has one of within, window and as_of"
            yield Problem(self.path(key), f"it cannot be given with {given[0]}", hint)
        if self.within_ns is not None and self.within_ns[0] > self.within_ns[1]:
            low, high = map(format_duration, self.within_ns)
            yield Problem(self.path("within"), f"it begins ({low}) after its end ({high})")
        if isinstance(self.window, Tumbling | Hopping):
            yield from shape_problems(self.window, self.path("window"))
        elif self.window is not None:
            hint = '{ tumbling = "1m" }'
            yield Problem(self.path("window"), "the windows of a join are tumbling or hopping", hint)
        path = self.path("tolerance")
        if self.tolerance_ns is not None:
            if self.as_of is None:
                yield Problem(path, "it belongs to as_of", 'as_of = "backward"')
            elif self.tolerance_ns < 0:
                yield Problem(path, "it cannot be negative")
        elif self.as_of in ("forward", "nearest"):
            hint = "without it a row would wait for ever"
            yield Problem(path, f"as_of = {self.as_of!r} needs one", hint)
        elif self.as_of is not None and self.kind in ("right", "full"):
            hint = "without it a right row would wait for ever"
            yield Problem(path, f"kind = {self.kind!r} needs one", hint)

    def _times(self) -> Iterable[Problem]:
        if self.is_lookup:
            return
        for side, name in zip(SIDES, self.inputs, strict=True):
            if name.endswith(".rejected"):
                yield Problem(self.path(side), f"the rows of {name!r} have no event time")

    def _keys(self, left: Schema | None, right: Schema | None) -> Iterable[Problem]:
        for first, second in self.on:
            path = self.path("on", first)
            there = True
            for table, schema, name in zip(self.inputs, (left, right), (first, second), strict=True):
                if schema is not None and name not in schema:
                    there = False
                    hint = nearest(name, schema.names)
                    yield Problem(path, f"unknown column {name!r} in {table!r}", hint)
            if (
                there
                and left is not None
                and right is not None
                and left[first].type is not right[second].type
            ):
                types = (left[first].type, right[second].type)
                yield Problem(
                    path,
                    f"it is {types[0].value} on the left and {types[1].value} on the right",
                    f"in a derive stage before it: {to_one_type(types)}",
                )
        if len(dict(self.on)) < len(self.on):
            yield Problem(self.path("on"), "a left column is named twice")

    def _one_source(self, plan: Plan) -> Iterable[Problem]:
        left, right = ({source.name for source in graph.sources_of(plan, name)} for name in self.inputs)
        for name in sorted(left & right):
            yield Problem(
                self.path("right"),
                f"both sides come from {name!r}, and the right one is read whole before the left one",
                'say how they meet in time: within = "10m", window = {...} or as_of = "backward"',
            )

    def _names(self, left: Schema, right: Schema) -> Iterable[Problem]:
        taken = {name: f"the left column {name!r}" for name in left.names}
        for old, name in self.right_columns(left.names, right.names).items():
            if name in taken:
                yield Problem(
                    self.path("suffix"),
                    f"{taken[name]} and the right column {old!r} would both be called {name!r}",
                    "another suffix tells them apart",
                )
            taken.setdefault(name, f"the right column {old!r}")

    def _refresh(self, refresh_ns: int, plan: Plan) -> Iterable[Problem]:
        path = self.path("refresh")
        if refresh_ns <= 0:
            yield Problem(path, "it must be longer than 0s")
        if not self.is_lookup:
            beside = (
                "within" if self.within_ns is not None else "window" if self.window is not None else "as_of"
            )
            yield Problem(
                path, f"it cannot be given with {beside}", "only a table that is read whole is read again"
            )
            return
        if self.kind in ("right", "full"):
            yield Problem(
                path,
                f"kind = {self.kind!r} gives right rows without a partner at the end, and a table that is read again has none",
                'kind = "inner" or "left"',
            )
        again = graph.part(plan, self.inputs[1])
        for each in again.stages:
            if each.not_again:
                yield Problem(path, f"{self.inputs[1]!r} comes from {each.name!r}, {each.not_again}")
        inside = {self.name, *(each.name for each in again.stages)}
        names = {each.name for each in again.tables}
        for reader in plan.readers:
            for name in () if reader.name in inside else reader.inputs:
                if graph.owner(name) in names:
                    yield Problem(
                        path,
                        f"{name!r} is read again for this join alone, and {reader.name!r} reads it too",
                        f"let {reader.name} read a source of its own",
                    )

    def source_problems(self, plan: Plan) -> Iterable[Problem]:
        """Of a lookup: right sides that never end, and with ``refresh`` left sides that end and right sides that are read once."""
        if not self.is_lookup:
            return
        if self.refresh_ns is not None:
            yield from self._read_again(plan)
        for source in graph.sources_of(plan, self.inputs[1]):
            if capabilities.of_source(source.connector).bounded is False:
                yield Problem(
                    self.path("right"),
                    f"it would be read whole first, but its source {source.name!r} ({source.connector.type}) may never end",
                    'say how the two meet in time: within = "10m", window = {...} or as_of = "backward"',
                )

    def _read_again(self, plan: Plan) -> Iterable[Problem]:
        path = self.path("refresh")
        left, right = (
            [each for each in graph.sources_of(plan, name) if each.connector.type] for name in self.inputs
        )
        if left and all(capabilities.of_source(each.connector).bounded for each in left):
            yield Problem(
                path,
                f"the left side, {self.inputs[0]!r}, ends by itself: which rows saw which table would hang on how fast it is read",
                "leave refresh out: the right side is read once",
            )
        for source in right:
            if not capabilities.of_source(source.connector).rereadable:
                hint = "hand over an iterable that can be gone through more than once, such as a list"
                made = source.connector.object is not None
                yield Problem(path, f"the source {source.name!r} can be read only once", hint if made else "")

    def unknown_sides(self, read: Read) -> Iterable[Problem]:
        """The sides whose columns are not known when the run starts."""
        for side, name, schema in zip(SIDES, self.inputs, read, strict=True):
            if schema is None:
                yield Problem(
                    self.path(side),
                    f"the columns of {name!r} are not known",
                    "its source needs a schema, or its function one: .map(..., schema=...)",
                )

    @property
    def not_again(self) -> str:
        return "" if self.refresh_ns is None else "which has a refresh of its own"

    # -- words ---------------------------------------------------------------------------------------------------------

    def describe(self, read: Read) -> dict[str, Any]:
        description: dict[str, Any] = {"kind": self.kind, "on": dict(self.on)}
        if self.within_ns is not None:
            low, high = map(format_duration, self.within_ns)
            description["within"] = f"right time - left time from {low} to {high}"
        elif self.as_of is not None:
            apart = (
                "" if self.tolerance_ns is None else f", at most {format_duration(self.tolerance_ns)} apart"
            )
            description["as_of"] = self.as_of + apart
        elif self.is_lookup:
            again = "" if self.refresh_ns is None else f", and again every {format_duration(self.refresh_ns)}"
            description["lookup"] = f"{self.inputs[1]} is read whole first{again}"
        if self.window is not None:
            description["window"] = window_text(self.window)
        return description

    def state_text(self) -> str:
        limit = f"at most {format_size(self.max_state_bytes)}"
        left, right = self.inputs
        if self.is_lookup:
            until = "to the end" if self.refresh_ns is None else "old and new while they are read again"
            return f"all rows of {right} by key, {until}; {limit}"
        if self.within_ns is not None:
            past = max(0, self.within_ns[1]), max(0, -self.within_ns[0])
        elif self.as_of is not None:
            wait = 0 if self.as_of == "backward" else self.tolerance_ns or 0
            if self.tolerance_ns is None:
                return (
                    f"rows of {left} until the watermark has passed them, "
                    f"the last row of each key of {right} for ever (no tolerance); {limit}"
                )
            past = wait, self.tolerance_ns + (wait if self.as_of == "nearest" else 0)
        else:
            return f"rows of both sides by key, until the watermark reaches the end of their last window; {limit}"
        return (
            f"rows by key, until the watermark has passed them by {format_duration(past[0])} ({left}) "
            f"or {format_duration(past[1])} ({right}); {limit}"
        )

    # -- event time ----------------------------------------------------------------------------------------------------

    def times(self, before: tuple[TimeColumns, ...], read: Read) -> TimeColumns:
        """The columns of both sides."""
        mine, others = before
        if self.is_lookup or self.kind in ("semi", "anti"):
            return mine
        left, right = read
        if left is None or right is None or not mine or not others:
            return ()
        names = self.right_columns(left.names, right.names)
        return mine + tuple(each._replace(name=names[each.name]) for each in others if each.name in names)

    @property
    def delay_ns(self) -> int:
        if self.within_ns is not None:
            lower, upper = self.within_ns
            return max(upper, 0) - min(lower, 0)
        if isinstance(self.window, Tumbling | Hopping):
            return self.window.size_ns
        return 2 * (self.tolerance_ns or 0)

    @property
    def closes(self) -> str:
        return "at once" if self.is_lookup else "time"
