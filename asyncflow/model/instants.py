"""Instants as text, both ways, and the words for parts of an instant.  An instant is int64 ns since the epoch, UTC.

Serves constants and casts of text within expressions; decoders read whole columns by kernels.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from types import MappingProxyType

# Patterns are compiled at first use: most runs never use them.
_INSTANT = (
    r"(\d{4})(?:-(\d{1,2})-|/(\d{1,2})/)(\d{1,2})"
    r"(?:(?:[Tt]| +)(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d{1,18}))?)?\s?([Zz]|[Uu][Tt][Cc]|[+-]\d{2}(?::?\d{2})?)?)?"
)
_BASIC = r"\A(\d{4})(\d\d)(\d\d)[Tt](\d\d)(\d\d)(\d\d)?(?=[^\d]|$)"
"""ISO-8601 without separators, as far as the seconds."""
BLANKS = " \t\n\v\f\r"
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1)
SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS


def parse_timestamp(text: str) -> int:
    """``"2024-01-01T10:00:00.5+02:00"`` or ``"2024-01-01 08:00"`` or ``"2024-01-01"`` to int64 ns.

    No offset means UTC; digits beyond the nanosecond are cut off; white space around does not count.  The basic form
    (``20240101T100000Z``) is read, too; 24:00:00 and second 60 are the next second.  Raises ValueError for anything else and outside 1677
    to 2262.
    """
    match = re.fullmatch(
        _INSTANT, re.sub(_BASIC, _extended, text.strip(BLANKS), count=1, flags=re.ASCII), re.ASCII
    )
    if match is None:
        raise ValueError(f"not a timestamp: {text!r} (write it like 2024-01-31 23:59:59)")
    year, dashed, slashed, day, hour, minute, second, fraction, offset = match.groups()
    month = dashed or slashed
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError as error:
        raise ValueError(f"not a timestamp: {text!r} ({error})") from None
    h, m, s = int(hour or 0), int(minute or 0), int(second or 0)
    whole = not m and not s and not (fraction or "").strip("0")
    if h > (24 if whole else 23) or m > 59 or s > 60:
        raise ValueError(f"not a timestamp: {text!r} (no such time of day)")
    ns = days * DAY_NS + (h * 3600 + m * 60 + s) * SECOND_NS
    if fraction:
        ns += int(fraction[:9].ljust(9, "0"))
    if offset and offset[0] in "+-":
        digits = offset[1:].replace(":", "")
        hours, minutes = int(digits[:2]), int(digits[2:] or 0)
        if hours > 23 or minutes > 59:
            raise ValueError(f"not a timestamp: {text!r} (no such offset)")
        seconds = hours * 3600 + minutes * 60
        ns -= (seconds if offset[0] == "+" else -seconds) * SECOND_NS
    if not -(2**63) <= ns < 2**63:
        raise ValueError(f"timestamp outside 1677-09-21 to 2262-04-11: {text!r}")
    return ns


def _extended(basic: re.Match[str]) -> str:
    year, month, day, hour, minute, second = basic.groups(default="00")
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}"


def format_timestamp(ns: int) -> str:
    """int64 ns as SQL writes it: ``"2024-01-01 00:00:00.5"``, the fraction without trailing zeros."""
    seconds, fraction = divmod(ns, SECOND_NS)
    text = str(_EPOCH + timedelta(seconds=seconds))
    return f"{text}.{fraction:09d}".rstrip("0") if fraction else text


TRUNC_UNITS = MappingProxyType(
    {
        name: unit
        for unit, names in {
            "microsecond": "microsecond microseconds us usec usecs",
            "millisecond": "millisecond milliseconds ms msec msecs",
            "second": "second seconds s sec secs",
            "minute": "minute minutes m min mins",
            "hour": "hour hours h hr hrs",
            "day": "day days d",
            "week": "week weeks w",
            "month": "month months mon mons",
            "quarter": "quarter quarters",
            "year": "year years y yr yrs",
            "decade": "decade decades",
            "century": "century centuries",
        }.items()
        for name in names.split()
    }
)
"""Words for units in ``date_trunc``, each to the unit's name."""

EXTRACT_FIELDS = MappingProxyType(
    {
        **TRUNC_UNITS,
        "nanosecond": "nanosecond",
        "nanoseconds": "nanosecond",
        "epoch": "epoch",
        "dow": "dow",
        "dayofweek": "dow",
        "weekday": "dow",
        "isodow": "isodow",
        "doy": "doy",
        "dayofyear": "doy",
        "isoyear": "isoyear",
        "yearweek": "yearweek",
    }
)
"""Words for fields in ``extract``, each to the field's name."""
