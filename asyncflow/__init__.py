"""asyncflow: a stream processor for one machine.  The public names.  A name is imported when it is first used, so that import is quick.

import asyncflow as af
flow = af.source("file", path="sales.csv", time="ts").window(af.tumbling("1m"), by=["store"], n="count(*)")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asyncflow.version import VERSION

if TYPE_CHECKING:
    from asyncflow.doors.expressions.python_aggregates import aggregate, expression
    from asyncflow.doors.windows import all_rows, count, cumulate, hopping, per_message, session, tumbling
    from asyncflow.errors import (
        AsyncflowError,
        ConnectorError,
        DataError,
        InternalError,
        MissingExtraError,
        OutOfMemoryError,
        PipelineError,
        Problem,
        RetriableError,
        StageError,
        StoppedError,
        TooLargeError,
    )
    from asyncflow.flow import Flow, load, run, sequence, source, union
    from asyncflow.model.aggregate import Aggregate
    from asyncflow.model.batch import Batch
    from asyncflow.model.schema import DataType, Field, Schema

__version__ = VERSION

_HOMES = {
    "asyncflow.flow": ("Flow", "load", "run", "sequence", "source", "union"),
    "asyncflow.doors.windows": (
        "all_rows",
        "count",
        "cumulate",
        "hopping",
        "per_message",
        "session",
        "tumbling",
    ),
    "asyncflow.doors.expressions.python_aggregates": ("aggregate", "expression"),
    "asyncflow.model.aggregate": ("Aggregate",),
    "asyncflow.model.batch": ("Batch",),
    "asyncflow.model.schema": ("DataType", "Field", "Schema"),
    "asyncflow.errors": (
        "AsyncflowError",
        "ConnectorError",
        "DataError",
        "InternalError",
        "MissingExtraError",
        "OutOfMemoryError",
        "PipelineError",
        "Problem",
        "RetriableError",
        "StageError",
        "StoppedError",
        "TooLargeError",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Aggregate",
    "AsyncflowError",
    "Batch",
    "ConnectorError",
    "DataError",
    "DataType",
    "Field",
    "Flow",
    "InternalError",
    "MissingExtraError",
    "OutOfMemoryError",
    "PipelineError",
    "Problem",
    "RetriableError",
    "Schema",
    "StageError",
    "StoppedError",
    "TooLargeError",
    "aggregate",
    "all_rows",
    "count",
    "cumulate",
    "expression",
    "hopping",
    "load",
    "per_message",
    "run",
    "sequence",
    "session",
    "source",
    "tumbling",
    "union",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'asyncflow' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
