"""Group table, plain: key tuples to dense ids 0, 1, 2, ... in order of first appearance.  The twin of ``compiled.pyx``.

A raw column is ``(values, valid)`` for fixed types and ``(data, starts, lengths, valid)`` for strings; ``valid`` is None or a
bool array.  Null is a key value like any other; -0.0 is 0.0 and every NaN is the same key.  Keys are ordered column by column,
ascending: false before true, strings by their UTF-8 bytes, NaN above every number, null last.

A snapshot has the groups in the order of their keys.  Fields: ``kinds``; ``size``, the number of groups; ``nulls``, per key column
whether null is among its values.  Parts of key column j: its distinct values in their order, without null, as ``j.values`` or, for strings,
``j.text`` (all bytes end to end) and ``j.lengths`` (int32); and, where there are several key columns, ``j.places`` (int32), per group the
place of its value among these (null: the place behind them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base import saved
from asyncflow._kernels.columns.raw import RawColumn
from asyncflow._kernels.groups.seeds import SEEDS

Int32Array: TypeAlias = NDArray[np.int32]

DTYPES: dict[str, Any] = {"int64": np.int64, "timestamp": np.int64, "float64": np.float64, "bool": np.bool_}
_NAN = "nan"  # stands for every NaN inside a key tuple


def values_of(kind: str, column: RawColumn) -> list[Any]:
    """A raw column as Python values: bytes for strings, None for null."""
    valid = column[-1]
    if len(column) == 4:
        raw = column[0].tobytes()
        starts, lengths = column[1].tolist(), column[2].tolist()
        values: list[Any] = [raw[s : s + n] for s, n in zip(starts, lengths, strict=True)]
    else:
        values = column[0].tolist()
    return (
        values if valid is None else [v if ok else None for v, ok in zip(values, valid.tolist(), strict=True)]
    )


def column_of(kind: str, values: Sequence[Any]) -> RawColumn:
    """The raw column of these Python values (bytes for strings, None for null)."""
    valid = np.array([value is not None for value in values], np.bool_)
    mask = None if valid.all() else valid
    if kind == "string":
        texts = [b"" if value is None else value for value in values]
        lengths = np.array([len(text) for text in texts], np.int32)
        if int(lengths.sum(dtype=np.int64)) > 2**31 - 1:
            raise OverflowError("the texts of one batch exceed 2 GiB")
        starts = np.zeros(len(texts), np.int32)
        np.cumsum(lengths[:-1], out=starts[1:])
        return np.frombuffer(b"".join(texts), np.uint8), starts, lengths, mask
    return np.array([0 if value is None else value for value in values], DTYPES[kind]), mask


def canonical(value: Any) -> Any:
    """What stands for a value where equality counts."""
    if isinstance(value, float):
        return _NAN if math.isnan(value) else value + 0.0
    return value


def sort_key(value: Any) -> tuple[int, Any]:
    """Orders the values of one column: numbers (or bytes), then NaN, then null."""
    if value is None:
        return (2, 0)
    if isinstance(value, float) and math.isnan(value):
        return (1, 0)
    return (1, 0) if value == _NAN else (0, value)


class GroupTable:
    """Key tuples and their ids.  ``kinds``: the type name of each key column; with none, every row is in group 0."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = tuple(kinds)
        self._ids: dict[tuple[Any, ...], int] = {} if kinds else {(): 0}
        self._order: Int32Array | None = None
        self._frozen = saved.Parts()

    @property
    def size(self) -> int:
        """Number of groups."""
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        return 64 * len(self._ids)

    def assign(
        self, columns: Sequence[RawColumn], num_rows: int, hashes: NDArray[np.uint64] | None = None
    ) -> Int32Array:
        """The group id (int32) of each row; new keys get the next ids.

        ``hashes``: what ``hash_rows`` gives for these columns, where this is known; a table of one key column then does not compute it.
        Ids do not depend on whether hashes are given.
        """
        if hashes is not None and len(hashes) != num_rows:
            raise ValueError(f"a column of {len(hashes)} rows in a batch of {num_rows}")
        if not self._kinds:
            return np.zeros(num_rows, np.int32)
        parts = [
            [canonical(value) for value in values_of(kind, column)]
            for kind, column in zip(self._kinds, columns, strict=True)
        ]
        before = len(self._ids)
        ids = [self._ids.setdefault(key, len(self._ids)) for key in zip(*parts, strict=True)]
        if len(self._ids) != before:
            self._order = None
        return np.array(ids, np.int32)

    def order(self) -> Int32Array:
        """All ids, in the order of their keys."""
        if self._order is None:
            keys = sorted(self._ids, key=lambda key: tuple(sort_key(value) for value in key))
            self._order = np.array([self._ids[key] for key in keys], np.int32)
        return self._order

    def columns(self, groups: Int32Array, max_bytes: int = 2**31 - 1) -> list[RawColumn]:
        """The key columns of these groups; OverflowError where the texts of one would have more than ``max_bytes``."""
        keys = list(self._ids)
        rows = [keys[group] for group in groups.tolist()]
        columns = [
            column_of(kind, [math.nan if kind == "float64" and row[j] == _NAN else row[j] for row in rows])
            for j, kind in enumerate(self._kinds)
        ]
        for kind, column in zip(self._kinds, columns, strict=True):
            if kind == "string" and len(column[0]) > max_bytes:
                raise OverflowError(
                    f"the keys of {len(rows)} rows have {len(column[0])} bytes, more than {max_bytes}"
                )
        return columns

    def keep(self, groups: Int32Array) -> None:
        """Forgets all groups but these (ascending); ``groups[i]`` becomes i."""
        if self._kinds:
            keys = list(self._ids)
            self._ids = {keys[group]: i for i, group in enumerate(groups.tolist())}
            self._order = None

    def ranks(self) -> Int32Array:
        """The place (int32) of each id in the order of their keys."""
        order = self.order()
        ranks = np.empty(len(order), np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return ranks

    def freeze(self) -> dict[str, Any]:
        """The fields of a snapshot, whose parts ``pieces`` gives from now on: see above."""
        parts: dict[str, NDArray[Any]] = {}
        keys = list(self._ids)
        groups = [keys[group] for group in self.order().tolist()]
        nulls = []
        for j, kind in enumerate(self._kinds):
            values = sorted({key[j] for key in keys}, key=sort_key)
            nulls.append(None in values)
            some = [value for value in values if value is not None]
            parts |= _saved_values(kind, f"{j}", some)
            if len(self._kinds) > 1:
                places = {value: place for place, value in enumerate(values)}
                parts[f"{j}.places"] = np.array([places[key[j]] for key in groups], np.int32)
        self._frozen = saved.Parts(parts)
        return {"kinds": list(self._kinds), "size": self.size, "nulls": nulls}

    def pieces(self, budget: int) -> list[tuple[str, NDArray[Any]]] | None:
        """The next parts of the snapshot, of about ``budget`` bytes: ``[(name, array), ...]``; None: all were given."""
        return self._frozen.pieces(budget)

    def drop(self) -> None:
        """The snapshot is given up."""
        self._frozen.drop()

    def load(self, fields: Mapping[str, Any], parts: Mapping[str, NDArray[Any]]) -> None:
        """Takes a snapshot into an empty table: group i is the i-th in the order of keys.  ValueError says what does not fit."""
        if self._kinds and self._ids:
            raise ValueError("a snapshot is loaded into a table that holds keys")
        saved.same(fields, kinds=list(self._kinds))
        size = saved.number(fields, "size", 0, saved.MOST_NUMBERED)
        nulls = saved.flags(fields, "nulls", len(self._kinds))
        columns, names, places = [], list[str](), []
        for j, kind in enumerate(self._kinds):
            values, read = _loaded_values(kind, f"{j}", parts)
            columns.append(values + [None] * nulls[j])
            names += read
        if len(self._kinds) > 1:
            for j, values in enumerate(columns):
                places.append(saved.all_of(parts, f"{j}.places", size, len(values)))
                names.append(f"{j}.places")
            if not saved.rising(*places):
                raise ValueError("places: groups that are not in order, each once")
        elif size != (len(columns[0]) if columns else 1):
            raise ValueError(f"size: {size} groups, but {[len(values) for values in columns]} keys")
        else:
            places = [np.arange(size, dtype=np.int32)] * len(columns)
        saved.nothing_else(parts, names)
        rows = zip(*(each.tolist() for each in places), strict=True) if places else [()]
        self._ids = {
            tuple(columns[j][place] for j, place in enumerate(row)): group for group, row in enumerate(rows)
        }
        self._order = None


# -- hashes ----------------------------------------------------------------------------------------------------------

_MASK = 2**64 - 1
_ALL_SEEDS: list[int] = SEEDS.tolist()
_WORD_SEEDS, (_END, _BEFORE, _COLUMN) = _ALL_SEEDS[:8], _ALL_SEEDS[8:]


def hash_rows(columns: Sequence[RawColumn], num_rows: int) -> NDArray[np.uint64]:
    """The hash (uint64) of each row's key: of equal keys it is equal, in every table and call of this process.

    The hash is what a table of these columns places the key by, where there is one column.  Bits 44 to 53 are for choosing a part by key:
    no table places keys by these bits (up to 2**24 buckets).  Seeds are random: nothing that leaves the process may depend on a hash.
    """
    hashes = [0] * num_rows
    for place, column in enumerate(columns):
        values = values_of("string" if len(column) == 4 else column[0].dtype.name, column)
        if len(values) != num_rows:
            raise ValueError(f"a column of {len(values)} rows in a batch of {num_rows}")
        found = [_hash_of(value) for value in values]
        both = [_fold(before ^ _BEFORE, h ^ _COLUMN) for before, h in zip(hashes, found, strict=True)]
        hashes = both if place else found
    return np.array(hashes, np.uint64)


def _hash_of(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bytes):
        return _hash_text(value)
    value = canonical(value)
    word = np.array(math.nan if value == _NAN else value).astype(
        np.float64 if isinstance(value, (float, str)) else np.int64
    )
    return _finished(_fold(int(word.view(np.uint64)) ^ _WORD_SEEDS[0], _WORD_SEEDS[1] | 1))


def _hash_text(text: bytes) -> int:
    """Up to 64 bytes: the text and then zeros as eight words, whose halves are multiplied under seeds, less what four words of zeros
    give."""
    length, seeds = len(text), _WORD_SEEDS
    if length <= 64:
        words = np.frombuffer(text.ljust(64, b"\0"), "<u8").tolist()
        hashed = sum(_halves(word, seed) for word, seed in zip(words, seeds, strict=True))
        hashed -= sum(_halves(0, seed) for seed in seeds[4:])
    else:
        hashed = seeds[0] ^ length
        for at in range(0, length - 16, 16):
            first, second = np.frombuffer(text[at : at + 16], "<u8").tolist()
            hashed = _fold(first ^ hashed ^ seeds[1], second ^ seeds[2])
        first, second = np.frombuffer(text[-16:], "<u8").tolist()
        hashed = _fold(first ^ hashed ^ seeds[3], second ^ seeds[4])
    return _finished(hashed + length & _MASK)


def _finished(hashed: int) -> int:
    return (hashed ^ hashed >> 32) * (_END | 1) & _MASK


def _halves(word: int, seed: int) -> int:
    return (word + seed & 0xFFFFFFFF) * ((word >> 32) + (seed >> 32) & 0xFFFFFFFF)


def _fold(left: int, right: int) -> int:
    """The halves of the product of 128 bits, exclusive or."""
    product = left * right
    return (product ^ product >> 64) & _MASK


# -- saved values ----------------------------------------------------------------------------------------------------


def _saved_values(kind: str, name: str, values: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Distinct values of a column, in order and without null, as parts."""
    if kind == "string":
        lengths = np.array([len(value) for value in values], np.int32)
        return {f"{name}.text": np.frombuffer(b"".join(values), np.uint8), f"{name}.lengths": lengths}
    plain = [math.nan if value == _NAN else value for value in values]
    return {f"{name}.values": np.array(plain, DTYPES[kind])}


def _loaded_values(kind: str, name: str, parts: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """The values that were saved, as they stand in key tuples, and the names of the parts that were read; ValueError."""
    values: list[Any]
    if kind == "string":
        names = [f"{name}.lengths", f"{name}.text"]
        lengths, text = saved.array(parts, names[0], np.int32), saved.array(parts, names[1], np.uint8)
        ends = np.cumsum(lengths, dtype=np.int64)
        if (lengths < 0).any() or len(text) != (int(ends[-1]) if len(ends) else 0):
            raise ValueError(f"{name}.lengths: they are not those of {name}.text")
        raw = text.tobytes()
        values = [
            raw[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)
        ]
        for value in values:
            try:
                value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{name}.text: a text that is not UTF-8") from error
    else:
        names = [f"{name}.values"]
        numbers = saved.array(parts, names[0], DTYPES[kind])
        values = [canonical(value) for value in numbers.tolist()]
        if _saved_values(kind, name, values)[names[0]].tobytes() != numbers.tobytes():
            raise ValueError(f"{name}.values: values that are not in order, each once")
    if any(sort_key(value) >= sort_key(after) for value, after in pairwise(values)):
        raise ValueError(
            f"{name}.{'text' if kind == 'string' else 'values'}: values that are not in order, each once"
        )
    return values, names
