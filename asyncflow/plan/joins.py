"""What a join means in the plan: the columns of its rows, what it reads of its inputs, what can be wrong with it, what it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from asyncflow.errors import Problem
from asyncflow.model.durations import format_duration, format_size
from asyncflow.model.schema import DataType, Schema
from asyncflow.plan import graph
from asyncflow.plan.expressions.typed import to_one_type
from asyncflow.plan.names import nearest
from asyncflow.plan.tables import Join, Plan, Sequence
from asyncflow.plan.windows import Hopping, Tumbling, too_many

KINDS = ("inner", "left", "right", "full", "semi", "anti")
DIRECTIONS = ("backward", "forward", "nearest")


def merged_keys(stage: Join) -> tuple[str, ...]:
    """Key columns of the same name on both sides: they stand once in the result."""
    return tuple(left for left, right in stage.on if left == right)


def right_columns(stage: Join, left: Collection[str], right: Iterable[str]) -> dict[str, str]:
    """The right columns of a result and what they are called there; none where only left rows come out."""
    if stage.kind in ("semi", "anti"):
        return {}
    merged = merged_keys(stage)
    return {name: name + stage.suffix if name in left else name for name in right if name not in merged}


def join_schema(stage: Join, left: Schema | None, right: Schema | None) -> Schema | None:
    """The columns of the result: the left ones, then the right ones; None where they are not known or a name comes twice."""
    if left is None or right is None:
        return None
    columns: list[tuple[str, DataType]] = [(field.name, field.type) for field in left]
    columns += [
        (name, right[old].type) for old, name in right_columns(stage, left.names, right.names).items()
    ]
    return Schema.of(columns) if len(dict(columns)) == len(columns) else None


def join_reads(
    stage: Join,
    wanted: Collection[str] | None,
    left: Schema | None,
    right: Schema | None,
    *,
    late: bool,
) -> tuple[set[str] | None, set[str] | None]:
    """The columns read of the left and the right table where ``wanted`` are read of the result (None: all, on either side)."""
    keys_left, keys_right = {name for name, _ in stage.on}, {name for _, name in stage.on}
    if left is None or right is None or wanted is None:
        alone = stage.kind in ("semi", "anti") and wanted is None
        return None, keys_right if alone else None
    names = right_columns(stage, left.names, right.names)
    from_right = {old for old, name in names.items() if name in wanted}
    # A column is called NAME_right because there is a left one of its name: that one has to be there.
    from_left = {name for name in left.names if name in wanted or name in from_right}
    return None if late else from_left | keys_left, from_right | keys_right


def join_problems(stage: Join, plan: Plan, left: Schema | None, right: Schema | None) -> Iterable[Problem]:
    path = f"stages.{stage.name}"
    yield from _modes(stage, path)
    yield from _event_time(stage, path)
    yield from _keys(stage, path, left, right)
    if stage.is_lookup:
        shared = {s.name for s in graph.sources_of(plan, stage.inputs[0])} & {
            s.name for s in graph.sources_of(plan, stage.inputs[1])
        }
        for name in sorted(shared):
            yield Problem(
                f"{path}.right",
                f"both sides come from {name!r}, and the right one is read whole before the left one",
                'say how they meet in time: within = "10m", window = {...} or as_of = "backward"',
            )
    if stage.refresh_ns is not None:
        yield from _refresh(stage, stage.refresh_ns, f"{path}.refresh", plan)
    if left is None or right is None:
        return
    taken = {name: f"the left column {name!r}" for name in left.names}
    for old, name in right_columns(stage, left.names, right.names).items():
        if name in taken:
            yield Problem(
                f"{path}.suffix",
                f"{taken[name]} and the right column {old!r} would both be called {name!r}",
                "another suffix tells them apart",
            )
        taken.setdefault(name, f"the right column {old!r}")


def _modes(stage: Join, path: str) -> Iterable[Problem]:
    if stage.kind not in KINDS:
        yield Problem(f"{path}.kind", f"unknown kind {stage.kind!r}", nearest(stage.kind, KINDS))
    if stage.as_of is not None and stage.as_of not in DIRECTIONS:
        yield Problem(f"{path}.as_of", f"unknown direction {stage.as_of!r}", nearest(stage.as_of, DIRECTIONS))
    modes = {"within": stage.within_ns, "window": stage.window, "as_of": stage.as_of}
    given = [key for key, value in modes.items() if value is not None]
    for key in given[1:]:
        yield Problem(
            f"{path}.{key}", f"it stands beside {given[0]}", "a join has one of within, window and as_of"
        )
    if stage.within_ns is not None and stage.within_ns[0] > stage.within_ns[1]:
        low, high = map(format_duration, stage.within_ns)
        yield Problem(f"{path}.within", f"it begins ({low}) after its end ({high})")
    match stage.window:
        case None:
            pass
        case Tumbling(size_ns=size):
            if size <= 0:
                yield Problem(f"{path}.window.tumbling", "a window must be longer than 0s")
        case Hopping(size_ns=size, every_ns=every):
            if size <= 0 or every <= 0:
                key = "hopping" if size <= 0 else "every"
                yield Problem(f"{path}.window.{key}", "it must be longer than 0s")
            elif told := too_many(size, every):
                yield Problem(f"{path}.window.every", *told)
            elif every > size:
                yield Problem(
                    f"{path}.window.every",
                    f"every ({format_duration(every)}) is longer than the window ({format_duration(size)}): rows would fall between",
                )
        case _:
            yield Problem(
                f"{path}.window", "the windows of a join are tumbling or hopping", '{ tumbling = "1m" }'
            )
    if stage.tolerance_ns is not None:
        if stage.as_of is None:
            yield Problem(f"{path}.tolerance", "it belongs to as_of", 'as_of = "backward"')
        elif stage.tolerance_ns < 0:
            yield Problem(f"{path}.tolerance", "it cannot be negative")
    elif stage.as_of in ("forward", "nearest"):
        yield Problem(
            f"{path}.tolerance", f"as_of = {stage.as_of!r} needs one", "without it a row would wait for ever"
        )
    elif stage.as_of is not None and stage.kind in ("right", "full"):
        yield Problem(
            f"{path}.tolerance",
            f"kind = {stage.kind!r} needs one",
            "without it a right row would wait for ever",
        )
    if stage.max_state_bytes <= 0:
        yield Problem(f"{path}.max_state", "it must be at least 1 byte")


def _refresh(stage: Join, refresh_ns: int, path: str, plan: Plan) -> Iterable[Problem]:
    if refresh_ns <= 0:
        yield Problem(path, "it must be longer than 0s")
    if not stage.is_lookup:
        beside = (
            "within" if stage.within_ns is not None else "window" if stage.window is not None else "as_of"
        )
        yield Problem(path, f"it stands beside {beside}", "only a table that is read whole is read again")
        return
    if stage.kind in ("right", "full"):
        yield Problem(
            path,
            f"kind = {stage.kind!r} gives right rows without a partner at the end, and a table that is read again has none",
            'kind = "inner" or "left"',
        )
    again = graph.part(plan, stage.inputs[1])
    for each in again.stages:
        if isinstance(each, Sequence):
            yield Problem(
                path,
                f"{stage.inputs[1]!r} comes from {each.name!r}, a sequence, which goes on and is not read again",
            )
        if isinstance(each, Join) and each.refresh_ns is not None:
            yield Problem(
                path, f"{stage.inputs[1]!r} comes from {each.name!r}, which has a refresh of its own"
            )
    inside = {stage.name, *(each.name for each in again.stages)}
    names = {each.name for each in (*again.sources, *again.stages)}
    for reader in (*plan.stages, *plan.sinks):
        for name in () if reader.name in inside else reader.inputs:
            if graph.owner(name) in names:
                yield Problem(
                    path,
                    f"{name!r} is read again for this join alone, and {reader.name!r} reads it too",
                    f"let {reader.name} read a source of its own",
                )


def _event_time(stage: Join, path: str) -> Iterable[Problem]:
    if not stage.is_lookup:
        for side, name in zip(("left", "right"), stage.inputs, strict=True):
            if name.endswith(".rejected"):
                yield Problem(f"{path}.{side}", f"the rows of {name!r} have no event time")


def _keys(stage: Join, path: str, left: Schema | None, right: Schema | None) -> Iterable[Problem]:
    for first, second in stage.on:
        there = True
        for side, schema, name in (("left", left, first), ("right", right, second)):
            if schema is not None and name not in schema:
                there = False
                table = stage.inputs[side == "right"]
                yield Problem(
                    f"{path}.on.{first}", f"unknown column {name!r} in {table!r}", nearest(name, schema.names)
                )
        if there and left is not None and right is not None and left[first].type is not right[second].type:
            yield Problem(
                f"{path}.on.{first}",
                f"it is {left[first].type.value} on the left and {right[second].type.value} on the right",
                f"in a derive stage before it: {to_one_type((left[first].type, right[second].type))}",
            )
    if len(dict(stage.on)) < len(stage.on):
        yield Problem(f"{path}.on", "a left column stands there twice")


def join_texts(stage: Join) -> dict[str, object]:
    """The join in words, for explain."""
    texts: dict[str, object] = {"kind": stage.kind, "on": dict(stage.on)}
    if stage.within_ns is not None:
        low, high = map(format_duration, stage.within_ns)
        texts["within"] = f"right time - left time from {low} to {high}"
    elif stage.as_of is not None:
        texts["as_of"] = stage.as_of + (
            "" if stage.tolerance_ns is None else f", at most {format_duration(stage.tolerance_ns)} apart"
        )
    elif stage.is_lookup:
        again = "" if stage.refresh_ns is None else f", and again every {format_duration(stage.refresh_ns)}"
        texts["lookup"] = f"{stage.inputs[1]} is read whole first{again}"
    return texts


def join_state(stage: Join) -> str:
    """What a join holds and until when."""
    limit = f"at most {format_size(stage.max_state_bytes)}"
    if stage.is_lookup:
        until = "to the end" if stage.refresh_ns is None else "old and new while they are read again"
        return f"all rows of {stage.inputs[1]} by key, {until}; {limit}"
    if stage.within_ns is not None:
        left, right = max(0, stage.within_ns[1]), max(0, -stage.within_ns[0])
    elif stage.as_of is not None:
        wait = 0 if stage.as_of == "backward" else stage.tolerance_ns or 0
        if stage.tolerance_ns is None:
            return (
                f"rows of {stage.inputs[0]} until the watermark has passed them, "
                f"the last row of each key of {stage.inputs[1]} for ever (no tolerance); {limit}"
            )
        left, right = wait, stage.tolerance_ns + (wait if stage.as_of == "nearest" else 0)
    else:
        return f"rows of both sides by key, until the watermark reaches the end of their last window; {limit}"
    return (
        f"rows by key, until the watermark has passed them by {format_duration(left)} ({stage.inputs[0]}) "
        f"or {format_duration(right)} ({stage.inputs[1]}); {limit}"
    )


def unknown_side(stage: Join, schemas: Mapping[str, Schema | None]) -> Iterable[Problem]:
    """The sides whose columns are not known when the run starts."""
    for side, name in zip(("left", "right"), stage.inputs, strict=True):
        if schemas.get(name) is None:
            yield Problem(
                f"stages.{stage.name}.{side}",
                f"the columns of {name!r} are not known",
                "its source needs a schema, or its function one: .map(..., schema=...)",
            )
