"""Resolved expressions, and the rule that matches arguments to signatures.

``typing`` walks an expression and calls ``bind`` for each call in it.  A *kind* is the type of an argument before its neighbours are
known: NULL fits every type, and a text constant may become a timestamp.  ``bind`` alone decides which argument fits which parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from asyncflow.model.schema import DataType
from asyncflow.plan.expressions.functions import Signature

NULL = "NULL"
INTERVAL = "interval"
Kind: TypeAlias = DataType | str
"""A DataType, ``NULL`` (fits every type) or ``INTERVAL`` (only an operand of + and -)."""


class Typed(Struct, frozen=True):
    """A resolved node.  ``operation``: a function's name, or ``literal`` (``value``: int ns for a timestamp, None for null), ``column``
    (``value``: its name), ``case`` (when, then, ..., default), ``cast``, ``shift`` (timestamp, literal ns), or ``aggregate``
    (``value``: an :class:`AggregateCall`; ``args``: its arguments, then its filter if it has one)."""

    operation: str
    args: tuple[Typed, ...]
    type: DataType
    value: Any = None


class AggregateCall(Struct, frozen=True):
    """Which aggregate a :class:`Typed` node of operation ``aggregate`` computes."""

    function: str
    distinct: bool
    filtered: bool
    constant: float | None = None
    """The constant argument: the share of a quantile, the k of approx_top_k; None where the aggregate has none."""
    python: type | None = None
    """The class, where the aggregate is written in Python."""


class Found(Struct, frozen=True):
    """A checked part of an expression: its kind and its node.  The node of NULL is None, because the neighbours decide NULL's type."""

    kind: Kind
    node: Typed | None
    text: str | None = None
    """The value, where the part is a text constant: beside a timestamp it becomes a timestamp."""


def word_of(kind: Kind) -> str:
    """The kind as messages name it."""
    return kind.value if isinstance(kind, DataType) else kind


def data_type(kind: Kind) -> DataType:
    assert isinstance(kind, DataType)
    return kind


def node_of(found: Found) -> Typed:
    assert found.node is not None
    return found.node


def fits(part: Found, kind: Kind) -> bool:
    """Whether the part has that kind or is cast to it implicitly."""
    return (
        part.kind in (kind, NULL)
        or (part.kind == DataType.INT64 and kind == DataType.FLOAT64)
        or (part.text is not None and kind == DataType.TIMESTAMP)
    )


def common_kind(parts: Sequence[Found]) -> Kind | None:
    """The type that all parts have or are cast to; NULL where all parts are NULL; None where no type fits all."""
    kinds = {part.kind for part in parts} - {NULL}
    if INTERVAL in kinds:
        return None
    if not kinds:
        return NULL
    for candidate in (*kinds, DataType.FLOAT64, DataType.TIMESTAMP):
        if candidate in kinds and all(fits(part, candidate) for part in parts):
            return candidate
    return None


def as_condition(kind: Kind) -> str:
    """A hint: how a value of that kind is made a condition."""
    right = {DataType.STRING: "= 'text'", DataType.TIMESTAMP: "> TIMESTAMP '2024-01-31 00:00:00'"}
    return "" if kind == INTERVAL else f"compare it: x {right.get(data_type(kind), '<> 0')}"


def to_one_type(kinds: Iterable[Kind]) -> str:
    """A hint: how values of these kinds are cast to one type."""
    present = set(kinds) - {NULL}
    if INTERVAL in present:
        return "an interval can only be added to a timestamp, or taken from it"
    if DataType.TIMESTAMP not in present or DataType.STRING in present:
        return "CAST them to one type"
    if present == {DataType.TIMESTAMP, DataType.INT64}:
        return "epoch_ms(x) turns a timestamp into milliseconds"
    if present <= {DataType.TIMESTAMP, DataType.INT64, DataType.FLOAT64}:
        return "CAST(epoch_ms(x) AS float64) turns a timestamp into milliseconds"
    return "CAST them to string"


_WORDS: dict[str, Kind] = {**{type_.value: type_ for type_ in DataType}, "interval": INTERVAL}


def bind(words: Sequence[str], found: Sequence[Found]) -> tuple[Kind, ...] | None:
    """The kind of each argument under these parameter words; None where an argument does not fit."""
    shared: dict[str, Kind] = {}
    for letter in {word for word in words if len(word) == 1}:
        common = common_kind([part for word, part in zip(words, found, strict=True) if word == letter])
        if common is None:
            return None
        shared[letter] = common
    kinds: list[Kind] = []
    for word, part in zip(words, found, strict=True):
        kind = part.kind if word == "any" else shared[word] if word in shared else _WORDS[word]
        if (kind == INTERVAL) != (word == part.kind == INTERVAL) or not fits(part, kind):
            return None
        kinds.append(kind)
    return tuple(kinds)


def result_kind(signature: Signature, kinds: Sequence[Kind]) -> Kind:
    """The kind of the result where the arguments have these kinds."""
    if len(signature.result) > 1:
        return _WORDS[signature.result]
    return kinds[signature.parameters.index(signature.result)]
