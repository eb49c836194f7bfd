"""Functions of timestamps: int64 ns since the epoch, UTC.  Right for the whole range of 1677 to 2262, before 1970 too.

Calendar parts come from numpy's ``datetime64`` (proleptic Gregorian).  A result outside the range is null, counted as ``overflow``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow.model.columns import FixedColumn, Int64Array, StringColumn
from asyncflow.model.instants import DAY_NS, EXTRACT_FIELDS, SECOND_NS, TRUNC_UNITS
from asyncflow.operators.functions import numbers
from asyncflow.operators.functions.arrays import Count, fixed
from asyncflow.operators.functions.numbers import within_int64
from asyncflow.operators.functions.texts import texts_of

MILLISECOND_NS = 1_000_000
_LENGTHS_NS = {
    "microsecond": 1_000,
    "millisecond": MILLISECOND_NS,
    "second": SECOND_NS,
    "minute": 60 * SECOND_NS,
    "hour": 3600 * SECOND_NS,
    "day": DAY_NS,
}
_MONTHS = {"month": 1, "quarter": 3, "year": 12, "decade": 120, "century": 1200}


def shift(count: Count, instant: FixedColumn, length_ns: FixedColumn) -> FixedColumn:
    """The instant plus a length of time."""
    return numbers.add(count, instant, length_ns)


def date_trunc(count: Count, unit: StringColumn, instant: FixedColumn) -> FixedColumn:
    """The start of the unit that the instant lies in; weeks start on Monday."""
    name = TRUNC_UNITS[texts_of(unit)[0].lower()]
    values = instant.values
    if name in _LENGTHS_NS:
        size_ns = _LENGTHS_NS[name]
        result = values - np.mod(values, size_ns)
    elif name == "week":
        days = _days(values)
        result = (days - (days + 3) % 7) * DAY_NS  # 1970-01-01 was a Thursday
    else:
        size = _MONTHS[name]
        months = _months(values)
        origin = 0 if size <= 12 else -1970 * 12  # decades and centuries count from the year 0
        months -= (months - origin) % size
        result = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) * DAY_NS
    return within_int64(
        count, result, instant.valid, result > values
    )  # what lies before the range wrapped round


def _days(values: Int64Array) -> Int64Array:
    return values // DAY_NS


def _months(values: Int64Array) -> Int64Array:
    """Months since 1970-01."""
    return _days(values).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _years(values: Int64Array) -> Int64Array:
    return _months(values) // 12 + 1970


def _iso_weekday(values: Int64Array) -> Int64Array:
    """1 is Monday, 7 is Sunday."""
    return (_days(values) + 3) % 7 + 1


def _iso_thursday(values: Int64Array) -> Int64Array:
    """Days since the epoch of the Thursday in the instant's ISO week: it decides which year the week belongs to."""
    return _days(values) + 4 - _iso_weekday(values)


def _year_of_days(days: Int64Array) -> Int64Array:
    return days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970


def _first_of_year(years: Int64Array) -> Int64Array:
    """Days since the epoch of January 1st."""
    return (years - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)


def _iso_year(values: Int64Array) -> Int64Array:
    return _year_of_days(_iso_thursday(values))


def _week(values: Int64Array) -> Int64Array:
    thursday = _iso_thursday(values)
    return (thursday - _first_of_year(_year_of_days(thursday))) // 7 + 1


def _part(of_ns: int, unit_ns: int) -> Callable[[Int64Array], Int64Array]:
    return lambda values: np.mod(values, of_ns) // unit_ns


_MINUTE_NS = 60 * SECOND_NS
_FIELDS: dict[str, Callable[[Int64Array], NDArray[Any]]] = {
    "nanosecond": _part(_MINUTE_NS, 1),
    "microsecond": _part(_MINUTE_NS, 1_000),
    "millisecond": _part(_MINUTE_NS, MILLISECOND_NS),
    "second": _part(_MINUTE_NS, SECOND_NS),
    "minute": _part(3600 * SECOND_NS, _MINUTE_NS),
    "hour": _part(DAY_NS, 3600 * SECOND_NS),
    "day": lambda values: _days(values) - _month_start(values) + 1,
    "month": lambda values: _months(values) % 12 + 1,
    "quarter": lambda values: _months(values) % 12 // 3 + 1,
    "year": _years,
    "decade": lambda values: _years(values) // 10,
    "century": lambda values: (_years(values) - 1) // 100 + 1,
    "week": _week,
    "isoyear": _iso_year,
    "yearweek": lambda values: _iso_year(values) * 100 + _week(values),
    "dow": lambda values: _iso_weekday(values) % 7,
    "isodow": _iso_weekday,
    "doy": lambda values: _days(values) - _first_of_year(_years(values)) + 1,
    "epoch": lambda values: _seconds(values),
}


def _month_start(values: Int64Array) -> Int64Array:
    return _months(values).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _seconds(values: Int64Array) -> NDArray[np.float64]:
    """float64 seconds; one rounding where the instant is whole microseconds, as everything DuckDB can hold is."""
    micros, rest = np.divmod(values, 1_000)
    return np.where(rest == 0, micros / 1e6, values / 1e9)


def extract(field: StringColumn, instant: FixedColumn) -> FixedColumn:
    """A part of the instant: int64, or float64 seconds for ``epoch``.  ``second``, ``millisecond``, ... count from the minute's start."""
    name = EXTRACT_FIELDS[texts_of(field)[0].lower()]
    return fixed(_FIELDS[name](instant.values), instant.valid)


def epoch_ms(instant: FixedColumn) -> FixedColumn:
    """int64 milliseconds since the epoch, halves away from zero."""
    whole, rest = np.divmod(instant.values, MILLISECOND_NS)
    half = MILLISECOND_NS // 2
    return fixed(whole + ((rest > half) | ((rest == half) & (whole >= 0))), instant.valid)


def from_epoch_ms(count: Count, milliseconds: FixedColumn) -> FixedColumn:
    """The instant of so many milliseconds."""
    return numbers.mul(count, milliseconds, FixedColumn(np.array([MILLISECOND_NS])))
