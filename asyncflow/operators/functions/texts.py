"""Functions of texts, once per distinct text where only one argument varies.

Searching, comparing, counting and numbering distinct texts are kernel loops; what needs Python's own ``str`` runs on the distinct
texts of a batch and the result is viewed from every row.  Positions and lengths count characters (code points), from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from asyncflow._kernels import strings as _text
from asyncflow.model import patterns
from asyncflow.model.columns import (
    BoolArray,
    Column,
    FixedColumn,
    IndexArray,
    StringColumn,
    check_text_bytes,
)
from asyncflow.model.schema import DataType
from asyncflow.operators.functions import comparing
from asyncflow.operators.functions.arrays import fixed, rows_of, valid_of

_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def distinct(column: StringColumn) -> tuple[StringColumn, IndexArray]:
    """The distinct texts by first occurrence, and for each row the number of its own; null rows count as empty texts."""
    ids, firsts = np.empty(len(column), np.int32), np.empty(len(column), np.int32)
    count = _text.distinct(column.data, column.starts, column.lengths, ids, firsts)
    rows = firsts[:count].astype(np.intp)
    return StringColumn(column.data, column.starts[rows], column.lengths[rows]), ids.astype(np.intp)


def texts_of(column: StringColumn) -> list[str]:
    """Every row's text; bytes that are no UTF-8 survive as lone surrogates.  Only the viewed bytes are touched."""
    whole = column.data.data
    return [
        str(whole[start : start + length], "utf-8", "surrogateescape")
        for start, length in zip(column.starts.tolist(), column.lengths.tolist(), strict=True)
    ]


def column_of(values: Sequence[Any], type_: DataType) -> Column:
    """A column without nulls from Python values."""
    if type_ is DataType.STRING:
        return StringColumn.from_values([value.encode("utf-8", "surrogateescape") for value in values])
    return FixedColumn(np.array(values, dtype=type_.dtype))


def mapped(function: Callable[..., Any], type_: DataType, *columns: Column) -> Column:
    """``function`` of each row's values, None of which is null; once per distinct text where only the first column varies."""
    valid = valid_of(*columns)
    first = columns[0]
    if len(first) > 1 and isinstance(first, StringColumn) and all(len(column) == 1 for column in columns[1:]):
        if any(column.valid is not None and not column.valid[0] for column in columns[1:]):
            return _nulls(type_, len(first))
        texts, ids = distinct(first)
        constants = [_python_values(column)[0] for column in columns[1:]]
        results = column_of(_results(function, ((text, *constants) for text in texts_of(texts))), type_)
        return _with_valid(results.take(ids), first.valid)
    rows = rows_of(*columns)
    lists: list[Any] = [_python_values(column) for column in columns]
    varying = [values if len(values) == rows else repeat(values[0], rows) for values in lists]
    known: dict[tuple[Any, ...], int] = {}
    numbers = [known.setdefault(arguments, len(known)) for arguments in zip(*varying, strict=True)]
    column = column_of(_results(function, known), type_)
    return _with_valid(column if len(known) == rows else column.take(np.array(numbers, np.intp)), valid)


def _results(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[Any]:
    """What the function gives for each of these; TooLargeError as soon as its texts are more than a column holds."""
    results, total = [], 0
    for arguments in calls:
        result = function(*arguments)
        results.append(result)
        if isinstance(result, str):
            total += len(result)
            check_text_bytes(total)
    return results


def _nulls(type_: DataType, rows: int) -> Column:
    """One null for all."""
    empty: Any = "" if type_ is DataType.STRING else 0
    return _with_valid(column_of([empty], type_), np.zeros(1, np.bool_))


def _with_valid(column: Column, valid: BoolArray | None) -> Column:
    if isinstance(column, FixedColumn):
        return fixed(column.values, valid)
    if valid is not None and len(valid) != len(column):
        valid = np.broadcast_to(valid, len(column))
    return StringColumn(column.data, column.starts, column.lengths, valid)


def _python_values(column: Column) -> list[Any]:
    if isinstance(column, StringColumn):
        return texts_of(column)
    values: list[Any] = column.values.tolist()
    return values


# -- tests -----------------------------------------------------------------------------------------------------------


def _search(place: int, test: Callable[[str, str], bool]) -> Callable[[StringColumn, StringColumn], Column]:
    def apply(text: StringColumn, wanted: StringColumn) -> Column:
        if len(wanted) != 1:
            return mapped(test, DataType.BOOL, text, wanted)
        out = np.empty(len(text), np.bool_)
        _text.find(text.data, text.starts, text.lengths, _bytes(wanted), place, out)
        return fixed(out, valid_of(text, wanted))

    return apply


def _bytes(constant: StringColumn) -> bytes:
    start = int(constant.starts[0])
    return constant.data[start : start + int(constant.lengths[0])].tobytes()


starts_with = _search(0, str.startswith)
ends_with = _search(1, str.endswith)
contains = _search(2, str.__contains__)


def like(text: StringColumn, pattern: StringColumn, escape: StringColumn | None = None) -> Column:
    """``LIKE``: simple patterns are a comparison or a search of bytes, others the kernel of patterns."""
    others = (pattern,) if escape is None else (pattern, escape)
    if len(pattern) == 1 and (escape is None or len(escape) == 1):
        escapes = "" if escape is None else texts_of(escape)[0]
        pieces = patterns.like_pieces(texts_of(pattern)[0], escapes)
        if not any(None in piece for piece in pieces):
            parts = [_constant("".join(char or "" for char in piece)) for piece in pieces]
            simple: Column | None = None
            match parts:
                case [whole]:
                    simple = comparing.eq(text, whole)
                case [start, end] if not len(_bytes(end)):
                    simple = starts_with(text, start)
                case [start, end] if not len(_bytes(start)):
                    simple = ends_with(text, end)
                case [start, middle, end] if not len(_bytes(start)) and not len(_bytes(end)):
                    simple = contains(text, middle)
            if isinstance(simple, FixedColumn):
                return fixed(simple.values, valid_of(text, *others))
        return _matches(patterns.like(texts_of(pattern)[0], escapes), text, *others)
    return mapped(lambda t, *p: patterns.like(*p).found_in(t), DataType.BOOL, text, *others)


def _constant(text: str) -> StringColumn:
    return StringColumn.from_values([text.encode("utf-8", "surrogateescape")])


def regexp_matches(text: StringColumn, pattern: StringColumn) -> Column:
    if len(pattern) == 1:
        return _matches(patterns.regexp(texts_of(pattern)[0]), text, pattern)
    return mapped(lambda t, p: patterns.regexp(p).found_in(t), DataType.BOOL, text, pattern)


def _matches(pattern: patterns.Pattern, text: StringColumn, *others: Column) -> Column:
    """Where a constant pattern is found; null where a text or one of ``others`` is."""
    return fixed(pattern.matches(text.data, text.starts, text.lengths), valid_of(text, *others))


# -- texts from texts ------------------------------------------------------------------------------------------------


def length(text: StringColumn) -> FixedColumn:
    out = np.empty(len(text), np.int64)
    _text.count_characters(text.data, text.starts, text.lengths, out)
    return fixed(out, text.valid)


def lower(text: Column) -> Column:
    return mapped(lower_text, DataType.STRING, text)


def upper(text: Column) -> Column:
    return mapped(upper_text, DataType.STRING, text)


def upper_text(text: str) -> str:
    """Capital letters one for one: the number of characters stays (``ß`` becomes ``ẞ``, ``ŉ`` stays)."""
    return (
        text.upper()
        if text.isascii()
        else "".join(_UPPER.get(char) or _one(char.upper(), char.title(), char) for char in text)
    )


def lower_text(text: str) -> str:
    """Small letters one for one, whatever stands beside them."""
    return (
        text.lower()
        if text.isascii()
        else "".join(_LOWER.get(char) or _one(char.lower(), char) for char in text)
    )


_UPPER = {"ß": "ẞ"}
_LOWER = {"İ": "i"}


def _one(*candidates: str) -> str:
    return next(candidate for candidate in candidates if len(candidate) == 1)


def trim(text: Column, characters: Column | None = None) -> Column:
    if characters is None:
        return mapped(lambda t: t.strip(_SPACES), DataType.STRING, text)
    return mapped(lambda t, c: t.strip(c) if c else t, DataType.STRING, text, characters)


def substring(text: Column, start: Column, size: Column | None = None) -> Column:
    return mapped(_substring, DataType.STRING, text, start, *([] if size is None else [size]))


def _substring(text: str, position: int, size: int | None = None) -> str:
    """As DuckDB counts: 0 stands before the first, negative from the end; a negative size reaches back from there."""
    begin = position - 1 if position > 0 else -1 if position == 0 else len(text) + position
    end = len(text) if size is None else begin + size
    if size is not None and size < 0:
        begin, end = end, begin
    return text[max(begin, 0) : max(end, 0)]


def replace(text: Column, old: Column, new: Column) -> Column:
    return mapped(lambda t, o, n: t.replace(o, n) if o else t, DataType.STRING, text, old, new)


def split_part(text: Column, separator: Column, number: Column) -> Column:
    return mapped(_split_part, DataType.STRING, text, separator, number)


def _split_part(text: str, separator: str, number: int) -> str:
    parts = text.split(separator) if separator else list(text)
    index = number - 1 if number > 0 else len(parts) + number
    return parts[index] if number and 0 <= index < len(parts) else ""


def regexp_extract(text: StringColumn, pattern: StringColumn, group: FixedColumn | None = None) -> Column:
    """A group of the first match, 0 all of it; empty where there is none.  With constants the result views the text."""
    others = (pattern,) if group is None else (pattern, group)
    if any(len(other) != 1 for other in others):
        return mapped(_regexp_extract, DataType.STRING, text, *others)
    if any(other.valid is not None and not other.valid[0] for other in others):
        return _nulls(DataType.STRING, len(text))
    compiled = patterns.regexp(texts_of(pattern)[0])
    number = 0 if group is None else int(group.values[0])
    if not 0 <= number <= compiled.groups:
        return _with_valid(_constant("").take(np.zeros(len(text), np.intp)), text.valid)
    _, begins, sizes = compiled.spans(text.data, text.starts, text.lengths, [number])
    return StringColumn(text.data, begins[0], np.maximum(sizes[0], 0), text.valid)


def _regexp_extract(text: str, pattern: str, group: int = 0) -> str:
    compiled = patterns.regexp(pattern)
    return (compiled.extract(text, group) or "") if 0 <= group <= compiled.groups else ""


def concat(*columns: StringColumn) -> Column:
    """The texts of each row put together; null where one is null."""
    varying = [column for column in columns if len(column) > 1]
    if len(varying) == 1 and len(columns) <= 3:
        position = next(index for index, column in enumerate(columns) if len(column) > 1)
        before = "".join(texts_of(column)[0] for column in columns[:position])
        after = "".join(texts_of(column)[0] for column in columns[position + 1 :])
        joined = mapped(lambda text: f"{before}{text}{after}", DataType.STRING, varying[0])
        return _with_valid(joined, valid_of(*columns))
    rows = rows_of(*columns)
    lists = [texts_of(column) for column in columns]
    varied = [values if len(values) == rows else repeat(values[0], rows) for values in lists]
    return _with_valid(
        column_of(["".join(parts) for parts in zip(*varied, strict=True)], DataType.STRING),
        valid_of(*columns),
    )
