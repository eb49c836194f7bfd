"""What a join that reads its right side whole asks of the sources behind it: whether they end, and can be opened again."""

from __future__ import annotations

from collections.abc import Iterator

from asyncflow import connectors
from asyncflow.connectors.contract import SourceConnector
from asyncflow.errors import Problem
from asyncflow.plan import graph
from asyncflow.plan.stages.join import Join
from asyncflow.plan.tables import Component, Plan


def is_bounded(connector: Component) -> bool:
    """Whether a source ends by itself, or may: a pipe and an async iterable do not say.  Opening a connector touches nothing outside."""
    if connector.type in ("python", "stdin"):
        return True
    bounded: bool = connectors.find_source(connector.type).open_source(connector.options).bounded
    return bounded


def ends_by_itself(connector: Component) -> bool:
    """Whether a source is sure to end by itself: not so a pipe or an async iterable."""
    made = connector.object
    if connector.type == "stdin" or hasattr(made, "__aiter__"):
        return False
    if connector.type == "python":
        return bool(getattr(made, "bounded", True))
    return is_bounded(connector)


def _read_once(connector: Component) -> bool:
    """A source that cannot be opened again: standard input, an iterator, a connector that was made already."""
    made = connector.object
    iterator = hasattr(made, "__next__") or hasattr(made, "__anext__")
    return connector.type == "stdin" or iterator or isinstance(made, SourceConnector)


def lookup_problems(plan: Plan) -> Iterator[Problem]:
    """Right sides that may never end, and what cannot be read again."""
    for stage in plan.stages:
        if isinstance(stage, Join) and stage.is_lookup:
            if stage.refresh_ns is not None:
                yield from _refresh_problems(stage, plan)
            for source in graph.sources_of(plan, stage.inputs[1]):
                if source.connector.type and not is_bounded(source.connector):
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
    if left and all(ends_by_itself(each.connector) for each in left):
        yield Problem(
            path,
            f"the left side, {stage.inputs[0]!r}, ends by itself: which rows saw which table would hang on how fast it is read",
            "leave refresh out: the right side is read once",
        )
    for source in right:
        if _read_once(source.connector):
            hint = "hand over an iterable that can be gone through more than once, such as a list"
            yield Problem(
                path,
                f"the source {source.name!r} can be read only once",
                hint if source.connector.type == "python" else "",
            )
