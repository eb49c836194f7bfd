"""The plain twin of ``json``: NDJSON to columns.  It specifies what a record is, what it means, and why it is rejected.

A record is the bytes before a LF, or before the block's end.  The checks of a record, in this order:

- a record of more than ``max_record_bytes`` bytes is rejected: ``TOO_LONG``;
- a record of white space alone is skipped, without a reject;
- a record that is not UTF-8 is rejected: ``BAD_UTF8``;
- a record must be one JSON object (RFC 8259, and the words NaN, Infinity and -Infinity as Python reads them), with white space around
  it.  Else the record is rejected: ``NOT_OBJECT``, ``MALFORMED``, or ``TOO_DEEP`` where more than 1000 objects and arrays are open
  at once, whichever comes first.  This check covers the whole record, whatever columns are wanted;
- a record with a value that does not fit its column (``BAD_VALUE``), or a null in a required column (``NO_VALUE``), is rejected.  The
  first such column, in the order asked for, decides.

The column ``a.b`` is the member ``a.b`` of the record, or the member ``b`` of the object ``a``.  Where a path is mentioned several
times the last mention counts; a mention of ``a`` first makes ``a.b`` null.  A path that is not mentioned is null.

A string column takes text, and the raw text of any other value.  The other columns take values of their JSON type, and text by the
rules of ``columns/reference.py``.  An integer or epoch may have a fraction of zeros or an exponent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns import reference as texts
from asyncflow._kernels.columns.raw import RawColumn

TOO_LONG, BAD_UTF8, NOT_OBJECT, MALFORMED, TOO_DEEP, NO_VALUE, BAD_VALUE = range(1, 8)
MAX_DEPTH = 1000

_SPACE = re.compile(r"[ \t\r]*")
_TEXT = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_COMMA, _COLON = re.compile(","), re.compile(":")
_WORD = re.compile(r"null|true|false|NaN|-?Infinity")
_DECIMAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_DTYPES = {"bool": np.bool_, "float64": np.float64}
_INTEGER_UNITS = {"int64": 1, "timestamp[ms]": 10**6, "timestamp[us]": 10**3, "timestamp[ns]": 1}


class _RejectedError(Exception):
    """The record is rejected.  ``start`` and ``length``: the raw text, in the record, of the value that is the reason."""

    def __init__(self, reason: int, column: int = -1, start: int = 0, length: int = 0) -> None:
        self.reason, self.column, self.start, self.length = reason, column, start, length


class Decoder:
    """Decodes blocks of records into columns.

    ``names``: the wanted columns, each once.  ``types``: their types as in a schema (``"int64"``, ``"timestamp[ms]"``).
    ``required``: whether null rejects the record.  ``max_rejects``: the most rejects to describe (None: all); all are counted.
    """

    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[str],
        required: Sequence[bool],
        max_record_bytes: int,
        max_rejects: int | None = None,
    ) -> None:
        self._names, self._types, self._required = tuple(names), tuple(types), tuple(required)
        self._max_record_bytes, self._max_rejects = max_record_bytes, max_rejects

    def decode(self, block: NDArray[np.uint8]) -> tuple[int, int, list[RawColumn], int, NDArray[np.int64]]:
        """Returns (rows, lines, columns, rejected, rejects).

        ``block``: uint8, contiguous, writable, below 2 GiB.  ``columns``: (values, valid) each, or (data, starts, lengths, valid)
        of a string column; ``valid`` is None where no row is null.  ``rejects``: int64 (n, 8): line, offset and length of the
        record, good rows before it, reason, column (-1: the whole record), offset and length of the value's raw text;
        lines from 0, offsets from the block's start.
        """
        raw = bytes(block)
        lines = raw.split(b"\n")
        if not lines[-1]:
            lines.pop()
        rows, rejects, offset = [], [], 0
        for number, line in enumerate(lines):
            try:
                row = self._row(line)
                if row is not None:
                    rows.append(row)
            except _RejectedError as rejected:
                value_at = offset + rejected.start if rejected.length else 0
                rejects.append(
                    (
                        number,
                        offset,
                        len(line),
                        len(rows),
                        rejected.reason,
                        rejected.column,
                        value_at,
                        rejected.length,
                    )
                )
            offset += len(line) + 1
        columns = [_column(type_, [row[at] for row in rows]) for at, type_ in enumerate(self._types)]
        described = np.array(rejects[: self._max_rejects], np.int64).reshape(-1, 8)
        return len(rows), len(lines), columns, len(rejects), described

    def _row(self, line: bytes) -> list[Any] | None:
        if len(line) > self._max_record_bytes:
            raise _RejectedError(TOO_LONG)
        if not line.strip(b" \t\r"):
            return None
        try:
            line.decode()
        except UnicodeDecodeError:
            raise _RejectedError(BAD_UTF8) from None
        mentions = _Reader(line, frozenset(self._names)).read()
        row = []
        for column, (name, type_, required) in enumerate(
            zip(self._names, self._types, self._required, strict=True)
        ):
            start, end = mentions.get(name, (0, 0))
            token = line[start:end]
            if not token and required:
                raise _RejectedError(NO_VALUE, column)
            try:
                row.append(_value(type_, token) if token else None)
            except ValueError:
                raise _RejectedError(BAD_VALUE, column, start, end - start) from None
        return row


class _Reader:
    """Reads one record and finds the raw text of the last mention of each wanted path.

    The bytes are read as Latin-1, so that positions in the text are positions in the record.
    """

    def __init__(self, line: bytes, wanted: frozenset[str]) -> None:
        self._text = line.decode("latin-1") + "\n"  # no grammar rule takes LF, so none runs over the end
        self._at = 0
        self._wanted = wanted
        self._found: dict[str, tuple[int, int]] = {}
        self._open: list[
            tuple[str, str | None, str | None, int]
        ] = []  # closing bracket, path of members, own path, start

    def read(self) -> dict[str, tuple[int, int]]:
        self._skip()
        if self._text[self._at] != "{":
            raise _RejectedError(NOT_OBJECT)
        self._enter("", None)
        opened = True
        while self._open:
            self._skip()
            if self._text[self._at] == self._open[-1][0]:
                self._leave()
                opened = False
            else:
                if not opened:
                    self._token(_COMMA)
                    self._skip()
                opened = self._member()
        self._skip()
        if self._text[self._at] != "\n":
            raise _RejectedError(MALFORMED)
        return self._found

    def _enter(self, inside: str | None, path: str | None) -> None:
        if len(self._open) == MAX_DEPTH:
            raise _RejectedError(TOO_DEEP)
        closing = {"{": "}", "[": "]"}[self._text[self._at]]
        self._open.append((closing, inside if closing == "}" else None, path, self._at))
        self._at += 1

    def _leave(self) -> None:
        _, _, path, start = self._open.pop()
        self._at += 1
        if path in self._wanted:
            self._found[path] = (start, self._at)

    def _member(self) -> bool:
        """Reads a member of an object or an element of an array; of a container only its opening bracket, and returns True then."""
        closing, inside, _, _ = self._open[-1]
        path = None
        if closing == "}":
            key = json.loads(self._token(_TEXT))
            self._skip()
            self._token(_COLON)
            self._skip()
            path = None if inside is None else inside + key
        if path is not None:
            for name in [name for name in self._found if name.startswith(path + ".")]:
                del self._found[name]
        if self._text[self._at] in "{[":
            self._enter(None if path is None else path + ".", path)
            return True
        start = self._at
        token = self._token(_TEXT if self._text[start] == '"' else _NUMBER, _WORD)
        if path in self._wanted:
            self._found[path] = (start, self._at) if token != "null" else (0, 0)
        return False

    def _token(self, *patterns: re.Pattern[str]) -> str:
        for pattern in patterns:
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                return match[0].encode("latin-1").decode()
        raise _RejectedError(MALFORMED)

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()


def _value(type_: str, token: bytes) -> Any:
    """The value of a raw text in a column of that type (text as bytes); ValueError where the text does not fit."""
    if token.startswith(b'"'):
        text: bytes = json.loads(
            token
        ).encode()  # half a surrogate pair is a UnicodeEncodeError, so a ValueError
        return text if type_ == "string" else texts.parse(type_, text)
    if type_ == "string":
        return token
    if token in (b"true", b"false"):
        allowed = type_ == "bool"
    elif token in (b"NaN", b"Infinity", b"-Infinity"):
        allowed = type_ == "float64"
    else:
        allowed = token[:1] not in b"{[" and type_ not in ("bool", "timestamp")
    if not allowed:
        raise ValueError("not a value of that type")
    if type_ in _INTEGER_UNITS:
        return texts.parse(type_, str(_integral(token.decode())).encode())
    return texts.parse(type_, token)


def _integral(number: str) -> int:
    """The int of a decimal number; ValueError where the number has a fraction or is beyond int64."""
    match = _DECIMAL.fullmatch(number)
    assert match is not None
    digits = (match[2] + (match[3] or "")).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return 0
    zeros = int(match[4] or 0) - len(match[3] or "") + len(digits) - len(significant)
    if zeros < 0 or len(significant) + zeros > 19:
        raise ValueError("has a fraction, or is too large")
    return int(match[1] + significant + "0" * zeros)


def _column(type_: str, values: list[Any]) -> RawColumn:
    filled = [value is not None for value in values]
    valid = None if all(filled) else np.array(filled, np.bool_)
    if type_ != "string":
        return np.array(
            [0 if value is None else value for value in values], _DTYPES.get(type_, np.int64)
        ), valid
    found = [value or b"" for value in values]
    lengths = np.array([len(text) for text in found], np.int32)
    starts = np.cumsum([0, *lengths[:-1]], dtype=np.int32)[: len(found)]
    return np.frombuffer(b"".join(found), np.uint8), starts, lengths, valid
