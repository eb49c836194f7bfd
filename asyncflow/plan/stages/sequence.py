"""The source ``sequence``: two sources read one after the other as one table, the past and then what is live."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from asyncflow.errors import Problem
from asyncflow.model.schema import Schema
from asyncflow.plan import graph
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Plan, Read, Stage, TimeColumns, Wanted


class Sequence(Stage, frozen=True):
    """Written as ``[sources.NAME]``, its ``inputs`` (the past, the live source) as ``of``.

    ``unique``: columns by which rows of the overlap are recognised; none: by event time.
    """

    unique: tuple[str, ...] = ()

    type: ClassVar[str] = "sequence"
    room: ClassVar[str] = "sources"
    side_outputs: ClassVar[tuple[str, ...]] = ("duplicate", "late")
    own_watermarks: ClassVar[bool] = True

    def input_key(self, port: int) -> str:
        return "of"

    @property
    def ways(self) -> tuple[str, ...]:
        return ("duplicate", "late", "rows_out")

    def output(self, read: Read) -> Schema | None:
        return None if read[0] is None else read[0].plain()

    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        return (None if wanted is None else wanted | set(self.unique),)

    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        sources = {source.name: source for source in plan.sources}
        if len(self.inputs) not in (0, 2):
            yield Problem(self.path("of"), "a sequence is of two sources: the past, then what is live")
        for name in self.inputs:
            if name not in sources and name in graph.readable(plan):
                yield Problem(self.path("of"), f"{name!r} is not a source", nearest(name, sources))
        for source in (sources[name] for name in self.inputs if name in sources):
            if source.time is None:
                hint = 'name one: time = "COLUMN"'
                yield Problem(
                    f"sources.{source.name}.time", f"the sequence {self.name!r} needs event times", hint
                )
        for name in self.unique:
            if read[0] is not None and name not in read[0]:
                hint = nearest(name, read[0].names)
                yield Problem(self.path("unique"), f"unknown column {name!r}", hint)

    def describe(self, read: Read) -> dict[str, Any]:
        return {"overlap": f"unique {', '.join(self.unique)}" if self.unique else "event time"}

    def state_text(self) -> str:
        kept = "rows of the live side that wait"
        return (
            f"{kept}, and the keys of the overlap, until the live side has passed it" if self.unique else kept
        )

    @property
    def closes(self) -> str:
        return "at once"

    @property
    def opened_first(self) -> tuple[str, ...]:
        """Nothing may fall between the past's end and the first of what is live, so that is opened before the past is read."""
        return self.inputs[-1:]

    @property
    def not_again(self) -> str:
        return "a sequence, which goes on and is not read again"
