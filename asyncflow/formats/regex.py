"""Regex: a pattern found in each line; its named groups are the columns.

``pattern``, in RE2's syntax (``model.patterns``), is searched for anywhere in the line; ``^`` and ``$`` anchor it.  A line without a match
is rejected.  A group that took no part is null, and so is an empty group, except in a string column, where it is the empty text.  Values
are read by the rules of CSV.  Groups without a name give no column.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from asyncflow._kernels import spans as _spans
from asyncflow.errors import PipelineError, Problem
from asyncflow.formats._infer import infer_types
from asyncflow.formats._lines import LineDecoder, Lines, shown
from asyncflow.formats.contract import BYTE_ORDER_MARK, Block, Decoded, DecodeRequest
from asyncflow.model.columns import BoolArray, Column, FixedColumn, Int32Array, StringColumn
from asyncflow.model.patterns import Pattern, regexp
from asyncflow.model.schema import DataType, Field, Schema

INFERRED_LINES = 1000
NO_MATCH = "does not match pattern"


class DecoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a line's columns are found."""

    pattern: Annotated[
        str,
        msgspec.Meta(description="a regular expression in RE2's syntax with named groups, `(?P<name>...)`"),
    ]

    def __post_init__(self) -> None:
        if not regexp(self.pattern).names:
            raise ValueError("pattern has no named group: write columns as (?P<name>...)")


class RegexDecoder(LineDecoder):
    """Lines to the columns of the named groups."""

    def __init__(self, pattern: Pattern, request: DecodeRequest) -> None:
        super().__init__(request)
        self._pattern = pattern
        self._groups = [pattern.names[name] for name in request.columns]
        self._required = frozenset(request.required)
        self.output = request.schema.select(request.columns)

    def decode_lines(self, lines: Lines, wrong: dict[int, str]) -> Decoded:
        rows, starts, lengths = self._spans(lines, wrong)
        columns: list[Column] = []
        for position, field in enumerate(self.output):
            column, failed = _column(field, lines.block, starts[position], lengths[position])
            for at in np.flatnonzero(failed).tolist():
                first = int(starts[position][at])
                text = lines.block[first : first + int(lengths[position][at])]
                wrong.setdefault(int(rows[at]), f"{field.name}: {field.misfit}: {shown(text)}")
            if field.name in self._required and column.valid is not None:
                for at in np.flatnonzero(~column.valid & ~failed).tolist():
                    wrong.setdefault(int(rows[at]), f"{field.name}: null")
            columns.append(column)
        good = np.array([at for at, row in enumerate(rows.tolist()) if row not in wrong], np.intp)
        if len(good) < len(rows):
            columns = [column.take(good) for column in columns]
        return self.decoded(lines, tuple(columns), len(good), wrong)

    def _spans(self, lines: Lines, wrong: dict[int, str]) -> tuple[Int32Array, Int32Array, Int32Array]:
        """The lines that match, and for each wanted group starts and lengths of its texts in the block; a length of -1 is no text."""
        rows = np.arange(len(lines.starts), dtype=np.int32)
        starts, lengths = lines.starts, lines.lengths
        if wrong:
            rows = np.delete(rows, list(wrong))
            starts, lengths = starts[rows], lengths[rows]
        found, begins, sizes = self._pattern.spans(lines.block, starts, lengths, self._groups)
        if not found.all():
            wrong.update(dict.fromkeys(rows[~found].tolist(), NO_MATCH))
            rows = rows[found]
            begins, sizes = np.compress(found, begins, axis=1), np.compress(found, sizes, axis=1)
        return rows, begins, sizes


def _column(field: Field, block: Block, starts: Int32Array, lengths: Int32Array) -> tuple[Column, BoolArray]:
    """The column, and the rows whose text is no value of its type."""
    failed = np.zeros(len(starts), np.bool_)
    if field.type is DataType.STRING:
        valid = lengths >= 0
        return StringColumn(block, starts, np.maximum(lengths, 0), None if valid.all() else valid), failed
    values = np.empty(len(starts), field.type.dtype)
    valid = np.empty(len(starts), np.bool_)
    nulls, _ = _spans.parse_spans(field.type_text, block, starts, lengths, values, valid, failed)
    return FixedColumn(values, valid if nulls else None), failed


def decoder(options: DecoderOptions, request: DecodeRequest) -> RegexDecoder:
    """A decoder for one stream; PipelineError where the schema names a column that is no group of the pattern."""
    pattern = regexp(options.pattern)
    groups = ", ".join(pattern.names)
    problems = [
        Problem(f"schema.{name}", "the pattern has no group of this name", f"it has {groups}")
        for name in request.schema.names
        if name not in pattern.names
    ]
    if problems:
        raise PipelineError(problems)
    return RegexDecoder(pattern, request)


def infer(options: DecoderOptions, head: Block, final: bool) -> Schema:
    """The named groups in the order of the pattern, typed by the first 1000 matching lines of ``head``."""
    return infer_types({name: group.to_list() for name, group in _groups(options, head, final).items()})


def count_records(options: DecoderOptions, head: Block, final: bool) -> int:
    """How many of the lines that ``infer`` reads match the pattern."""
    return max(map(len, _groups(options, head, final).values()), default=0)


def _groups(options: DecoderOptions, head: Block, final: bool) -> dict[str, StringColumn]:
    """The texts of the named groups in the first matching lines."""
    pattern = regexp(options.pattern)
    lines = [line.removesuffix(b"\r") for line in head.tobytes().removeprefix(BYTE_ORDER_MARK).split(b"\n")]
    texts = StringColumn.from_values([line for line in (lines if final else lines[:-1]) if _is_text(line)])
    found, begins, sizes = pattern.spans(
        texts.data, texts.starts, texts.lengths, list(pattern.names.values())
    )
    rows = np.flatnonzero(found)[:INFERRED_LINES]
    return {
        name: StringColumn(texts.data, begins[at, rows], np.maximum(sizes[at, rows], 0), sizes[at, rows] >= 0)
        for at, name in enumerate(pattern.names)
    }


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
