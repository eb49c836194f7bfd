"""Values between columns and a user's Python: what an argument looks like as a numpy array, and what a result may be."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow.errors import safe_repr
from asyncflow.model.columns import IndexArray, StringColumn
from asyncflow.model.schema import DataType, Field


def array_of(raw: tuple[Any, ...], type_: DataType, rows: IndexArray) -> NDArray[Any]:
    """These rows of a raw column in an array of their own: bool, int64, float64, ``datetime64[ns]`` or object (str; None where null)."""
    if type_ is DataType.STRING:
        texts = np.empty(len(rows), object)
        texts[:] = StringColumn(*raw).take(rows).compact().to_list()
        return texts
    values: NDArray[Any] = raw[0][rows]
    return values.view("datetime64[ns]") if type_ is DataType.TIMESTAMP else values


_NO_NUMBERS = (bool, np.timedelta64)
"""What Python or numpy takes for integers, and we do not."""


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
            fits = isinstance(value, int | np.integer) and not isinstance(value, _NO_NUMBERS)
        case DataType.FLOAT64:
            fits = isinstance(value, int | float | np.integer | np.floating)
            fits = fits and not isinstance(value, _NO_NUMBERS)
        case DataType.TIMESTAMP:
            if isinstance(value, np.datetime64 | dt.datetime):
                return _instant(value)
            fits = isinstance(value, int | np.integer) and not isinstance(value, _NO_NUMBERS)
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
        number = float(value)
    except OverflowError:
        number = np.inf
    if np.isinf(number) and not (isinstance(value, float | np.floating) and np.isinf(value)):
        raise ValueError(f"{_shown(value)}, which is beyond the range of float64")
    return number


def _instant(value: Any) -> int | None:
    from asyncflow.model.values import instant  # not loaded by runs without such values

    try:
        return instant(value, Field("", DataType.TIMESTAMP))
    except ValueError:
        raise ValueError(f"{_shown(value)}, which is beyond the range of timestamp") from None


def _shown(value: Any) -> str:
    text = safe_repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
