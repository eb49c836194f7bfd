"""Python values to columns: one set of rules for rows, arrays, batches, tables and results of users' functions.

The rules are those of the JSON format.  A value that is not of its column's plain type is written as JSON text, as by :mod:`json`, and
read by the JSON decoder's kernel: ``"7.5"`` fits a column of numbers, a list in a column of texts is its JSON text, and a value that does
not fit is reported by row in the words of the JSON decoder.  Values without a JSON text are read as follows:

- bytes: text in UTF-8; ``Decimal`` and other rationals, numpy's numbers of any width: numbers; an ``Enum``: its value;
- ``datetime`` (without a zone: UTC), ``date``, ``datetime64``: instants, and text as the JSON sink writes it where text is wanted (of
  a date, ``datetime64[D]`` among them, the date alone);
- an int in a column ``timestamp`` without a unit: ns since the epoch, as ``Batch.to_pylist`` gives them;
- ``NaT``, ``pandas.NA``, a masked value: null, as None is.

A value is never changed to fit: one beyond the column's range does not fit.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Rational
from types import NoneType
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow._kernels import json as json_kernel
from asyncflow.errors import safe_repr
from asyncflow.model.columns import (
    BoolArray,
    Column,
    FixedColumn,
    StringColumn,
    column_from_values,
    concat_columns,
)
from asyncflow.model.schema import TIMESTAMP_UNITS, DataType, Field

SHOWN_CHARACTERS = 60
ROWS_AT_ONCE = 1 << 16
"""Values whose JSON texts the kernel reads in one call."""
_LEAST, _MOST = -(2**63) + 1, 2**63 - 1  # of instants: the lowest int64 is NaT
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_NS = 86_400_000_000_000
_EXACT = 2.0**53
"""Up to this magnitude the shortest text of a float that is an integer is that integer's text."""


class Fitted(Struct, frozen=True, eq=False):
    """A column, and for each row whose value does not fit the reason; these rows are null."""

    column: Column
    misfits: Mapping[int, str]


class MisfitError(ValueError):
    """A value does not fit its column; the message is the value as users see it."""


def fitted(values: Sequence[Any] | NDArray[Any], field: Field) -> Fitted:
    """The column of ``values``, a sequence or an array."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return _of_array(values, field)
    return _of_list(list(values), field)


# -- arrays ----------------------------------------------------------------------------------------------------------


def _of_array(values: NDArray[Any], field: Field) -> Fitted:
    valid = None
    if isinstance(values, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(values)
        if mask.dtype != np.bool_:  # of a structured array: by field
            return _of_list([None if v is np.ma.masked else v for v in values], field)
        values, valid = values.data, None if not mask.any() else ~mask
    values = np.asarray(values)
    read = _READERS.get((values.dtype.kind, field.type))
    found = None if read is None else read(values, field)
    if found is None:
        objects = list(values) if values.dtype.kind in "MmVgG" else values.tolist()
        if valid is not None:
            objects = [v if there else None for v, there in zip(objects, valid.tolist(), strict=True)]
        return _of_list(objects, field)
    numbers, fits = found
    misfits = {}
    if fits is not None:
        wrong = ~fits if valid is None else ~fits & valid
        if values.dtype.kind == "M":
            valid = _both(valid, ~np.isnat(values))
            wrong &= ~np.isnat(values)
        rows = np.flatnonzero(wrong).tolist()
        misfits = {row: _misfit(field, _token_or_repr(values[row])) for row in rows}
        valid = _both(valid, fits)
    return Fitted(FixedColumn(numbers, None if valid is None or valid.all() else valid), misfits)


def _both(one: BoolArray | None, other: BoolArray) -> BoolArray:
    return other if one is None else one & other


_Read = tuple[NDArray[Any], "BoolArray | None"]


def _same(values: NDArray[Any], field: Field) -> _Read:
    return np.ascontiguousarray(values, field.type.dtype), None


def _integers(values: NDArray[Any], field: Field) -> _Read:
    """Integers times the unit of a timestamp, exactly."""
    unit = TIMESTAMP_UNITS[field.unit or "ns"] if field.type is DataType.TIMESTAMP else 1
    least, most = (-(2**63), _MOST) if field.type is DataType.INT64 else (-(_MOST // unit), _MOST // unit)
    fits = values <= most if values.dtype.kind == "u" else (values >= least) & (values <= most)
    if fits.all():
        return np.ascontiguousarray(values, np.int64) * unit, None
    return np.where(fits, values, 0).astype(np.int64) * unit, fits


def _floats(values: NDArray[Any], field: Field) -> _Read | None:
    if values.dtype.itemsize <= 8:
        return np.ascontiguousarray(values, np.float64), None
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values, np.float64)
    fits = np.isfinite(narrow) | ~np.isfinite(values)
    return narrow, None if fits.all() else fits


def _whole(values: NDArray[Any], field: Field) -> _Read | None:
    """Floats that are integers, as int64.  None where a float is no integer, or so large that only its text decides which integer it is."""
    if field.type is DataType.TIMESTAMP and field.unit in ("", "s"):
        return None
    if values.dtype.itemsize < 4:  # no float16 is as large as what it is compared with
        values = values.astype(np.float32)
    with np.errstate(invalid="ignore"):
        if not ((np.abs(values) < _EXACT) & (np.trunc(values) == values)).all():
            return None
        return _integers(values.astype(np.int64), field)


def _instants(values: NDArray[Any], field: Field) -> _Read | None:
    unit, count = np.datetime_data(values.dtype)
    if unit == "generic":
        return None
    if unit in ("Y", "M"):
        months = values.astype(f"M8[{unit}]").view(np.int64)
        near = np.abs(months) < (1000 if unit == "Y" else 12_000)  # far more than fits
        values, unit, count = np.where(near, values, np.datetime64(4000, "Y")).astype("M8[D]"), "D", 1
    numbers = values.astype(values.dtype.newbyteorder("=")).view(np.int64)
    if (per_unit := _DATETIME_UNITS.get(unit)) is not None:
        span = per_unit * count
        fits = (numbers >= -(_MOST // span)) & (numbers <= _MOST // span)
        numbers = np.where(fits, numbers, 0) * span
    else:
        numbers, fits = values.astype("M8[ns]").view(np.int64), ~np.isnat(values)
    return np.ascontiguousarray(numbers), fits if not fits.all() else None


_DATETIME_UNITS = {
    "W": 7 * _DAY_NS,
    "D": _DAY_NS,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    **TIMESTAMP_UNITS,
}
_READERS: dict[tuple[str, DataType], Callable[[NDArray[Any], Field], _Read | None]] = {
    ("b", DataType.BOOL): _same,
    ("i", DataType.INT64): _integers,
    ("u", DataType.INT64): _integers,
    ("f", DataType.INT64): _whole,
    ("i", DataType.FLOAT64): _same,
    ("u", DataType.FLOAT64): _same,
    ("f", DataType.FLOAT64): _floats,
    ("i", DataType.TIMESTAMP): _integers,
    ("u", DataType.TIMESTAMP): _integers,
    ("f", DataType.TIMESTAMP): _whole,
    ("M", DataType.TIMESTAMP): _instants,
}
"""Conversions of whole arrays, by kind of dtype and column type; values of other arrays are converted one by one."""


# -- lists -----------------------------------------------------------------------------------------------------------

_PLAIN = {
    DataType.BOOL: frozenset({bool, NoneType}),
    DataType.INT64: frozenset({int, NoneType}),
    DataType.FLOAT64: frozenset({float, int, NoneType}),
    DataType.STRING: frozenset({str, NoneType}),
}


def _of_list(values: list[Any], field: Field) -> Fitted:
    plain = _PLAIN.get(field.type)
    if plain is not None and plain.issuperset(map(type, values)):
        try:
            return Fitted(column_from_values(field.type, values), {})
        except (OverflowError, UnicodeEncodeError):
            pass  # a value does not fit: all are converted one by one
    if len(values) <= ROWS_AT_ONCE:
        return _one_by_one(values, field)
    parts = [
        _one_by_one(values[start : start + ROWS_AT_ONCE], field)
        for start in range(0, len(values), ROWS_AT_ONCE)
    ]
    misfits = {
        number * ROWS_AT_ONCE + row: reason
        for number, part in enumerate(parts)
        for row, reason in part.misfits.items()
    }
    return Fitted(concat_columns([part.column for part in parts]), misfits)


def _one_by_one(values: list[Any], field: Field) -> Fitted:
    instants: list[int | None] = [None] * len(values)
    tokens = ["null"] * len(values)
    misfits: dict[int, str] = {}
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            if field.type is DataType.TIMESTAMP and (known := _instant(value, field)) is not NotImplemented:
                instants[row] = known
            else:
                tokens[row] = token(value)
        except MisfitError as misfit:
            misfits[row] = _misfit(field, str(misfit), has_text=False)
    column = _read(tokens, field, misfits)
    if any(instant is not None for instant in instants):
        read = (
            column.values.tolist()
            if column.valid is None
            else np.where(column.valid, column.values, 0).tolist()
        )
        there = [True] * len(values) if column.valid is None else column.valid.tolist()
        column = column_from_values(
            field.type,
            [
                instant if instant is not None else number if known else None
                for instant, number, known in zip(instants, read, there, strict=True)
            ],
        )
    return Fitted(column, misfits)


def _read(tokens: list[str], field: Field, misfits: dict[int, str]) -> Any:
    """The column of JSON texts as the JSON decoder reads them; a value that does not fit is null and goes to ``misfits``."""
    block = np.frombuffer(bytearray("".join(f'{{"v":{each}}}\n' for each in tokens), "ascii"), np.uint8)
    decoder = json_kernel.Decoder(("v",), [field.type_text], [False], len(block) + 1)
    num_rows, _, [arrays], _, rejects = decoder.decode(block)
    wrong = [int(reject[0]) for reject in rejects.tolist()]
    misfits.update((row, _misfit(field, tokens[row])) for row in wrong)
    column = StringColumn(*arrays) if len(arrays) == 4 else FixedColumn(*arrays)
    if not wrong:
        return column
    fits = np.ones(len(tokens), np.bool_)
    fits[wrong] = False
    places: NDArray[np.int64] = np.cumsum(fits) - fits  # of each row among those that fit
    if num_rows == 0:
        return column_from_values(field.type, [None] * len(tokens))
    column = column.take(np.minimum(places, num_rows - 1))
    valid = fits if column.valid is None else fits & column.valid
    if isinstance(column, StringColumn):
        return StringColumn(column.data, column.starts, np.where(fits, column.lengths, np.int32(0)), valid)
    return FixedColumn(column.values, valid)


def _misfit(field: Field, shown: str, *, has_text: bool = True) -> str:
    """The reason for a value that does not fit.  ``has_text``: ``shown`` is the value's JSON text, a string in quotes."""
    if not has_text and field.type is DataType.STRING:
        return f"{field.name}: not a string: {shown[:SHOWN_CHARACTERS]}"
    if len(shown) > SHOWN_CHARACTERS:
        shown = shown[:SHOWN_CHARACTERS] + "..."
    return f"{field.name}: {field.misfit}: {shown}"


# -- one value -------------------------------------------------------------------------------------------------------


def instant(value: Any, field: Field) -> int | None:
    """A value of a timestamp column, or ISO text whatever the unit, as ns since the epoch, None for null; ValueError for no instant."""
    if field.unit and isinstance(value, str) and "-" in value[1:]:
        field = Field(field.name, field.type)
    result = _of_list([value], field)
    for reason in result.misfits.values():
        raise ValueError(reason)
    assert isinstance(result.column, FixedColumn)
    return None if result.column.valid is not None else int(result.column.values[0])


def token(value: Any) -> str:
    """A value's JSON text, as :mod:`json` writes it; MisfitError where it has none."""
    if isinstance(value, Decimal) and not value.is_snan():
        return str(value) if value.is_finite() else _json.encode(float(value))
    try:
        return _json.encode(value)
    except MisfitError:
        raise MisfitError(safe_repr(value)) from None
    except Exception:
        raise MisfitError(safe_repr(value)) from None


def _token_or_repr(value: Any) -> str:
    try:
        return token(value)
    except MisfitError as misfit:
        return str(misfit)


def json_default(value: Any) -> Any:
    """A value that JSON can write for one that it cannot; TypeError where there is none."""
    if value is np.ma.masked or type(value).__name__ == "NAType":
        return None
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value.items())
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode()
    if isinstance(value, dt.datetime | np.datetime64):
        ns = _ns(value)
        if ns is None:
            return None
        days = isinstance(value, np.datetime64) and np.datetime_data(value.dtype)[0] == "D"
        return str(value) if days else iso_text(ns)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, np.ndarray):
        return list(value) if value.dtype.kind in "MmVgG" and value.ndim else value.tolist()
    if isinstance(value, np.void) and value.dtype.names is not None:
        return {name: value[name] for name in value.dtype.names}
    return _number(value)


def _number(value: Any) -> int | float | bool | None:
    """A Python number equal to a number of another library, None for a missing value; TypeError where no Python number is equal."""
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.timedelta64):  # numpy takes it for an integer
        if np.isnat(value):
            return None
        raise TypeError("a duration")
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        number = float(value)
        if np.isfinite(value) and not np.isfinite(number):
            raise TypeError("beyond float64")
        return number
    if isinstance(value, Decimal):
        number = float(value)
        if value.is_finite() and value == value.to_integral_value():
            return int(value)
        if value.is_finite() and Decimal(repr(number)) != value:
            raise TypeError("no float says the same")
        return number
    if isinstance(value, Rational):
        return int(value.numerator) if value.denominator == 1 else float(value)
    raise TypeError(f"{type(value).__name__} has no JSON text")


_json = json.JSONEncoder(default=json_default, skipkeys=True)


def _instant(value: Any, field: Field) -> Any:
    """An instant (``datetime``, ``date``, ``datetime64``) as ns, None for NaT; NotImplemented for another object."""
    if isinstance(value, dt.datetime | np.datetime64):
        return _ns(value)
    if isinstance(value, dt.date):
        return _in_range((value.toordinal() - _EPOCH.toordinal()) * _DAY_NS, value)
    if (
        not field.unit
        and isinstance(value, int | np.integer)
        and not isinstance(value, bool | np.timedelta64)
    ):
        return _in_range(int(value), value)
    return NotImplemented


def _ns(value: dt.datetime | np.datetime64) -> int | None:
    """ns since the epoch, None for NaT; MisfitError out of the range of timestamps."""
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            return None
        read = _instants(np.array([value]), Field("", DataType.TIMESTAMP))
        if read is None or read[1] is not None:
            raise MisfitError(safe_repr(value))
        return int(read[0][0])
    try:
        if value != value:  # pandas.NaT
            return None
        aware = value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
        since = aware - _EPOCH
        ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
        ns += int(getattr(value, "nanosecond", 0))  # of pandas.Timestamp
    except Exception:
        raise MisfitError(safe_repr(value)) from None
    return _in_range(ns, value)


def _in_range(ns: int, value: Any) -> int:
    if not _LEAST <= ns <= _MOST:
        raise MisfitError(str(value) if isinstance(value, dt.date) else safe_repr(value))
    return ns


def iso_text(ns: int) -> str:
    """ns since the epoch as the JSON sink writes it: ``2023-11-14T22:13:20Z`` with 0, 3, 6 or 9 digits of fraction."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    text = (_EPOCH + dt.timedelta(seconds=seconds)).isoformat()[:19]
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def json_text(row: Iterable[tuple[str, Any]]) -> str:
    """A record as one line of JSON, with the ``repr`` of values that have no JSON text."""
    members = (f"{json.dumps(name)}: {_shown(value)}" for name, value in row)
    return "{" + ", ".join(members) + "}"


def _shown(value: Any) -> str:
    try:
        return token(value)
    except MisfitError as misfit:
        return json.dumps(str(misfit))
