"""The user's own function in a flow: batch to batch (``.map``) or row to row (``.map_rows``), plain or async.

What a function may give back: for ``.map`` a Batch or a dict of arrays (or None: no rows); for ``.map_rows`` a dict (or None: the row
goes).  Rows keep their event times: a row of ``map_rows`` its own; a result of ``map`` with as many rows as it was given row for row,
one of another length the greatest event time of the batch it was made from (no row of it can be late).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asyncflow.errors import StageError
from asyncflow.model.batch import Batch
from asyncflow.model.schema import Schema
from asyncflow.operators.contract import Output
from asyncflow.plan.tables import MapBatches
from asyncflow.runtime.python_source import ObjectSource, infer_schema
from asyncflow.runtime.stage import AsyncOperator


class MapOperator(AsyncOperator):
    """Calls the function; the schema of its results is as declared, or as the first result shows."""

    def __init__(self, stage: MapBatches, _read: Schema) -> None:
        super().__init__()
        self._function = stage.function
        self._rows = stage.rows
        self._schema = stage.schema
        self._reader = ObjectSource(())

    def process(self, batch: Batch) -> list[Output]:
        raise NotImplementedError("a user's function is awaited: process_async")

    async def process_async(self, batch: Batch) -> list[Output]:
        result = await (self._map_rows(batch) if self._rows else self._map(batch))
        return [] if result is None else [Output(result)]

    async def _call(self, argument: Any) -> Any:
        result = self._function(argument)
        return await result if inspect.isawaitable(result) else result

    async def _map(self, batch: Batch) -> Batch | None:
        result = await self._call(batch)
        if result is None:
            return None
        if isinstance(result, Batch) and result.time is not None:
            return result
        rows = self._batch([result])
        if rows.num_rows == batch.num_rows:
            return _timed_as(batch, rows)
        latest = np.full(rows.num_rows, batch.time.max() if batch.time is not None else 0, np.int64)
        return replace(rows, time=latest, watermark_before=batch.watermark_before, origin=batch.origin)

    async def _map_rows(self, batch: Batch) -> Batch | None:
        kept, results = [], []
        for position, row in enumerate(batch.to_pylist()):
            result = await self._call(row)
            if result is None:
                continue
            if not isinstance(result, Mapping):
                raise TypeError(f"the function of map_rows gives a dict or None, not {type(result).__name__}")
            kept.append(position)
            results.append(result)
        if not results:
            return None
        return _timed_as(batch.take(np.array(kept, np.intp)), self._batch(results))

    def _batch(self, objects: Sequence[Any]) -> Batch:
        if self._schema is None:
            self._schema = _nanoseconds(infer_schema(objects[0]))
        converted = self._reader.convert(objects, self._schema, None)
        if converted.rejects:
            raise StageError(f"a result does not fit the schema: {converted.rejects[0][1]}")
        return converted.batch


def _timed_as(original: Batch, rows: Batch) -> Batch:
    return replace(original, schema=rows.schema, columns=rows.columns, num_rows=rows.num_rows)


def _nanoseconds(schema: Schema) -> Schema:
    """Timestamps in a user's dicts are ns, as ``to_pylist`` gives them."""
    return Schema(tuple(replace(field, unit="") for field in schema))
