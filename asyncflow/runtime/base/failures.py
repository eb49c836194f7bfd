"""Failures of a run: adds the table's name to its errors; the first error cancels the other tables.

A cancellation normally comes from the run, or from the code that awaits the run.  A cancellation from inside (the user's code waits
for a cancelled task, or cancels its own task) is a failure of the table where it came up: asyncio's task groups would drop it, and
the readers of the table would wait for ever.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from asyncflow.errors import AsyncflowError, ConnectorError, InternalError, StageError, described
from asyncflow.runtime.base.memory import Memory

T = TypeVar("T")


def is_ours(part: object) -> bool:
    """Whether a connector, an operator or the like is a part of asyncflow."""
    return type(part).__module__.partition(".")[0] == "asyncflow"


async def named(name: str, coroutine: Awaitable[T], part: object = None, memory: Memory | None = None) -> T:
    """Its failure is told with the table's name: one of our own as it is, the operating system's as ConnectorError, the end of
    memory as OutOfMemoryError (with what ``memory``, the run's, knows), any other as InternalError.  ``part``: what does the
    table's work; where that is not ours, neither is its failure, which is a StageError."""
    try:
        return await coroutine
    except Exception as raised:
        error = first(raised)
    if isinstance(error, MemoryError):
        raise (memory or Memory()).ran_out(name, error) from error
    if not isinstance(error, AsyncflowError):
        kind: type[AsyncflowError] = InternalError
        if part is not None and not is_ours(part):
            kind = StageError
        elif isinstance(error, OSError):
            kind = ConnectorError
        raise kind(described(error), table=name) from error
    error.table = error.table or name
    raise error


async def together(
    parts: Iterable[tuple[str, Coroutine[Any, Any, None], object]], memory: Memory | None = None
) -> None:
    """Runs the coroutines of tables to their ends.  The first failure cancels the others and is raised unchanged.

    ``parts``: for each table its name, its coroutine, and the connector or operator that does its work.
    """
    failure: BaseException | None = None
    group = Group()
    try:
        async with group:
            for name, coroutine, part in parts:
                group.create_task(named(name, coroutine, part, memory), name)
    except BaseExceptionGroup as group_error:
        failure = first(group_error)
    if isinstance(
        failure, GeneratorExit
    ):  # raised on as itself it would look like the end of whoever awaits the run
        told = StageError.of(failure)
        told.table = group.failed
        raise told
    if failure is not None:
        raise failure


class Group:
    """A TaskGroup that treats a child's cancellation as a failure, unless the group was asked to end.

    ``failed``: the table whose child failed first, if any.
    """

    def __init__(self) -> None:
        self.failed = ""
        self._group = asyncio.TaskGroup()
        self._ends = False
        self._parent: asyncio.Task[Any] | None = None
        self._asked = 0

    async def __aenter__(self) -> Group:
        self._parent = asyncio.current_task()
        self._asked = cancellations(self._parent)
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends |= error is not None
        await self._group.__aexit__(kind, error, traceback)

    def create_task(self, coroutine: Coroutine[Any, Any, T], table: str = "") -> asyncio.Task[T]:
        """Starts a child for ``table``."""
        return self._group.create_task(
            self._watched(coroutine, table), name=f"asyncflow:{table}" if table else None
        )

    @property
    def ends(self) -> bool:
        """Whether a child has failed, or the group was asked to end."""
        return self._ends or cancellations(self._parent) > self._asked

    async def _watched(self, coroutine: Coroutine[Any, Any, T], table: str) -> T:
        _GROUP.set(self)
        try:
            return await coroutine
        except asyncio.CancelledError as error:
            if self.ends:
                raise
            self._ends = True
            failure = StageError.of(error, doing=FROM_INSIDE)
            failure.table = table
            raise failure from error
        except BaseException:
            if not self._ends:
                self.failed = table
            self._ends = True
            raise


_GROUP: ContextVar[Group | None] = ContextVar("asyncflow_group", default=None)
"""The group that the running task is a child of."""


def asked_to_end(task: asyncio.Task[Any] | None, before: int) -> bool:
    """Whether the task was asked to end since it had ``before`` cancellations.

    A TaskGroup in the user's code cancels the task that it runs in once a child of its own has failed, and before Python 3.13 it may
    leave that cancellation behind, though it has taken it up: while the run goes on it is taken back here.  Not one that is still to come
    (``_must_cancel``): the code has cancelled the task itself.
    """
    if task is None or task.cancelling() <= before:
        return False
    group = _GROUP.get()
    if sys.version_info >= (3, 13) or group is None or group.ends or getattr(task, "_must_cancel", False):
        return True
    while task.cancelling() > before:
        task.uncancel()
    return False


FROM_INSIDE = "cancelled from inside, by none but its own code: "


def cancellations(task: asyncio.Task[Any] | None) -> int:
    """How many times a task was cancelled."""
    return 0 if task is None else task.cancelling()


def first(error: BaseException) -> BaseException:
    """The failure; of an exception group its first exception, at any depth."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
