"""Resolved expressions, and the kinds by which arguments are matched to signatures.

A *kind* is what checking knows of a type before everything around it is known: NULL still fits anything, a text constant may still
become a timestamp.  ``bind`` is the whole rule of which argument fits where; ``typing`` walks expressions with it.
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
"""A type as checking sees it: a DataType, or ``NULL`` (fits anything) or ``INTERVAL`` (only beside + and -)."""


class Typed(Struct, frozen=True):
    """A resolved node.  ``operation``: a function's name, or ``literal`` (``value``: int ns for a timestamp, None for null), ``column``
    (``value``: its name), ``case`` (when, then, ..., default), ``cast``, ``shift`` (timestamp, literal ns), or ``aggregate``
    (``value``: an :class:`AggregateCall`; ``args``: its arguments, then its filter if it has one)."""

    operation: str
    args: tuple[Typed, ...]
    type: DataType
    value: Any = None


class AggregateCall(Struct, frozen=True):
    function: str
    distinct: bool
    filtered: bool
    constant: float | None = None
    """Which quantile, how many of the top: an argument that is no input."""
    python: type | None = None
    """The class of an aggregate written in Python."""


class Found(Struct, frozen=True):
    """What checking knows of a part: its kind, and its node (None for NULL, whose type comes from what stands around it)."""

    kind: Kind
    node: Typed | None
    text: str | None = None
    """A text constant's value: it may still become a timestamp."""


def word_of(kind: Kind) -> str:
    return kind.value if isinstance(kind, DataType) else kind


def data_type(kind: Kind) -> DataType:
    assert isinstance(kind, DataType)
    return kind


def node_of(found: Found) -> Typed:
    assert found.node is not None
    return found.node


def fits(part: Found, kind: Kind) -> bool:
    return (
        part.kind in (kind, NULL)
        or (part.kind == DataType.INT64 and kind == DataType.FLOAT64)
        or (part.text is not None and kind == DataType.TIMESTAMP)
    )


def common_kind(parts: Sequence[Found]) -> Kind | None:
    """The one type all parts can have; NULL where all are NULL; None where there is none."""
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
    """How a value of that kind becomes a condition: a hint."""
    right = {DataType.STRING: "= 'text'", DataType.TIMESTAMP: "> TIMESTAMP '2024-01-31 00:00:00'"}
    return "" if kind == INTERVAL else f"compare it: x {right.get(data_type(kind), '<> 0')}"


def to_one_type(kinds: Iterable[Kind]) -> str:
    """How values of these kinds become values of one: a hint, which a CAST of every one of them obeys."""
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
    """What each argument becomes under these parameter words; None where one does not fit."""
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
    if len(signature.result) > 1:
        return _WORDS[signature.result]
    return kinds[signature.parameters.index(signature.result)]
