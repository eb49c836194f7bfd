"""Infers format, columns and timestamp unit of a source from its first bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from msgspec.structs import replace

from asyncflow.errors import DataError
from asyncflow.model.batch import Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType, Field, Schema
from asyncflow.plan.tables import Component, Plan
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.ingest.source import SourceStage
from asyncflow.runtime.run.run import iterate
from asyncflow.runtime.wiring.inference import find_schema
from asyncflow.runtime.wiring.wiring import open_source

_EPOCH_YEARS_S = (631_152_000, 4_102_444_800)
"""1990 to 2100: numbers that are an instant between, in some unit, are taken for epochs."""


async def sample(plan: Plan) -> tuple[Component, Schema, dict[str, Field]]:
    """The format and schema of the plan's only source, and its number columns that look like epochs, as timestamp fields."""
    source = plan.sources[0]
    stage = SourceStage(source, open_source(source), Clock(), Offload(1))
    try:
        await find_schema(stage)
        format_, schema = stage.format, stage.schema
    finally:
        await stage.close()
    if format_ is None or schema is None:
        raise DataError("its columns cannot be told", table=source.name)
    found = replace(source, format=format_, schema=schema, time=None)
    epochs: dict[str, Field] = {}
    rows = cast("AsyncGenerator[Batch, None]", iterate(replace(plan, sources=(found,))))
    async with aclosing(rows) as batches:
        async for batch in batches:
            for field, column in zip(batch.schema, batch.columns, strict=True):
                if field.type.is_number and isinstance(column, FixedColumn):
                    values = column.values if column.valid is None else column.values[column.valid]
                    if len(values) and (unit := epoch_unit(float(values[0]))):
                        epochs[field.name] = Field(field.name, DataType.TIMESTAMP, unit)
            break
    return format_, schema, epochs


def epoch_unit(value: float) -> str:
    """The unit in which ``value`` is an instant from 1990 to 2100 (``"ms"``), or ``""``."""
    first, last = _EPOCH_YEARS_S
    for unit, unit_ns in TIMESTAMP_UNITS.items():
        if first <= value * unit_ns / 1e9 < last:
            return unit
    return ""
