"""Failures in users' code: one error at the caller, with the table's name; never a silent end, never a deadlock.

The cases of PEP 789 (time-outs, cancel scopes and task groups around a ``yield``) are among them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

import asyncflow as af
from asyncflow.connectors.contract import Buffer, ByteSource, ByteStream, SinkConnector
from asyncflow.errors import ConnectorError, PipelineError, StageError
from asyncflow.plan.tables import Component
from asyncflow.runtime import Run
from asyncflow.testing import ListSink

SCHEMA = {"ts": "timestamp[s]", "i": "int64"}
PATIENCE = 20


async def rows_of(flow: af.Flow) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        return [row async for batch in flow for row in batch.to_pylist()]

    return await asyncio.wait_for(read(), PATIENCE)


def row(number: int) -> dict[str, int]:
    return {"ts": number, "i": number}


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def inner_task_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(9))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def self_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def raised() -> None:
    raise asyncio.CancelledError


INSIDE: list[Callable[[], Any]] = [inner_task_cancelled, self_cancelled, raised]
VIEWS: dict[str, Callable[[af.Flow], af.Flow]] = {
    "plain": lambda flow: flow,
    "window": lambda flow: flow.window("all", n="count(*)"),
    "map": lambda flow: flow.map(lambda batch: batch),
    "union": lambda flow: af.union(flow, af.source([row(1)], schema=SCHEMA, time="ts")),
}


# -- cancelled from inside ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("kind", ["dicts", "bytes"])
async def test_a_source_that_is_cancelled_from_inside_is_told(
    inside: Callable[[], Any], view: str, kind: str
) -> None:
    async def source() -> AsyncIterator[Any]:
        for number in range(5):
            yield row(number) if kind == "dicts" else b'{"ts": %d, "i": 1}\n' % number
        await inside()

    before = others()
    format_ = {"format": "json"} if kind == "bytes" else {}
    flow = af.source(source(), schema=SCHEMA, time="ts", name="feed", **format_)
    with pytest.raises(StageError, match=r"^feed: cancelled from inside") as told:
        await rows_of(VIEWS[view](flow))
    assert isinstance(told.value.__cause__, asyncio.CancelledError)
    assert others() == before


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("by_rows", [False, True])
async def test_a_function_that_is_cancelled_from_inside_is_told(
    inside: Callable[[], Any], concurrency: int, by_rows: bool
) -> None:
    async def function(given: Any) -> Any:
        await inside()
        return given

    flow = af.source([row(n) for n in range(9)], schema=SCHEMA, time="ts")
    mapped = (flow.map_rows if by_rows else flow.map)(function, schema=SCHEMA, concurrency=concurrency)
    with pytest.raises(StageError, match=r"^mine: cancelled from inside"):
        await rows_of(mapped.named("mine").window("all", n="count(*)"))


async def child_that_fails() -> None:
    raise ValueError("a child's")


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("by_rows", [False, True])
async def test_what_a_group_of_tasks_in_a_function_comes_to_is_the_functions(
    concurrency: int, by_rows: bool
) -> None:
    """A group cancels the task that it runs in when a child fails: that is no cancellation of the run's."""

    async def fails(given: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(child_that_fails())
        return given

    async def mends(given: Any) -> Any:
        try:
            return await fails(given)
        except* ValueError:
            pass
        return given

    flow = af.source([row(n) for n in range(9)], schema=SCHEMA, time="ts")
    use, how = (
        (flow.map_rows if by_rows else flow.map),
        {"schema": {"ts": "timestamp", "i": "int64"}, "concurrency": concurrency},
    )
    assert await rows_of(use(mends, **how).window("all", n="count(*)")) == [{"n": 9}]
    with pytest.raises(StageError, match=r"^mine: ExceptionGroup") as told:
        await rows_of(use(fails, **how).named("mine"))
    assert isinstance(told.value.__cause__, ExceptionGroup)
    refused = use(fails, **how, on_error="reject").named("mine")
    assert len(await rows_of(refused["mine.rejected"])) == 9


async def test_where_failures_are_rejected_so_is_a_cancelled_call() -> None:
    async def function(given: dict[str, Any]) -> Any:
        if given["i"] == 2:
            await inner_task_cancelled()
        return given

    flow = (
        af.source([row(n) for n in range(4)], schema=SCHEMA, time="ts")
        .map_rows(function, schema={"ts": "timestamp", "i": "int64"}, on_error="reject")
        .named("m")
    )
    assert [each["i"] for each in await rows_of(flow)] == [0, 1, 3]
    [rejected] = await rows_of(flow["m.rejected"])
    assert rejected["reason"].startswith("cancelled from inside")


@pytest.mark.parametrize("failure", [asyncio.CancelledError, GeneratorExit, StopIteration, ValueError])
@pytest.mark.parametrize("method", ["__init__", "update", "merge", "finish"])
async def test_an_aggregate_that_raises_anything_is_told(failure: type[BaseException], method: str) -> None:
    class Mine(af.Aggregate):
        takes = "int64"
        returns = "int64"

        def __init__(self) -> None:
            self._may("__init__")

        def _may(self, name: str) -> None:
            if name == method:
                raise failure

        def update(self, values: Any) -> None:
            self._may("update")

        def merge(self, other: Any) -> None:
            self._may("merge")

        def finish(self) -> int:
            self._may("finish")
            return 1

    flow = af.source([row(n) for n in (0, 4, 2)], schema=SCHEMA, time="ts", watermark_delay="9s")
    windows = flow.window(af.session("2s") if method == "merge" else "all", n=af.aggregate(Mine, "i")).named(
        "w"
    )
    with pytest.raises(StageError, match=f"^w: the aggregate .*{method} raised {failure.__name__}"):
        await rows_of(windows)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("schema", [SCHEMA, None])
async def test_a_connector_of_the_users_own_that_is_cancelled_from_inside_is_told(
    workers: int, together: bool, schema: Any
) -> None:
    class Lost(ByteSource, ByteStream):
        name = "lost"
        concurrent = together

        async def streams(self) -> AsyncIterator[ByteStream]:
            yield self

        async def read_into(self, buffer: memoryview) -> int:
            await inner_task_cancelled()
            return 0

        async def aclose(self) -> None:
            pass

    flow = af.source(Lost(), name="feed", format="json", schema=schema)
    with pytest.raises(StageError, match=r"^feed: cancelled from inside"):
        async with asyncio.timeout(PATIENCE):
            await flow.collect(workers=workers)


# -- PEP 789: time-outs, scopes and groups around a yield -----------------------------------------------------------------


def endless(limit: Any, told: list[str]) -> AsyncIterator[Any]:
    async def source() -> AsyncIterator[Any]:
        try:
            async with limit():
                number = 0
                while True:
                    yield row(number)
                    number += 1
        except BaseException as error:
            told.append(type(error).__name__)
            raise

    return source()


class Broken:
    """A task group whose child fails while its body stands at a yield."""

    async def __aenter__(self) -> None:
        async def fail() -> None:
            await asyncio.sleep(0.02)
            raise KeyError("the child")

        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._group.create_task(fail())

    async def __aexit__(self, *error: Any) -> Any:
        return await self._group.__aexit__(*error)


@pytest.mark.parametrize(
    ("limit", "cause"), [(lambda: asyncio.timeout(0.02), TimeoutError), (Broken, ExceptionGroup)]
)
async def test_a_scope_around_a_yield_ends_the_source_and_nothing_else(limit: Any, cause: type) -> None:
    """What asyncio cancels is the task that draws; the scope sees its own cancellation and says what came of it."""
    told: list[str] = []
    flow = af.source(endless(limit, told), schema=SCHEMA, time="ts", name="feed")
    with pytest.raises(StageError, match=r"^feed: ") as failure:
        await rows_of(flow)
    assert isinstance(failure.value.__cause__, cause)
    assert told == [cause.__name__]
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_time_limit_that_ends_the_source_well() -> None:
    async def source() -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(0.02):
                while True:
                    yield row(1)
        except TimeoutError:
            yield row(2)

    got = await rows_of(af.source(source(), schema=SCHEMA, time="ts"))
    assert got[-1]["i"] == 2
    assert {each["i"] for each in got[:-1]} == {1}


async def test_a_time_limit_of_the_caller_around_the_loop() -> None:
    closed = []

    async def source() -> AsyncIterator[Any]:
        try:
            yield row(1)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    before, got = others(), 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            async for batch in af.source(source(), schema=SCHEMA):
                got += batch.num_rows
    assert got == 1
    assert closed == [True]
    assert others() == before


async def test_a_group_of_the_caller_around_the_loop() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.02)
        raise KeyError("the caller's")

    before = others()
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            async for _ in af.source(endless(lambda: asyncio.timeout(None), []), schema=SCHEMA):
                await asyncio.sleep(0)
    assert isinstance(caught.value.exceptions[0], KeyError)
    for _ in range(200):
        gc.collect()
        await asyncio.sleep(0.01)
        if others() == before:
            break
    assert others() == before


@pytest.mark.parametrize("how", ["iterate", "run"])
async def test_the_callers_own_cancellation_stays_one(how: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield row(1)
        await asyncio.Event().wait()

    flow = af.source(source(), schema=SCHEMA)
    work = rows_of(flow) if how == "iterate" else flow.to("null").run()
    before = others()
    task = asyncio.create_task(work)  # type: ignore[arg-type]
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert others() == before


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_code_that_keeps_a_cancellation_to_itself_holds_nothing_up(concurrency: int) -> None:
    async def deaf(given: Any) -> Any:
        try:
            await asyncio.sleep(30)
        except BaseException:
            return given

    async def deaf_source() -> AsyncIterator[Any]:
        while True:
            try:
                yield row(1)
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                pass

    before = others()
    for flow in (
        af.source([row(1)] * 3, schema=SCHEMA).map(deaf, schema=SCHEMA, concurrency=concurrency),
        af.source(deaf_source(), schema=SCHEMA),
    ):
        task = asyncio.create_task(rows_of(flow))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
    assert others() == before


async def test_all_of_an_iterable_runs_in_one_task() -> None:
    tasks = set()

    async def source() -> AsyncIterator[Any]:
        try:
            for number in range(10_000):
                tasks.add(asyncio.current_task())
                yield row(number)
        finally:
            tasks.add(asyncio.current_task())

    for view in (lambda flow: flow, lambda flow: flow.filter("i > 5")):
        batches = view(af.source(source(), time=None)).batches()
        await anext(batches)
        await batches.aclose()
        assert len(tasks) == 1
        tasks.clear()


# -- what the user's code raises --------------------------------------------------------------------------------------------


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("gone"),
        OSError(5, "bad disk"),
        KeyError("k"),
        ExceptionGroup("two", [ValueError(1)]),
        Unspeakable(),
        BaseExceptionGroup("all", [asyncio.CancelledError()]),
        GeneratorExit("mine"),
    ],
)
@pytest.mark.parametrize("where", ["async", "plain", "bytes", "finally", "map", "await", "inferred"])
async def test_the_users_own_error_is_the_cause(error: BaseException, where: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield row(1)
        if where == "async":
            raise error
        try:
            yield row(2)
        finally:
            if where == "finally":
                raise error

    def plain() -> Iterator[Any]:
        yield row(1)
        raise error

    def broken(_: Any) -> Any:
        raise error

    async def broken_later(_: Any) -> Any:
        await asyncio.sleep(0)
        raise error

    async def first() -> AsyncIterator[Any]:
        raise error
        yield

    async def lines() -> AsyncIterator[bytes]:
        yield b"x\n"
        raise error

    flows = {
        "async": lambda: af.source(source(), schema=SCHEMA, name="mine"),
        "plain": lambda: af.source(plain(), schema=SCHEMA, name="mine"),
        "bytes": lambda: af.source(lines(), format="lines", name="mine"),
        "finally": lambda: af.source(source(), schema=SCHEMA, name="mine"),
        "map": lambda: af.source([row(1)], schema=SCHEMA).map(broken).named("mine"),
        "await": lambda: af.source([row(1)], schema=SCHEMA).map_rows(broken_later).named("mine"),
        "inferred": lambda: af.source(first(), name="mine"),
    }
    with pytest.raises(StageError, match=rf"^mine: {type(error).__name__}") as told:
        await rows_of(flows[where]())
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["source", "map", "await"])
def test_an_interrupt_stays_one(error: type[BaseException], where: str) -> None:
    async def source() -> AsyncIterator[Any]:
        yield row(1)
        if where == "source":
            raise error

    def broken(given: Any) -> Any:
        if where == "map":
            raise error
        return given

    async def broken_later(given: Any) -> Any:
        await asyncio.sleep(0)
        if where == "await":
            raise error
        return given

    flow = af.source(source(), schema=SCHEMA).map(broken, schema=SCHEMA).map(broken_later, schema=SCHEMA)
    with pytest.raises(error):
        asyncio.run(rows_of(flow))


@pytest.mark.parametrize("error", [OSError(28, "no space"), ValueError("mine"), asyncio.CancelledError()])
async def test_a_sink_of_the_users_own_is_not_blamed_on_asyncflow(error: BaseException) -> None:
    class Full(SinkConnector):
        async def write(self, data: Buffer, *, origin: Any = None) -> None:
            raise error

        async def aclose(self, *, failed: bool = False) -> None:
            pass

    plan = af.source([row(1)], schema=SCHEMA).to("stdout", format="json", name="out").plan
    plan = replace(plan, sinks=(replace(plan.sinks[0], connector=Component("full", object=Full())),))
    with pytest.raises(StageError, match=r"^out: ") as told:
        await Run(plan).execute()
    assert told.value.__cause__ is error


async def test_an_error_of_the_system_is_the_outsides(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(self: Any, data: Buffer, *, origin: Any = None) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr("asyncflow.testing.ListSink.write", refused)
    plan = af.source([row(1)], schema=SCHEMA).to("stdout", format="json", name="out").plan
    plan = replace(plan, sinks=(replace(plan.sinks[0], connector=Component("list", object=ListSink())),))
    with pytest.raises(ConnectorError, match=r"^out: OSError: .*input/output error"):
        await Run(plan).execute()


async def test_an_error_of_asyncflows_that_the_users_code_passes_on_stays_one() -> None:
    async def source() -> AsyncIterator[Any]:
        yield row(1)
        raise ConnectorError("the broker is gone")

    with pytest.raises(ConnectorError, match=r"^mine: the broker is gone$"):
        await rows_of(af.source(source(), schema=SCHEMA, name="mine"))


async def test_a_close_that_fails_after_the_caller_left_goes_to_the_loop(caplog: Any) -> None:
    async def source() -> AsyncIterator[Any]:
        try:
            while True:
                yield row(1)
        finally:
            raise KeyError("in the close")

    batches = af.source(source(), schema=SCHEMA).batches()
    await anext(batches)
    await batches.aclose()  # type: ignore[attr-defined]
    assert "failed while it was closed" in caplog.text


# -- mistakes, told in the caller's words -----------------------------------------------------------------------------------


async def coroutine() -> list[Any]:
    return []


class Rows:
    async def __aiter__(self) -> AsyncIterator[Any]:
        yield row(1)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (coroutine, r"coroutine coroutine\(\).*await it"),
        (lambda: coroutine, r"function coroutine .*call it, coroutine\(\)"),
        (lambda: Rows, r"class Rows .*make one, Rows\(...\)"),
        (lambda: 5, "int is no source"),
        (lambda: None, "NoneType is no source"),
        (lambda: b"a,b\n", "bytes are read from an iterable of bytes"),
        (lambda: {"v": 1}, r"put it into a list, \[row\]"),
    ],
)
async def test_what_is_no_source(make: Any, told: str) -> None:
    with pytest.raises(PipelineError, match=told):
        af.source(make(), schema=SCHEMA)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (coroutine, r"called already: give the function itself, coroutine"),
        (lambda: None, "NoneType is no function"),
        (lambda: Rows.__aiter__, "__aiter__ is a generator"),
    ],
)
async def test_what_is_no_function(make: Any, told: str) -> None:
    for kind in ("map", "map_rows"):
        with pytest.raises(PipelineError, match=told):
            getattr(af.source([], schema=SCHEMA), kind)(make())


async def test_a_flow_is_neither_iterated_nor_awaited() -> None:
    flow = af.source([row(1)], schema=SCHEMA)
    with pytest.raises(TypeError, match="async for"):
        list(flow)
    with pytest.raises(TypeError, match="async for"):
        for _ in flow:
            pass
    with pytest.raises(TypeError, match=r"await flow\.run\(\)"):
        await flow


async def test_run_in_a_loop_says_what_to_write() -> None:
    flow = af.source([row(1)], schema=SCHEMA).to("null")
    with pytest.raises(RuntimeError, match=r"await flow\.run\(\)"):
        af.run(flow)
    with pytest.raises(TypeError, match=r"asyncflow\.run\(flow\)"):
        af.run(flow.run())  # type: ignore[arg-type]


@pytest.mark.parametrize("plain", [True, False])
async def test_a_generator_is_read_once(plain: bool) -> None:
    def numbers() -> Iterator[Any]:
        yield row(1)

    flow = af.source(numbers() if plain else Rows().__aiter__(), schema=SCHEMA)
    assert len(await rows_of(flow)) == 1
    with pytest.raises(PipelineError, match="read before"):
        await rows_of(flow)
    again = af.source(Rows(), schema=SCHEMA)
    assert len(await rows_of(again)) == len(await rows_of(again)) == 1
