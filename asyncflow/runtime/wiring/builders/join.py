"""Builds joins: names to positions, which of the joins it is, and in what order the two sides are read."""

from __future__ import annotations

from asyncflow.errors import PipelineError
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import TwoInputOperator
from asyncflow.operators.joins.as_of import AsOfJoin
from asyncflow.operators.joins.interval import IntervalJoin
from asyncflow.operators.joins.lookup import LookupJoin
from asyncflow.operators.joins.results import Shape
from asyncflow.operators.joins.timed import JoinSpec
from asyncflow.operators.joins.window import WindowJoin
from asyncflow.plan.stages.join import Join
from asyncflow.plan.tables import Wanted
from asyncflow.plan.windows import Hopping, Tumbling
from asyncflow.runtime.stages.join import LEFT, RIGHT, TwoInputStage
from asyncflow.runtime.stages.readers import AsTheyCome, OneAfterOther
from asyncflow.runtime.stages.refresh import RefreshedStage
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.site import Site
from asyncflow.runtime.wiring.wires import ROWS_AHEAD, narrowed, taken


def build(table: Join, site: Site) -> Stage:
    left, right = (narrowed(site.read[side], site.wanted[side]) for side in (LEFT, RIGHT))
    if left is None or right is None:
        raise PipelineError(list(table.unknown_sides(site.read)))
    columns = [
        taken(name, side, site.flowing) for name, side in zip(table.inputs, (left, right), strict=True)
    ]
    channel = site.wires.channel(table, columns)
    made = operator(table, left, right, given=site.given, parts=site.join_parts)
    if not table.is_lookup:
        both = AsTheyCome(channel, 2, in_step=site.order.in_step(table.inputs), apart=True)
        site.wires.reads(table, [channel], both)
        return TwoInputStage(table.name, both, made, table.ways, **site.of_run)
    account = site.wires.memory.account(table.name, ROWS_AHEAD)
    most = table.max_state_bytes
    reader = OneAfterOther(channel, table.inputs, (RIGHT, LEFT), account, max_held_bytes=most, apart=True)
    site.wires.reads(table, [channel], reader)
    if table.refresh_ns is not None and isinstance(made, LookupJoin):
        return RefreshedStage(table, reader, made, table.ways, site.tables, columns[RIGHT], **site.of_run)
    return TwoInputStage(table.name, reader, made, table.ways, **site.of_run)


def operator(
    stage: Join, left: Schema, right: Schema, *, given: Wanted = None, parts: int = 1
) -> TwoInputOperator:
    """The operator over rows of these columns, in so many parts where it can be cut; its ``output`` is the schema of its results.

    ``given``: the columns that others need of the results; a join that holds columns of both sides holds no others."""
    spec = _spec(
        stage, left, right, given if stage.within_ns is not None or stage.as_of is not None else None
    )
    if stage.within_ns is not None:
        lower_ns, upper_ns = stage.within_ns
        return IntervalJoin(spec, lower_ns=lower_ns, upper_ns=upper_ns, parts=parts)
    if stage.as_of is not None:
        return AsOfJoin(spec, direction=stage.as_of, tolerance_ns=stage.tolerance_ns)
    match stage.window:
        case Tumbling(size_ns=size_ns, offset_ns=offset_ns):
            return WindowJoin(spec, size_ns=size_ns, every_ns=size_ns, offset_ns=offset_ns)
        case Hopping(size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns):
            return WindowJoin(spec, size_ns=size_ns, every_ns=every_ns, offset_ns=offset_ns)
        case _:
            return LookupJoin(spec)


def _spec(stage: Join, left: Schema, right: Schema, given: Wanted) -> JoinSpec:
    schema = stage.output((left, right))
    assert schema is not None
    taken = stage.right_columns(left.names, right.names)
    own = list(left.names)
    if given is not None:
        taken = {name: called for name, called in taken.items() if called in given}
        own = [name for name in own if name in given] or own[:1]
        schema = schema.select([*own, *taken.values()])
    # Keys that stand once are the right row's where there is no left one.
    merged = [name for name, other in stage.on if name == other] if stage.kind in ("right", "full") else []
    merged = [name for name in merged if name in own]
    kept = [*taken, *merged]
    shape = Shape(
        schema,
        left=tuple(range(len(own))),
        right=tuple(range(len(taken))),
        merged=tuple((own.index(name), kept.index(name)) for name in merged),
    )
    return JoinSpec(
        stage.kind,
        shape,
        keys=(
            tuple(left.index(name) for name, _ in stage.on),
            tuple(right.index(name) for _, name in stage.on),
        ),
        key_types=tuple(left[name].type.value for name, _ in stage.on),
        columns=(tuple(map(left.index, own)), tuple(map(right.index, kept))),
        max_state_bytes=stage.max_state_bytes,
    )
