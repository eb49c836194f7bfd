"""Whose failure it is: what fails in a table's coroutine is told with the table's name, once, and ends those that run with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

from asyncflow.errors import AsyncflowError, InternalError

T = TypeVar("T")


async def named(name: str, coroutine: Awaitable[T]) -> T:
    """Its failure is told with the table's name: one of our own as it is, anything else as InternalError."""
    try:
        return await coroutine
    except Exception as raised:
        error = first(raised)
    if not isinstance(error, AsyncflowError):
        raise InternalError(f"{type(error).__name__}: {error}", table=name) from error
    error.table = error.table or name
    raise error


async def together(parts: Iterable[tuple[str, Coroutine[Any, Any, None]]]) -> None:
    """Runs the coroutines of these tables to their ends; the first failure ends the others and is raised as itself."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for name, coroutine in parts:
                group.create_task(named(name, coroutine), name=f"asyncflow:{name}")
    except BaseExceptionGroup as group_error:
        failure = first(group_error)
    if failure is not None:
        raise failure


def first(error: BaseException) -> BaseException:
    """The failure itself; of a group the first, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
