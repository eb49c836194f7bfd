"""Values between columns and a user's Python: what an argument looks like as a numpy array, and what a result may be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow.model.columns import IndexArray, StringColumn
from asyncflow.model.schema import DataType


def array_of(raw: tuple[Any, ...], type_: DataType, rows: IndexArray) -> NDArray[Any]:
    """These rows of a raw column in an array of their own: bool, int64, float64, ``datetime64[ns]`` or object (str; None where null)."""
    if type_ is DataType.STRING:
        texts = np.empty(len(rows), object)
        texts[:] = StringColumn(*raw).take(rows).compact().to_list()
        return texts
    values: NDArray[Any] = raw[0][rows]
    return values.view("datetime64[ns]") if type_ is DataType.TIMESTAMP else values


def checked_value(value: Any, type_: DataType) -> Any:
    """A result as a column takes it, None for null.  ValueError, which begins with the value, for one of another type."""
    if value is None or value is np.ma.masked:
        return None
    match type_:
        case DataType.BOOL:
            fits = isinstance(value, bool | np.bool_)
        case DataType.STRING:
            fits = isinstance(value, str)
        case DataType.INT64:
            fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
        case DataType.FLOAT64:
            fits = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        case DataType.TIMESTAMP:
            if isinstance(value, np.datetime64):
                return None if np.isnat(value) else int(value.astype("datetime64[ns]").astype(np.int64))
            fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fits:
        raise ValueError(f"{_shown(value)} ({type(value).__name__}), not {type_.value} or None")
    if type_ is DataType.STRING:
        return _text(value)
    if type_ is DataType.FLOAT64:
        return _float(value)
    if type_ is not DataType.BOOL and not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"{_shown(value)}, which is beyond the range of {type_.value}")
    return value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{_shown(value)}, which is no text: it cannot be written as UTF-8") from None
    return str(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{_shown(value)}, which is beyond the range of float64") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
