"""The plain twin of the column loops and the exact parsers: text to values, by the rules that all text formats share.

The twins of ``csv``, ``json`` and ``spans`` call :func:`parse`.  The C is in ``numbers/numbers.h``, ``numbers/timestamps.h`` and
``columns/``.
"""

from __future__ import annotations

import datetime
import re
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

_INTEGER = re.compile(rb"[+-]?[0-9]+")
_FLOAT = re.compile(
    rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity)|[+-]?nan", re.IGNORECASE
)
_DECIMAL = re.compile(rb"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:e([+-]?[0-9]+))?", re.IGNORECASE)
_ZONE = rb"(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
_TIME = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    + _ZONE
    + rb")?",
    re.IGNORECASE,
)
_BASIC_TIME = re.compile(
    rb"([0-9]{4})([0-9]{2})([0-9]{2})(?:[T ]([0-9]{2})([0-9]{2})(?:([0-9]{2})(?:[.,]([0-9]+))?)?"
    + _ZONE
    + rb")?",
    re.IGNORECASE,
)
_UNITS_NS = {"timestamp[ms]": 10**6, "timestamp[us]": 10**3, "timestamp[ns]": 1}


_BOOLS = {b"true": True, b"t": True, b"1": True, b"false": False, b"f": False, b"0": False}
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def parse(type_: str, text: bytes) -> Any:
    """The value of ``text`` in a column of that type, without spaces and tabs around it; times as int ns.  ValueError where there
    is none."""
    text = text.strip(b" \t")
    if type_ == "bool":
        if text.lower() not in _BOOLS:
            raise ValueError("not a bool")
        return _BOOLS[text.lower()]
    if type_ == "float64":
        _match(_FLOAT, text)
        return float(text)
    if type_ == "int64":
        return _int64(_integer(text))
    if type_ == "timestamp":
        return _time(_int64(_iso_ns(text)))
    if type_ == "timestamp[s]":
        return _time(_int64(_seconds_ns(text)))
    return _time(_int64(_integer(text) * _UNITS_NS[type_]))


def _match(pattern: re.Pattern[bytes], text: bytes) -> re.Match[bytes]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError(f"not of the form {pattern.pattern!r}")
    return match


def _int64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("beyond int64")
    return value


def _time(ns: int) -> int:
    if ns == -(2**63):
        raise ValueError("the lowest int64 stands for no time")
    return ns


def _integer(text: bytes) -> int:
    _match(_INTEGER, text)
    digits = text.lstrip(b"+-").lstrip(b"0")
    if len(digits) > 19:
        raise ValueError("beyond int64")
    return (-1 if text.startswith(b"-") else 1) * int(digits or b"0")


def _seconds_ns(text: bytes) -> int:
    """A decimal number of seconds as ns: exact, rounded to the nearest ns, half to even."""
    match = _match(_DECIMAL, text)
    whole, fraction = match[2] or b"", match[3] or match[4] or b""
    digits = (whole + fraction).lstrip(b"0")
    if not digits:
        return 0
    written = match[5] or b"0"
    exponent = int(written) if len(written) < 20 else 10**20 * (-1 if written.startswith(b"-") else 1)
    shift = exponent - len(fraction) + 9  # the value is digits * 10**shift ns
    if len(digits) + shift > 19:
        raise ValueError("beyond int64")
    if len(digits) + shift < 0:
        return 0
    with localcontext(prec=len(digits) + 40) as context:
        context.Emax, context.Emin = MAX_EMAX, MIN_EMIN
        value = Decimal(digits.decode()).scaleb(shift).to_integral_value(ROUND_HALF_EVEN)
    return -int(value) if match[1] == b"-" else int(value)


def _iso_ns(text: bytes) -> int:
    match = _match(_TIME if b"-" in text[:5] else _BASIC_TIME, text)
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    if year == b"0000":
        days = (
            datetime.date(400, int(month), int(day)).toordinal() - 146_097
        )  # the calendar repeats after 400 years
    else:
        days = datetime.date(int(year), int(month), int(day)).toordinal()
    hour, minute, second, hours, minutes = (int(part or 0) for part in (hour, minute, second, hours, minutes))
    if hour > 24 or minute > 59 or second > 60 or hours > 23 or minutes > 59:
        raise ValueError("no such time of day")
    if hour == 24 and (minute or second or int((fraction or b"0")[:9])):
        raise ValueError("24:00:00 is the end of the day")
    offset = (hours * 60 + minutes) * (-60 if sign == b"-" else 60)
    seconds = (days - _EPOCH) * 86_400 + hour * 3600 + minute * 60 + second - offset
    return seconds * 10**9 + int((fraction or b"0")[:9].ljust(9, b"0"))
