"""The state of one part of a run at a barrier: plain fields and named arrays.  No code, no class names, no addresses.

What holds state gives a :class:`Frozen` and later takes a :class:`Saved` of the same content.  A frozen state never changes, whatever its
owner does next; it is taken down in pieces, so that a great one does not stop the loop.  State that is kept by key is in the order of the
keys, with ties in the order that results go by: equal states have equal pieces, however they came about.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow.model.schema import Field, Schema

Plain: TypeAlias = "bool | int | float | str | bytes | list[Plain] | dict[str, Plain] | None"
"""A value that is written and read without knowing its owner."""

Array: TypeAlias = NDArray[Any]
"""One dimension, any dtype but object: a structured dtype names the parts of a record."""


class Piece(Struct, frozen=True, eq=False):
    """Rows of the part ``part``; the pieces of a part, one after the other, are the part."""

    part: str
    data: Array


class Saved(Struct, frozen=True, eq=False):
    """A state to be restored: fields and parts as they were frozen."""

    fields: Mapping[str, Plain]
    parts: Mapping[str, Array]

    def within(self, name: str) -> Saved:
        """The state of the part ``name`` of the owner: see :func:`nested`."""
        fields = self.fields.get(name, {})
        if not isinstance(fields, dict):
            raise ValueError(f"{name}: fields are missing")  # noqa: TRY004  what was saved is wrong, not the caller
        begin = f"{name}."
        return Saved(
            fields,
            {part.removeprefix(begin): data for part, data in self.parts.items() if part.startswith(begin)},
        )

    def integer(self, name: str, least: int = -(2**63), most: int = 2**64 - 1) -> int:
        """The field, a whole number from ``least`` to ``most``; ValueError names it where it is missing or none."""
        value = self.fields.get(name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{name}: a whole number from {least} to {most} is wanted, not {value!r}")
        return value

    def optional_integer(self, name: str, least: int = -(2**63), most: int = 2**64 - 1) -> int | None:
        """As :meth:`integer`, or None where None was saved."""
        if name in self.fields and self.fields[name] is None:
            return None
        return self.integer(name, least, most)

    def integers(self, name: str) -> list[int]:
        """The field, a list of whole numbers; ValueError names it where it is missing or none."""
        values = self.fields.get(name)
        if not isinstance(values, list) or any(type(value) is not int for value in values):
            raise ValueError(f"{name}: a list of whole numbers is wanted, not {values!r}")
        return [value for value in values if isinstance(value, int)]

    def flags(self, name: str) -> list[bool]:
        """The field, a list of true or false; ValueError names it where it is missing or none."""
        values = self.fields.get(name)
        if not isinstance(values, list) or any(type(value) is not bool for value in values):
            raise ValueError(f"{name}: a list of true or false is wanted, not {values!r}")
        return [value for value in values if isinstance(value, bool)]

    def flag(self, name: str) -> bool:
        """The field, true or false; ValueError names it where it is missing or neither."""
        value = self.fields.get(name)
        if type(value) is not bool:
            raise ValueError(f"{name}: true or false is wanted, not {value!r}")
        return value

    def array(self, name: str, dtype: Any, length: int | None = None) -> Array:
        """The part, an array of ``dtype`` and of ``length`` rows where that is given; ValueError names it where it does not fit."""
        data = self.parts.get(name)
        wanted = np.dtype(dtype)
        if data is None:
            raise ValueError(f"{name}: the part is missing")
        if data.dtype != wanted or data.ndim != 1 or (length is not None and len(data) != length):
            rows = "" if length is None else f" of {length} rows"
            raise ValueError(
                f"{name}: an array{rows} of {wanted} is wanted, not {len(data)} rows of {data.dtype}"
            )
        if wanted == np.bool_ and len(data) and int(data.view(np.uint8).max()) > 1:
            raise ValueError(f"{name}: a flag is neither 0 nor 1")
        return np.ascontiguousarray(data)


class Frozen(ABC):
    """A state at a barrier.  ``fields``: what is small, copied."""

    fields: Mapping[str, Plain]

    @abstractmethod
    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        """The next pieces, about ``budget_bytes`` of them (at least one); None: all were given."""

    @abstractmethod
    def drop(self) -> None:
        """The snapshot is given up: what was not taken down is not asked for any more."""


class Copied(Frozen):
    """A state that was copied whole as it was frozen."""

    def __init__(self, fields: Mapping[str, Plain], parts: Mapping[str, Array] | None = None) -> None:
        self.fields = fields
        self._left = [Piece(name, data) for name, data in (parts or {}).items()]

    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        if not self._left:
            return None
        given: list[Piece] = []
        while self._left and budget_bytes > 0:
            given.append(self._left.pop(0))
            budget_bytes -= given[-1].data.nbytes
        return given

    def drop(self) -> None:
        self._left = []


def nested(fields: Mapping[str, Plain], inner: Mapping[str, Frozen]) -> Frozen:
    """The state of an owner that has ``fields`` and, by name, parts with states of their own; :meth:`Saved.within` is the way back."""
    return _Nested({**fields, **{name: dict(state.fields) for name, state in inner.items()}}, inner)


class _Nested(Frozen):
    def __init__(self, fields: Mapping[str, Plain], inner: Mapping[str, Frozen]) -> None:
        self.fields = fields
        self._inner = dict(inner)

    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        for name, state in list(self._inner.items()):
            given = state.pieces(budget_bytes)
            if given is not None:
                return [Piece(f"{name}.{piece.part}", piece.data) for piece in given]
            del self._inner[name]
        return None

    def drop(self) -> None:
        for state in self._inner.values():
            state.drop()
        self._inner = {}


def saved(frozen: Frozen) -> Saved:
    """All of a frozen state, in memory."""
    parts: dict[str, list[Array]] = {}
    while (given := frozen.pieces(1 << 20)) is not None:
        for piece in given:
            parts.setdefault(piece.part, []).append(piece.data)
    return Saved(frozen.fields, {name: _joined(data) for name, data in parts.items()})


def _joined(pieces: Iterable[Array]) -> Array:
    found = list(pieces)
    return found[0] if len(found) == 1 else np.concatenate(found)


def plain_schema(schema: Schema) -> list[Plain]:
    """Names and types as a field holds them."""
    return [[field.name, field.type_text] for field in schema]


def schema_of(columns: Plain) -> Schema:
    """The schema that :func:`plain_schema` made plain; ValueError where it is none."""
    if not isinstance(columns, list):
        raise ValueError("columns: names and types are wanted")  # noqa: TRY004  what was saved is wrong, not the caller
    fields = []
    for column in columns:
        match column:
            case [str(name), str(text)]:
                try:
                    fields.append(Field.parse(name, text))
                except ValueError as error:
                    raise ValueError(f"columns: {error}") from None
            case _:
                raise ValueError(f"columns: a name and a type are wanted, not {column!r}")
    return Schema(tuple(fields))
