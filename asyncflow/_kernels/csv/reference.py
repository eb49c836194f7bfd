"""The plain twin of ``csv``: CSV to columns, byte by byte.  It specifies what a record is and why a record is rejected.

A field whose first byte is the quote is quoted.  In a quoted field two quotes mean one, and delimiters and line ends are text.  After the
closing quote only a delimiter or a line end may follow; else the record is broken and ends at the next newline.  In a field that is not
quoted the quote is an ordinary byte.  LF outside quotes ends a record; a CR right before the LF, or before the end of the block, belongs
to the line end.  Empty lines are skipped, except where records have one field: there an empty line is a record with an empty field.

A record with more than ``max_record_bytes`` before its newline is rejected as a whole: nothing inside its quotes is read as
records.  A shorter record that is inside quotes where the data ends has an open quote: its first line is rejected, and reading
resumes on the next line.

The checks of a record, in this order: its length, text after a closing quote, UTF-8, the number of fields, then the wanted columns in
the order asked for.  ``columns/reference.py`` specifies which text is which value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asyncflow._kernels.columns import reference as texts

TOO_LONG, UNCLOSED, TEXT_AFTER_QUOTE, NOT_UTF8, FIELD_COUNT, BAD_VALUE = range(6)
WRONG, OUT_OF_RANGE, MISSING = 1, 2, 3
"""Details of BAD_VALUE.  The detail of FIELD_COUNT is the number of fields found."""

END, MORE, LOST, LOST_UNFINISHED = range(4)
_OUTSIDE, _QUOTED, _CLOSED, _CLOSED_CR, _BROKEN = range(5)
RECORD_START = (_OUTSIDE, True)
_LF, _CR = 10, 13
_DTYPES = {"bool": np.bool_, "float64": np.float64}


class Plan:
    """The dialect of a stream and the columns to decode.

    ``columns``: for each wanted column its field (from 0), its type text and whether null rejects the record.
    ``fields``: the number of fields of a record.  ``rejects_kept``: the most rejects that one call of ``decode`` describes; all
    are counted.
    """

    def __init__(
        self,
        *,
        delimiter: int,
        quote: int,
        null_text: bytes,
        max_record_bytes: int,
        fields: int,
        columns: Sequence[tuple[int, str, bool]],
        rejects_kept: int,
    ) -> None:
        if (
            not (0 <= delimiter < 128 and 0 <= quote < 128)
            or delimiter == quote
            or {delimiter, quote} & {_LF, _CR}
        ):
            raise ValueError("delimiter and quote must be two ASCII characters, neither of them a line end")
        if fields == 0 or any(field >= fields for field, _, _ in columns):
            raise ValueError("a column's field lies beyond the record")
        self.delimiter, self.quote, self.null_text = delimiter, quote, null_text
        self.max_record_bytes, self.fields = max_record_bytes, fields
        self.columns, self.rejects_kept = list(columns), rejects_kept

    def scan(self, data: bytes, start: int, place: tuple[int, bool]) -> tuple[int, tuple[int, bool], int]:
        """Scans from ``start`` to the record's end.  Returns the position after the record's newline (-1: not in the data), the
        place at the data's end (state, and whether a field starts there), and the first newline inside quotes (-1: none)."""
        (state, field_start), first_newline = place, -1
        for at in range(start, len(data)):
            byte = data[at]
            if byte == _LF and state != _QUOTED:
                return at + 1, place, first_newline
            if state == _OUTSIDE:
                if byte == self.quote and field_start:
                    state = _QUOTED
                field_start = byte == self.delimiter
            elif state == _QUOTED:
                if byte == self.quote:
                    state = _CLOSED
                elif byte == _LF and first_newline < 0:
                    first_newline = at
            elif state == _CLOSED:
                field_start = byte == self.delimiter
                after = {self.quote: _QUOTED, self.delimiter: _OUTSIDE, _CR: _CLOSED_CR}
                state = after.get(byte, _BROKEN)
            else:
                state = _BROKEN
        return -1, (state, field_start), first_newline

    def record_end(self, data: bytes, start: int, final: bool) -> tuple[int, int, int]:
        """How the record at ``start`` ends, where the next record starts, and the reason where the record is rejected."""
        following, (state, _), first_newline = self.scan(data, start, RECORD_START)
        if following >= 0:
            return (LOST if following - 1 - start > self.max_record_bytes else END), following, TOO_LONG
        if len(data) - start > self.max_record_bytes:
            return (LOST if final else LOST_UNFINISHED), len(data), TOO_LONG
        if not final:
            return MORE, start, 0
        if state != _QUOTED:
            return END, len(data), 0
        return LOST, first_newline + 1 if first_newline >= 0 else len(data), UNCLOSED

    def split(self, record: bytes) -> list[tuple[int, int, bool]] | None:
        """The fields of a record: begin and end of the text (without quotes), and whether the field is quoted.  None: broken."""
        fields, at = [], 0
        while True:
            quoted = record[at : at + 1] == bytes([self.quote])
            if quoted:
                begin = at + 1
                end = record.index(self.quote, begin)
                while record[end + 1 : end + 2] == bytes([self.quote]):
                    end = record.index(self.quote, end + 2)
                at = end + 1
                if at < len(record) and record[at] != self.delimiter:
                    return None
            else:
                begin, at = at, record.find(self.delimiter, at)
                at = end = len(record) if at < 0 else at
            fields.append((begin, end, quoted))
            if at == len(record):
                return fields
            at += 1

    def decode(self, block: Any) -> tuple[int, int, int, list[Any], list[Any]]:
        """``(rows, lines, rejected, rejects, columns)`` of a block of whole records: uint8, writable.

        ``columns``: per wanted column ``(values, lengths, valid)``.  Strings: ``values`` are starts in the block and
        ``lengths`` bytes, both int32, text with its quotes undone where it stands.  Others: ``lengths`` is None, ``values``
        are bool, int64 (times: ns) or float64, 0 where null.  ``valid``: None where no row is null.
        ``rejects``: ``(line, offset, after_row, reason, detail, column, value, record)``; ``line`` and ``offset`` count from
        the block's start, ``after_row`` is the number of rows before it, ``column`` is -1 except for BAD_VALUE, ``value`` the
        first 64 bytes of its text, ``record`` the first of its bytes, at most 4096 and max_record_bytes.
        """
        data = block.tobytes()
        rows: list[list[Any]] = []
        rejects: list[Any] = []
        rejected = at = 0
        while at < len(data):
            kind, following, reason = self.record_end(data, at, True)
            record = data[at:following].removesuffix(b"\n").removesuffix(b"\r")
            fault: tuple[int, int, int, bytes] | None = None
            if kind == LOST:
                fault = (reason, 0, -1, b"")
            elif record or self.fields == 1:
                row = self._row(record, at, block)
                if isinstance(row, tuple):
                    fault = row
                else:
                    rows.append(row)
            if fault is not None:
                rejected += 1
                if len(rejects) < self.rejects_kept:
                    kept = record[: min(4096, self.max_record_bytes)]
                    rejects.append((data.count(b"\n", 0, at), at, len(rows), *fault, kept))
            at = following
        lines = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
        columns = [self._column(number, [row[number] for row in rows]) for number in range(len(self.columns))]
        return len(rows), lines, rejected, rejects, columns

    def _row(self, record: bytes, offset: int, block: Any) -> list[Any] | tuple[int, int, int, bytes]:
        fields = self.split(record)
        if fields is None:
            return TEXT_AFTER_QUOTE, 0, -1, b""
        try:
            record.decode()
        except UnicodeDecodeError:
            return NOT_UTF8, 0, -1, b""
        if len(fields) != self.fields:
            return FIELD_COUNT, len(fields), -1, b""
        row: list[Any] = []
        for number, (field, type_, required) in enumerate(self.columns):
            begin, end, quoted = fields[field]
            text = record[begin:end]
            shown = text[:64]
            null = not quoted and text == self.null_text
            if (null or (not text and type_ != "string")) and required:
                return BAD_VALUE, MISSING, number, shown
            if type_ == "string":
                row.append((offset + begin, None if null else text))
            elif null or not text:
                row.append(None)
            else:
                try:
                    row.append(texts.parse(type_, text))
                except ValueError as error:
                    return BAD_VALUE, OUT_OF_RANGE if "int64" in str(error) else WRONG, number, shown
        for number, (field, type_, _) in enumerate(self.columns):
            if type_ == "string" and fields[field][2]:
                begin, text = row[number]
                text = text.replace(bytes([self.quote]) * 2, bytes([self.quote]))
                block[begin : begin + len(text)] = np.frombuffer(text, np.uint8)
                row[number] = (begin, text)
        return row

    def _column(self, number: int, values: list[Any]) -> tuple[Any, Any, Any]:
        type_ = self.columns[number][1]
        if type_ == "string":
            valid = np.array([text is not None for _, text in values], np.bool_)
            starts = np.array([begin for begin, _ in values], np.int32)
            lengths = np.array([len(text or b"") for _, text in values], np.int32)
            return starts, lengths, None if valid.all() else valid
        valid = np.array([value is not None for value in values], np.bool_)
        filled: Any = np.array(
            [0 if value is None else value for value in values], _DTYPES.get(type_, np.int64)
        )
        return filled, None, None if valid.all() else valid


class Cutter:
    """Finds where whole records end in one byte stream.  An unfinished record that is too long is dropped as it comes."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._skipping: tuple[int, bool] | None = None  # where in a record that is too long

    def cut(self, data: Any, final: bool) -> tuple[int, int, int, bytes | None]:
        """Returns ``(end, resume, lines, rejected)``.  ``data[:end]`` is whole records.  ``data[resume:]`` is to be given again, with the
        bytes that follow.  The bytes between are dropped; ``lines`` of them are newlines.  ``rejected``: the first bytes of a record that
        is too long and begins at ``data[0]``, else None.  A bad record whose end is known counts as whole: ``decode`` rejects it."""
        raw = data.tobytes()
        if not raw:
            return 0, 0, 0, None
        if self._skipping is not None:
            following, self._skipping, _ = self._plan.scan(raw, 0, self._skipping)
            if following < 0:
                return 0, len(raw), raw.count(b"\n"), None
            self._skipping = None
            return 0, following, raw.count(b"\n", 0, following), None
        if final:
            return len(raw), len(raw), 0, None
        at = 0
        while at < len(raw):
            kind, following, _ = self._plan.record_end(raw, at, False)
            if kind == LOST_UNFINISHED and at == 0:
                self._skipping = self._plan.scan(raw, 0, RECORD_START)[1]
                kept = raw[: min(4096, self._plan.max_record_bytes)]
                return 0, len(raw), raw.count(b"\n"), kept
            if kind not in (END, LOST):
                break
            at = following
        return at, at, 0, None
