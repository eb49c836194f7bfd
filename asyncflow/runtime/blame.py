"""Whose failure it is: what fails in a table's coroutine is told with the table's name, once."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

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


def first(error: BaseException) -> BaseException:
    """The failure itself; of a group the first, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
