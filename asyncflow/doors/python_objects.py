"""Tells which Python objects cannot be a source or a function of a flow, and what to pass instead."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping

from asyncflow.connectors.contract import SourceConnector


def no_source(given: object) -> str:
    """Why ``given`` can be no source, in a sentence that says what to write; ``""`` where it can."""
    if isinstance(given, SourceConnector):
        return ""
    if isinstance(given, type):
        return f"the class {given.__name__} is no source: make one, {given.__name__}(...)"
    if inspect.iscoroutine(given):
        name = given.__name__
        given.close()  # nobody will await it
        return (
            f"the coroutine {name}() is no source: await it and give what comes of it, or write yield in it"
        )
    if inspect.isawaitable(given):
        return f"{type(given).__name__} is no source: await it and give what comes of it"
    if inspect.isroutine(given):
        return f"the function {given.__name__} is no source: call it, {given.__name__}()"
    if isinstance(given, os.PathLike):
        return f'a path is no source: write source("file", path={os.fspath(given)!r})'
    if isinstance(given, bytes | bytearray | memoryview):
        return "bytes are read from an iterable of bytes: put them into a list, [data]"
    if hasattr(given, "__aiter__") or hasattr(given, "__arrow_c_stream__"):
        return ""
    if isinstance(given, Mapping):
        return "one dict is no source: put it into a list, [row]"
    if isinstance(given, Iterable):
        return ""
    return f"{type(given).__name__} is no source: give an (async) iterable of dicts, tables, batches or bytes"


def no_function(given: object) -> str:
    """Why ``given`` can be no function of a stage; ``""`` where it can."""
    if inspect.iscoroutine(given):
        name = given.__name__
        given.close()
        return f"the coroutine {name}() was called already: give the function itself, {name}"
    if not callable(given):
        return f"{type(given).__name__} is no function"
    if inspect.isgeneratorfunction(given) or inspect.isasyncgenfunction(given):
        return f"{getattr(given, '__name__', given)} is a generator: a function of a stage returns its result, without yield"
    return ""
