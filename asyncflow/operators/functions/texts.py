"""Functions of texts.  Kernels loop over the columns; only patterns that differ from row to row are matched one by one.

Functions that cut a text give views into its bytes.  Positions and lengths count characters (code points), from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

import numpy as np

from asyncflow._kernels import strings
from asyncflow._kernels import texts as kernel
from asyncflow.model import patterns
from asyncflow.model.columns import (
    BoolArray,
    ByteArray,
    Column,
    FixedColumn,
    IndexArray,
    Int32Array,
    Int64Array,
    StringColumn,
    check_text_bytes,
)
from asyncflow.model.schema import DataType
from asyncflow.operators.functions.arrays import fixed, rows_of, valid_of

_SPACES = StringColumn.from_values(
    [" \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"]
)


def distinct(column: StringColumn) -> tuple[StringColumn, IndexArray]:
    """The distinct texts by first occurrence, and for each row the number of its own; null rows count as empty texts."""
    ids, firsts = np.empty(len(column), np.int32), np.empty(len(column), np.int32)
    count = strings.distinct(column.data, column.starts, column.lengths, ids, firsts)
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


def _mapped(function: Callable[..., Any], type_: DataType, *columns: Column) -> Column:
    """``function`` of each row's values, None of which is null; once for equal arguments."""
    valid = valid_of(*columns)
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
        valid = np.repeat(valid, len(column))
    return StringColumn(column.data, column.starts, column.lengths, valid)


def _python_values(column: Column) -> list[Any]:
    if isinstance(column, StringColumn):
        return texts_of(column)
    values: list[Any] = column.values.tolist()
    return values


def _views(column: StringColumn) -> tuple[ByteArray, Int32Array, Int32Array]:
    return column.data, column.starts, column.lengths


def _numbers(column: FixedColumn) -> Int64Array:
    return np.ascontiguousarray(column.values)


def _new_views(rows: int) -> tuple[Int32Array, Int32Array]:
    return np.empty(rows, np.int32), np.empty(rows, np.int32)


# -- tests -----------------------------------------------------------------------------------------------------------


def _search(place: int) -> Callable[[StringColumn, StringColumn], Column]:
    def apply(text: StringColumn, wanted: StringColumn) -> Column:
        out = np.empty(rows_of(text, wanted), np.bool_)
        kernel.find(*_views(text), *_views(wanted), place, out)
        return fixed(out, valid_of(text, wanted))

    return apply


starts_with = _search(0)
ends_with = _search(1)
contains = _search(2)


def like(text: StringColumn, pattern: StringColumn, escape: StringColumn | None = None) -> Column:
    """``LIKE``: a pattern without ``_`` is a search of its pieces, others the kernel of patterns."""
    others = (pattern,) if escape is None else (pattern, escape)
    if all(len(other) == 1 for other in others):
        escapes = "" if escape is None else texts_of(escape)[0]
        pieces = patterns.like_pieces(texts_of(pattern)[0], escapes)
        if any(None in piece for piece in pieces):
            return _matches(patterns.like(texts_of(pattern)[0], escapes), text, *others)
        wanted = [
            "".join(char or "" for char in piece).encode("utf-8", "surrogateescape") for piece in pieces
        ]
        out = np.empty(len(text), np.bool_)
        kernel.like(*_views(text), wanted, out)
        return fixed(out, valid_of(text, *others))
    return _mapped(lambda t, *p: patterns.like(*p).found_in(t), DataType.BOOL, text, *others)


def regexp_matches(text: StringColumn, pattern: StringColumn) -> Column:
    if len(pattern) == 1:
        return _matches(patterns.regexp(texts_of(pattern)[0]), text, pattern)
    return _mapped(lambda t, p: patterns.regexp(p).found_in(t), DataType.BOOL, text, pattern)


def _matches(pattern: patterns.Pattern, text: StringColumn, *others: Column) -> Column:
    """Where a constant pattern is found; null where a text or one of ``others`` is."""
    return fixed(pattern.matches(text.data, text.starts, text.lengths), valid_of(text, *others))


# -- views into texts ------------------------------------------------------------------------------------------------


def length(text: StringColumn) -> FixedColumn:
    out = np.empty(len(text), np.int64)
    strings.count_characters(*_views(text), out)
    return fixed(out, text.valid)


def trim(text: StringColumn, characters: StringColumn = _SPACES) -> Column:
    starts, lengths = _new_views(rows_of(text, characters))
    kernel.trim(*_views(text), *_views(characters), starts, lengths)
    return _with_valid(StringColumn(text.data, starts, lengths), valid_of(text, characters))


def substring(text: StringColumn, start: FixedColumn, size: FixedColumn | None = None) -> Column:
    """As DuckDB counts: 0 stands before the first, negative from the end; a negative size reaches back from there."""
    others = [start] if size is None else [start, size]
    starts, lengths = _new_views(rows_of(text, *others))
    kernel.substring(
        *_views(text), _numbers(start), None if size is None else _numbers(size), starts, lengths
    )
    return _with_valid(StringColumn(text.data, starts, lengths), valid_of(text, *others))


def split_part(text: StringColumn, separator: StringColumn, number: FixedColumn) -> Column:
    """Parts count from 1, from the end from -1; without a separator each character is a part.  Empty where there is none."""
    starts, lengths = _new_views(rows_of(text, separator, number))
    kernel.split_part(*_views(text), *_views(separator), _numbers(number), starts, lengths)
    return _with_valid(StringColumn(text.data, starts, lengths), valid_of(text, separator, number))


def regexp_extract(text: StringColumn, pattern: StringColumn, group: FixedColumn | None = None) -> Column:
    """A group of the first match, 0 all of it; empty where there is none.  With constants the result views the text."""
    others = (pattern,) if group is None else (pattern, group)
    if any(len(other) != 1 for other in others):
        return _mapped(_regexp_extract, DataType.STRING, text, *others)
    if any(other.valid is not None and not other.valid[0] for other in others):
        return _nulls(DataType.STRING, len(text))
    compiled = patterns.regexp(texts_of(pattern)[0])
    number = 0 if group is None else int(group.values[0])
    if not 0 <= number <= compiled.groups:
        return StringColumn(text.data, text.starts, np.zeros(len(text), np.int32), text.valid)
    _, begins, sizes = compiled.spans(text.data, text.starts, text.lengths, [number])
    return StringColumn(text.data, begins[0], np.maximum(sizes[0], 0), text.valid)


def _regexp_extract(text: str, pattern: str, group: int = 0) -> str:
    compiled = patterns.regexp(pattern)
    return (compiled.extract(text, group) or "") if 0 <= group <= compiled.groups else ""


# -- new texts -------------------------------------------------------------------------------------------------------


def _apart(column: StringColumn) -> tuple[StringColumn, IndexArray | None]:
    """The column, or, where its rows view the same bytes several times, its distinct texts and the number of each row's own: what
    is made of them is then not larger than the bytes let expect."""
    if _size(column) <= len(column.data):
        return column, None
    return distinct(column)


def _size(column: StringColumn) -> int:
    return int(column.lengths.sum(dtype=np.int64))


def _room(size: int) -> ByteArray:
    check_text_bytes(size)
    return np.empty(size + kernel.SLACK, np.uint8)


def lower(text: StringColumn) -> Column:
    """Small letters one for one, whatever stands beside them."""
    return _changed(text, False)


def upper(text: StringColumn) -> Column:
    """Capital letters one for one: the number of characters stays (``ß`` becomes ``ẞ``, ``ŉ`` stays)."""
    return _changed(text, True)


def _changed(text: StringColumn, upper: bool) -> Column:
    parts, ids = _apart(text)
    starts, lengths = _new_views(len(parts))
    out = _room(_size(parts))
    written = kernel.change_case(*_views(parts), None, upper, out, starts, lengths)
    if written < 0:
        out = np.empty(2 * _size(parts) + kernel.SLACK, np.uint8)
        written = kernel.change_case(*_views(parts), _letters(upper), upper, out, starts, lengths)
        check_text_bytes(written)
    made = StringColumn(out[:written], starts, lengths)
    return _with_valid(made if ids is None else made.take(ids), text.valid)


@lru_cache
def _letters(upper: bool) -> Int32Array:
    """Of each code point the capital or small letter in its place."""
    letters = np.arange(_LETTERS_END, dtype=np.int32)
    for block in range(0x80, _LETTERS_END, 0x80):
        if 0xD800 <= block < 0xE000:  # halves of pairs
            continue
        chars = "".join(map(chr, range(block, block + 0x80)))
        if (chars.upper() if upper else chars.lower()) != chars:
            letters[block : block + 0x80] = [ord(_upper(char) if upper else _lower(char)) for char in chars]
    return letters


_LETTERS_END = 0x20000


def _upper(char: str) -> str:
    return "ẞ" if char == "ß" else _one(char.upper(), char.title(), char)


def _lower(char: str) -> str:
    return "i" if char == "İ" else _one(char.lower(), char)


def _one(*candidates: str) -> str:
    return next(candidate for candidate in candidates if len(candidate) == 1)


def replace(text: StringColumn, old: StringColumn, new: StringColumn) -> Column:
    constant = len(old) == len(new) == 1
    parts, ids = _apart(text) if constant else (text, None)
    rows = rows_of(parts, old, new)
    if constant and new.lengths[0] <= old.lengths[0]:
        out = _room(_size(parts))
    else:
        out = _room(kernel.replaced_size(*_views(parts), *_views(old), *_views(new), rows))
    starts, lengths = _new_views(rows)
    kernel.replace(*_views(parts), *_views(old), *_views(new), out, starts, lengths)
    made = StringColumn(out, starts, lengths)
    return _with_valid(made if ids is None else made.take(ids), valid_of(text, old, new))


def concat(*columns: StringColumn) -> Column:
    """The texts of each row put together; null where one is null."""
    varying = [index for index, column in enumerate(columns) if len(column) > 1]
    parts, ids = list(columns), None
    if len(varying) == 1:
        parts[varying[0]], ids = _apart(parts[varying[0]])
    rows = rows_of(*parts)
    starts, lengths = _new_views(rows)
    out = _room(sum(_size(part) * (rows if len(part) == 1 else 1) for part in parts))
    kernel.concat([_views(part) for part in parts], out, starts, lengths)
    made = StringColumn(out, starts, lengths)
    return _with_valid(made if ids is None else made.take(ids), valid_of(*columns))
