"""Problems of a lookup join with the sources behind its sides.

The join reads its right side whole before the first row of the left, so the right side must end; with ``refresh`` the right side is read
again and again, and the left side must not end.
"""

from __future__ import annotations

from collections.abc import Iterator

from asyncflow.errors import Problem
from asyncflow.plan import capabilities, graph
from asyncflow.plan.stages.join import Join
from asyncflow.plan.tables import Plan


def lookup_problems(plan: Plan) -> Iterator[Problem]:
    """Right sides that never end, and with ``refresh`` left sides that end and right sides that are read once."""
    for stage in plan.stages:
        if isinstance(stage, Join) and stage.is_lookup:
            if stage.refresh_ns is not None:
                yield from _refresh_problems(stage, plan)
            for source in graph.sources_of(plan, stage.inputs[1]):
                if capabilities.of_source(source.connector).bounded is False:
                    yield Problem(
                        f"stages.{stage.name}.right",
                        f"it would be read whole first, but its source {source.name!r} ({source.connector.type}) may never end",
                        'say how the two meet in time: within = "10m", window = {...} or as_of = "backward"',
                    )


def _refresh_problems(stage: Join, plan: Plan) -> Iterator[Problem]:
    path = f"stages.{stage.name}.refresh"
    left, right = (
        [each for each in graph.sources_of(plan, name) if each.connector.type] for name in stage.inputs
    )
    if left and all(capabilities.of_source(each.connector).bounded for each in left):
        yield Problem(
            path,
            f"the left side, {stage.inputs[0]!r}, ends by itself: which rows saw which table would hang on how fast it is read",
            "leave refresh out: the right side is read once",
        )
    for source in right:
        if not capabilities.of_source(source.connector).rereadable:
            hint = "hand over an iterable that can be gone through more than once, such as a list"
            yield Problem(
                path,
                f"the source {source.name!r} can be read only once",
                "" if source.connector.object is None else hint,
            )
