"""The plain twin of ``texts``: functions of columns of texts, with Python's bytes and str."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, repeat
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.reference import parse

SLACK = 64
"""Bytes that the loops of the extension may write after the texts."""

_KINDS = ("int64", "float64", "timestamp")
_PLAIN = (
    re.compile(rb"[+-]?[0-9]{1,18}"),
    re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?"),
    re.compile(rb"(?=.{10,38}\Z)[0-9]{4}-.*", re.DOTALL),
)

Bytes: TypeAlias = NDArray[np.uint8]
Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]


def _texts(data: Bytes, starts: Int32s, lengths: Int32s, rows: int) -> Iterator[bytes]:
    """The text of each row, which is always the same where there is only one."""
    if len(starts) != len(lengths) or len(lengths) not in (1, rows):
        raise ValueError("columns of different lengths")
    texts = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        if length < 0 or (length and not 0 <= start <= len(data) - length):
            raise ValueError("a text lies outside its data")
        texts.append(data[start : start + length].tobytes() if length else b"")
    return repeat(texts[0], rows) if len(texts) == 1 else iter(texts)


def _numbers(values: Int64s, rows: int) -> Iterator[int]:
    if len(values) not in (1, rows):
        raise ValueError("columns of different lengths")
    return repeat(int(values[0]), rows) if len(values) == 1 else iter(values.tolist())


def _begins(text: bytes) -> list[int]:
    """Where the characters begin."""
    return [at for at, byte in enumerate(text) if at == 0 or byte & 0xC0 != 0x80]


def _characters(text: bytes) -> list[bytes]:
    bounds = [*_begins(text), len(text)]
    return [text[begin:end] for begin, end in pairwise(bounds)]


def _views(parts: Sequence[tuple[int, int]], starts: Int32s, out_starts: Int32s, out_lengths: Int32s) -> None:
    """Views from begin and end of each row's part in its text."""
    for row, (begin, end) in enumerate(parts):
        out_lengths[row] = max(end - begin, 0)
        out_starts[row] = starts[row if len(starts) > 1 else 0] + (begin if end > begin else 0)


def _rows(out_starts: Int32s, out_lengths: Int32s) -> int:
    if len(out_starts) != len(out_lengths):
        raise ValueError("columns of different lengths")
    return len(out_starts)


# -- functions that cut ----------------------------------------------------------------------------------------------


def split_part(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    mark_data: Bytes,
    mark_starts: Int32s,
    mark_lengths: Int32s,
    numbers: Int64s,
    out_starts: Int32s,
    out_lengths: Int32s,
) -> None:
    rows = _rows(out_starts, out_lengths)
    texts, marks = _texts(data, starts, lengths, rows), _texts(mark_data, mark_starts, mark_lengths, rows)
    found = [
        _part(text, mark, number)
        for text, mark, number in zip(texts, marks, _numbers(numbers, rows), strict=True)
    ]
    _views(found, starts, out_starts, out_lengths)


def _part(text: bytes, mark: bytes, number: int) -> tuple[int, int]:
    parts = text.split(mark) if mark else _characters(text)
    index = number - 1 if number > 0 else len(parts) + number
    if not number or not 0 <= index < len(parts):
        return 0, 0
    begin = sum(len(part) + len(mark) for part in parts[:index])
    return begin, begin + len(parts[index])


def substring(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    positions: Int64s,
    sizes: Int64s | None,
    out_starts: Int32s,
    out_lengths: Int32s,
) -> None:
    rows = _rows(out_starts, out_lengths)
    texts, places = _texts(data, starts, lengths, rows), _numbers(positions, rows)
    counts: Iterator[int | None] = repeat(None, rows) if sizes is None else _numbers(sizes, rows)
    parts = []
    for text, position, size in zip(texts, places, counts, strict=True):
        begins = _begins(text)
        begin = position - 1 if position > 0 else -1 if position == 0 else len(begins) + position
        end = len(begins) if size is None else begin + size
        if size is not None and size < 0:
            begin, end = end, begin
        places_of = [*begins, len(text)]
        parts.append((places_of[min(max(begin, 0), len(begins))], places_of[min(max(end, 0), len(begins))]))
    _views(parts, starts, out_starts, out_lengths)


def trim(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    set_data: Bytes,
    set_starts: Int32s,
    set_lengths: Int32s,
    out_starts: Int32s,
    out_lengths: Int32s,
) -> None:
    rows = _rows(out_starts, out_lengths)
    parts = []
    for text, listed in zip(
        _texts(data, starts, lengths, rows), _texts(set_data, set_starts, set_lengths, rows), strict=True
    ):
        taken, characters = set(_characters(listed)), _characters(text)
        begin, end = 0, len(text)
        while characters and characters[0] in taken:
            begin += len(characters.pop(0))
        while characters and characters[-1] in taken:
            end -= len(characters.pop())
        parts.append((begin, end))
    _views(parts, starts, out_starts, out_lengths)


# -- functions that test ---------------------------------------------------------------------------------------------


def find(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    wanted_data: Bytes,
    wanted_starts: Int32s,
    wanted_lengths: Int32s,
    place: int,
    out: NDArray[np.bool_],
) -> None:
    texts = _texts(data, starts, lengths, len(out))
    wanted = _texts(wanted_data, wanted_starts, wanted_lengths, len(out))
    for row, (text, part) in enumerate(zip(texts, wanted, strict=True)):
        out[row] = (text.startswith(part), text.endswith(part), part in text)[place]


def like(data: Bytes, starts: Int32s, lengths: Int32s, pieces: list[bytes], out: NDArray[np.bool_]) -> None:
    if not pieces:
        raise ValueError("no pieces")
    pattern = re.compile(b".*".join(map(re.escape, pieces)), re.DOTALL)
    for row, text in enumerate(_texts(data, starts, lengths, len(out))):
        out[row] = pattern.fullmatch(text) is not None


# -- functions that make texts ---------------------------------------------------------------------------------------


def _check_room(out: Bytes, needed: int) -> None:
    if len(out) < needed + SLACK:
        raise ValueError("no room for the texts")


def _write(texts: Sequence[bytes], out: Bytes, out_starts: Int32s, out_lengths: Int32s) -> int:
    """Writes the texts one after another; returns their size."""
    at = 0
    for row, text in enumerate(texts):
        out[at : at + len(text)] = np.frombuffer(text, np.uint8)
        out_starts[row], out_lengths[row] = at, len(text)
        at += len(text)
    return at


def change_case(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    table: Int32s | None,
    upper: bool,
    out: Bytes,
    out_starts: Int32s,
    out_lengths: Int32s,
) -> int:
    texts = list(_texts(data, starts, lengths, _rows(out_starts, out_lengths)))
    known = [] if table is None else table.tolist()
    _check_room(out, sum(map(len, texts)) * (2 if known else 1))
    if not known and not all(text.isascii() for text in texts):
        return -1
    changed = []
    for text in texts:
        characters = [
            (char.upper() if upper else char.lower())
            if char.isascii()
            else chr(known[ord(char)])
            if ord(char) < len(known)
            else char
            for char in text.decode("utf-8", "surrogateescape")
        ]
        changed.append("".join(characters).encode("utf-8", "surrogateescape"))
    return _write(changed, out, out_starts, out_lengths)


def _replaced(
    text: tuple[Bytes, Int32s, Int32s],
    old: tuple[Bytes, Int32s, Int32s],
    new: tuple[Bytes, Int32s, Int32s],
    rows: int,
) -> list[bytes]:
    columns = (_texts(*column, rows) for column in (text, old, new))
    return [whole.replace(a, b) if a else whole for whole, a, b in zip(*columns, strict=True)]


def replaced_size(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    old_data: Bytes,
    old_starts: Int32s,
    old_lengths: Int32s,
    new_data: Bytes,
    new_starts: Int32s,
    new_lengths: Int32s,
    rows: int,
) -> int:
    texts = _replaced(
        (data, starts, lengths),
        (old_data, old_starts, old_lengths),
        (new_data, new_starts, new_lengths),
        rows,
    )
    return sum(map(len, texts))


def replace(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    old_data: Bytes,
    old_starts: Int32s,
    old_lengths: Int32s,
    new_data: Bytes,
    new_starts: Int32s,
    new_lengths: Int32s,
    out: Bytes,
    out_starts: Int32s,
    out_lengths: Int32s,
) -> None:
    texts = _replaced(
        (data, starts, lengths),
        (old_data, old_starts, old_lengths),
        (new_data, new_starts, new_lengths),
        _rows(out_starts, out_lengths),
    )
    _check_room(out, sum(map(len, texts)))
    _write(texts, out, out_starts, out_lengths)


def concat(
    columns: Sequence[tuple[Bytes, Int32s, Int32s]], out: Bytes, out_starts: Int32s, out_lengths: Int32s
) -> None:
    rows = _rows(out_starts, out_lengths)
    texts = [b"".join(parts) for parts in zip(*(_texts(*column, rows) for column in columns), strict=True)]
    _check_room(out, sum(map(len, texts)))
    _write(texts, out, out_starts, out_lengths)


# -- functions that read texts ---------------------------------------------------------------------------------------


def read(
    data: Bytes,
    starts: Int32s,
    lengths: Int32s,
    kind: int,
    values: NDArray[Any],
    known: NDArray[np.bool_],
) -> None:
    if len(values) != len(known):
        raise ValueError("columns of different lengths")
    if not 0 <= kind < len(_KINDS):
        raise ValueError("no such kind")
    numbers = values.view(np.float64 if kind == 1 else np.int64)
    for row, text in enumerate(_texts(data, starts, lengths, len(values))):
        plain = text.strip(b" \t")
        numbers[row], known[row] = 0, False
        if _PLAIN[kind].fullmatch(plain):
            with contextlib.suppress(ValueError):
                numbers[row], known[row] = parse(_KINDS[kind], plain), True
