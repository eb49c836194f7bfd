"""The user's own function in a flow: batch to batch (``.map``) or row to row (``.map_rows``), plain or async.

Results.  A function of ``.map`` returns a Batch or a dict of arrays (None: no rows); a function of ``.map_rows`` returns a dict (None: the
row is dropped and counts as ``filtered``).  Results are read by the rules of a source in Python (``objects``): a result row whose values
do not fit the schema is rejected, whatever ``on_error`` says.

Times.  Result rows have the times of their time column (``retiming``); a plan with a later stage by event time needs that column.
Without a time column result rows keep the times of the rows they were made from, one by one; where the number of rows differs, all
have the greatest time of the batch, and none is late.

Failures.  A call that raises, exceeds its timeout or returns neither row nor table fails the run; with ``on_error = "reject"`` its rows
leave by ``NAME.rejected``.

This module makes one call after another; ``map_concurrent`` makes several at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from asyncflow.errors import StageError, described, safe_repr
from asyncflow.model.batch import Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.durations import format_duration
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved, plain_schema, schema_of
from asyncflow.operators.contract import Output, counted, restore_counts
from asyncflow.plan.stages.map import MapBatches
from asyncflow.runtime.base.failures import FROM_INSIDE, asked_to_end, cancellations
from asyncflow.runtime.base.rejected import KEPT_CHARACTERS, Rejected, rejected_batch
from asyncflow.runtime.ingest.python.table_objects import MisshapenError, NoRecordError, is_row
from asyncflow.runtime.stages.retiming import Retiming, Times, refusals, unambiguous
from asyncflow.runtime.stages.stage import AsyncOperator

if TYPE_CHECKING:
    from asyncflow.runtime.ingest.python.objects import Converted


class Call(Struct, eq=False):
    """One call of the function: with the rows of ``batch`` at ``positions``, the first of them the ``number``-th that the stage took.

    ``done``: it has come to a ``result`` or an ``error``; ``misfits``: rows of the result that do not fit, and the row of ``batch`` that
    each stands for.
    """

    batch: Batch
    positions: range
    number: int
    argument: Any
    result: Any = None
    error: BaseException | None = None
    done: bool = False
    misfits: tuple[tuple[Rejected, int], ...] = ()


class MapOperator(AsyncOperator):
    """Calls the function; the schema of its results is as declared, or as the first result shows.

    ``retiming``: where its input has time columns; ``by_time``: the times of its rows show somewhere.
    ``counts``: rows ``rejected``, and of ``map_rows`` those ``filtered``.  ``taken``: rows of its input so far.
    """

    state_version = 1

    def __init__(self, stage: MapBatches, retiming: Retiming | None, by_time: bool, _read: Schema) -> None:
        super().__init__()
        self._retiming = retiming
        self._by_time = by_time
        self._stage = stage
        self._schema = stage.schema
        from asyncflow.runtime.ingest.python.objects import (
            Converter,  # not loaded by runs without such a stage
        )

        self._results = Converter(whole=True)
        self.taken = 0
        self._timeout_ns = stage.timeout_ns
        self.counts = {"filtered": 0, "rejected": 0} if stage.rows else {"rejected": 0}

    @property
    def output(self) -> Schema | None:  # type: ignore[override]  # read only: the first result decides it
        return self._schema

    def freeze(self) -> Frozen:
        """Between two calls; calls under way belong to the stage."""
        fields: dict[str, Plain] = {**counted(self.counts), "rows_taken": self.taken}
        fields["columns"] = None if self._schema is None else plain_schema(self._schema)
        if self._retiming is not None:
            fields["retiming"] = self._retiming.fields
        return Copied(fields)

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)
        self.taken = saved.integer("rows_taken", 0)
        if "columns" not in saved.fields:
            raise ValueError("columns: the field is missing")
        columns = saved.fields["columns"]
        if columns is not None:
            found = schema_of(columns)
            if self._schema is not None and self._schema != found:
                raise ValueError(f"columns: {found.names} were saved, {self._schema.names} are wanted")
            self._schema = found
        if self._retiming is not None:
            self._retiming.restore(saved.within("retiming"))

    def process(self, batch: Batch) -> list[Output]:
        raise NotImplementedError("a user's function is awaited: process_async")

    async def process_async(self, batch: Batch) -> list[Output]:
        calls = []
        for call in self.calls(batch):
            await self.run(call)
            calls.append(call)
            if call.error is not None and self._stage.on_error == "fail":
                break
        return self.outputs(calls)

    def calls(self, batch: Batch) -> Iterator[Call]:
        """The calls that a batch comes to, in order: one, or one for each of its rows."""
        first = self.taken + 1
        self.taken += batch.num_rows
        if not self._stage.rows:
            for part in unambiguous(batch) if self._retiming is not None else [range(batch.num_rows)]:
                rows = batch if len(part) == batch.num_rows else batch.slice(part.start, part.stop)
                yield Call(rows, range(len(part)), first + part.start, _own(rows))
            return
        for position, row in enumerate(batch.to_pylist()):
            yield Call(batch, range(position, position + 1), first + position, row)

    async def run(self, call: Call) -> None:
        """Makes the call and keeps what it comes to; raises nothing but CancelledError, and that only where the task was cancelled."""
        task = asyncio.current_task()
        asked = cancellations(task)
        try:
            result = self._stage.function(call.argument)
            if inspect.isawaitable(result):
                result = await (
                    result if self._timeout_ns is None else self._in_time(result, self._timeout_ns)
                )
            call.result = result
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            call.error = StageError.of(error, doing=FROM_INSIDE)
        except BaseException as error:
            call.error = error
        if asked_to_end(task, asked):  # also where the function has kept it to itself
            raise asyncio.CancelledError
        call.done = True

    def outputs(self, calls: Sequence[Call]) -> list[Output]:
        """What calls that are done come to, in this order.  Raises StageError for one that failed where that is not to be rejected."""
        outputs: list[Output] = []
        for _, group in groupby(calls, key=lambda call: id(call.batch)):
            together = list(group)
            outputs += self._rows(together) if self._stage.rows else self._batches(together)
            if failed := [call for call in together if call.error is not None or call.misfits]:
                outputs.append(Output(self._rejected(failed), "rejected"))
        return outputs

    @staticmethod
    async def _in_time(answer: Awaitable[Any], timeout_ns: int) -> Any:
        try:
            async with asyncio.timeout(timeout_ns / 1e9) as limit:
                return await answer
        except TimeoutError as error:
            if not limit.expired():  # the function's own
                raise
            raise StageError(f"no answer within {format_duration(timeout_ns)}") from error

    def _rejected(self, calls: Sequence[Call]) -> Batch:
        rows: list[tuple[bytes, str, str]] = []
        taken: list[int] = []
        for call in calls:
            for misfit, position in call.misfits:
                rows.append((misfit.record, misfit.reason, misfit.position))
                taken.append(position)
            if call.error is None:
                continue
            if self._stage.on_error == "fail":
                raise (
                    call.error
                    if isinstance(call.error, StageError | MemoryError)
                    else StageError.of(call.error)
                )
            reason = str(call.error) if isinstance(call.error, StageError) else described(call.error)
            whole = [call.argument] if self._stage.rows else call.batch.to_pylist()
            rows += [
                (
                    safe_repr(row)[:KEPT_CHARACTERS].encode("utf-8", "replace"),
                    reason,
                    f"row {call.number + offset}",
                )
                for offset, row in enumerate(whole)
            ]
            taken += call.positions
        self.counts["rejected"] += len(rows)
        given = calls[0].batch.take(np.array(taken, np.intp))
        return rejected_batch(rows, given.time, given.watermarks, given.delay_ns)

    # -- results -------------------------------------------------------------------------------------------------------

    def _batches(self, calls: Sequence[Call]) -> Iterator[Output]:
        for call in calls:
            if call.error is None and call.result is not None:
                try:
                    before, rows, times, place = self._mapped(call)
                except Exception as error:
                    call.error = error
                else:
                    yield from self._timed(before, rows, times, place)

    def _mapped(self, call: Call) -> tuple[Batch, Batch, Times | None, Callable[[int], str]]:
        """What rows were made from; the rows, which have their times already where none are given; the times; where each row stands."""
        batch, result = call.batch, call.result
        try:
            converted = self._converted([result])
        except (NoRecordError, MisshapenError) as error:
            raise StageError(f"the function of map gives a batch, a table or None: {error}") from error
        rows, kept = converted.batch, converted.kept
        count = rows.num_rows + len(converted.rejects)
        by_row = count == batch.num_rows
        call.misfits = tuple(
            (
                replace(misfit, position=_place(call, place, count)),
                place if by_row else batch.num_rows - 1,
            )
            for misfit, place in zip(converted.rejects, converted.rejected, strict=True)
        )
        before = batch.take(kept) if by_row and len(kept) < count else batch
        times = None if self._retiming is None else self._retiming.times(rows)
        if isinstance(result, Batch) and result.time is not None:
            own = result if len(kept) == count else result.take(kept)
            timed = _timed_as(own, rows)
            if self._retiming is not None and times is None:
                assert timed.time is not None
                times = timed.time, None
        elif times is None and self._retiming is not None and self._by_time:
            name = self._retiming.columns[0].name
            raise StageError(
                f"the result has no time column {name!r}: rows keep their time by it, so the function has to return it"
            )
        elif by_row:
            timed = _timed_as(before, rows)
        else:
            latest = np.full(rows.num_rows, batch.time.max() if batch.time is not None else 0, np.int64)
            timed = replace(rows, time=latest, watermark_before=batch.watermark_before, origin=batch.origin)
        return before, timed, times, lambda number: _place(call, int(kept[number]), count)

    def _timed(
        self, before: Batch, rows: Batch, times: Times | None, place: Callable[[int], str]
    ) -> Iterator[Output]:
        """The rows made from ``before`` with their times; those that cannot have one are rejected, by their place."""
        if times is None or self._retiming is None:
            yield Output(rows)
            return
        values, known = times
        reasons = self._retiming.refused(values, known)
        made_from = before if self._stage.rows else None
        if made_from is None and (reasons or not self._retiming.moved):
            made_from = self._retiming.made_from(before, rows, values)
        before = before if made_from is None else made_from
        if reasons:
            gone, kept = np.array(list(reasons), np.intp), np.setdiff1d(np.arange(len(values)), list(reasons))
            by_row = rows.num_rows == before.num_rows
            told = refusals(rows.take(gone), reasons.values(), map(place, reasons))
            here = before.take(gone if by_row else np.full(len(gone), before.num_rows - 1, np.intp))
            self.counts["rejected"] += len(reasons)
            yield Output(
                replace(told, time=here.time, watermarks=here.watermarks, delay_ns=here.delay_ns), "rejected"
            )
            rows, values = rows.take(kept), values[kept]
            before = before.take(kept) if by_row else before
        for each in self._retiming.follow(before, rows, values, row_for_row=made_from is not None):
            yield Output(each)

    def _rows(self, calls: Sequence[Call]) -> Iterator[Output]:
        kept = []
        for call in calls:
            if call.error is not None:
                continue
            if call.result is None:
                self.counts["filtered"] += 1
            elif is_row(call.result):
                kept.append(call)
            else:
                call.error = TypeError(
                    f"the function of map_rows gives a dict or None, not {_kind(call.result)}"
                )
        if not kept:
            return
        converted = self._converted([call.result for call in kept])
        for misfit, place in zip(converted.rejects, converted.rejected, strict=True):
            call = kept[place]
            call.misfits = ((replace(misfit, position=f"row {call.number}"), call.positions.start),)
        positions = np.array([call.positions.start for call in kept], np.intp)[converted.kept]
        if len(positions):
            before, rows = kept[0].batch.take(positions), converted.batch
            taken = [kept[place] for place in converted.kept.tolist()]
            times = None if self._retiming is None else self._retiming.times(rows)
            yield from self._timed(
                before, _timed_as(before, rows), times, lambda number: f"row {taken[number].number}"
            )

    def _converted(self, objects: Sequence[Any]) -> Converted:
        schema = self._schema
        if schema is None:
            from asyncflow.runtime.ingest.python.objects import infer_schema

            schema = self._schema = infer_schema(objects, texts_are_texts=True)
        return self._results.convert(objects, schema or Schema(()), None)


MakeMap: TypeAlias = Callable[[Schema], MapOperator]


def _own(batch: Batch) -> Batch:
    """The batch with arrays that nothing else reads: a function may write into its own."""
    columns = (
        FixedColumn(column.values.copy(), column.valid) if isinstance(column, FixedColumn) else column
        for column in batch.columns
    )
    return replace(batch, columns=tuple(columns))


def _place(call: Call, place: int, count: int) -> str:
    """Where a row of a result stands: the row it was made from, or the rows where it was made of several."""
    if count == call.batch.num_rows:
        return f"row {call.number + place}"
    return f"row {place + 1} of the result for rows {call.number} to {call.number + call.batch.num_rows - 1}"


def _kind(result: Any) -> str:
    return "a dict of arrays" if isinstance(result, Mapping) else type(result).__name__


def _timed_as(original: Batch, rows: Batch) -> Batch:
    return replace(original, schema=rows.schema, columns=rows.columns, num_rows=rows.num_rows)
