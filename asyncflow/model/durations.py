"""Durations (``"1m30s"``) and sizes (``"16MiB"``), both ways."""

from __future__ import annotations

import re

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_PART = re.compile(r"(\d{1,40}(?:\.\d{1,40})?)(ns|us|ms|s|m|h|d)", re.ASCII)
_SIZE = r"(\d{1,40}(?:\.\d{1,40})?)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?\Z"
"""Compiled at first use, as few runs name a size."""
_SIZE_UNITS = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip


def parse_duration(text: str) -> int:
    """``"1m30s"`` to nanoseconds (int, below 2**63).  Raises ValueError that shows the form, or says that it is too long."""
    position, total = 0, 0
    compact = text.strip()
    negative = compact.startswith("-")
    compact = compact.removeprefix("-")
    while match := _PART.match(compact, position):
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS_NS[match[2]]
        total += int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        position = match.end()
    if total >= 2**63:
        raise ValueError(f"{text!r} is longer than 292 years, the longest duration there is")
    if not compact or position != len(compact):
        raise ValueError(f'not a duration: {text!r} (write it like "250ms", "5s", "1m30s", "2h", "1d")')
    return -total if negative else total


def format_duration(ns: int) -> str:
    """Nanoseconds to the shortest text that :func:`parse_duration` reads back."""
    if ns == 0:
        return "0s"
    rest, parts = abs(ns), []
    for unit, size in reversed(_UNITS_NS.items()):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if ns < 0 else "") + "".join(parts)


def parse_size(text: str) -> int:
    """``"16MiB"`` to bytes.  Raises ValueError that shows the form."""
    match = re.match(_SIZE, text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f'not a size: {text!r} (write it like "64KiB", "16MiB", "2GiB")')
    return int(float(match[1]) * _SIZE_UNITS[match[2] or "B"])


def format_size(size_bytes: int) -> str:
    """Bytes as text, in the greatest unit (``KiB`` to ``TiB``) that they reach: ``1.5MiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size_bytes >= _SIZE_UNITS[unit]:
            return f"{size_bytes / _SIZE_UNITS[unit]:.1f}".removesuffix(".0") + unit
    return f"{size_bytes}B"
