"""Objects of a user's aggregate as bytes, and back: MessagePack of plain values, no code, no class names.

Plain is what stands for itself when it is written: None, bool, int, float, str, bytes, numpy arrays and scalars of plain dtypes, and lists,
tuples and dicts (with str keys) of those.  An object is saved as what its ``save`` returns, and made by ``load`` of its class; a class
without either is saved as its attributes, where all are plain.  What is no plain value is refused with its class and attribute.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from asyncflow.errors import StageError

_PLAIN_DTYPES = "biufcmMSU"


def saved_object(obj: Any, label: str) -> bytes:
    """An object's state.  StageError, which begins with ``label``, names what cannot be saved."""
    save = getattr(obj, "save", None)
    if callable(save) != callable(getattr(type(obj), "load", None)):
        raise StageError(f"{label}: it has one of save and load; a class has both, or neither")
    if callable(save):
        try:
            return msgspec.msgpack.encode(_tagged(save()))
        except _NotPlainError as error:
            raise StageError(f"{label}: save gave {error}") from None
        except Exception as error:
            raise StageError.of(error, doing=f"{label}: save raised ") from error
    if any(vars(cls).get("__slots__") for cls in type(obj).__mro__):
        raise StageError(f"{label}: it has __slots__: give the class methods save() and load(saved)")
    found = {}
    for name, value in vars(obj).items():
        try:
            found[name] = _tagged(value)
        except _NotPlainError as error:
            raise StageError(
                f"{label}: the attribute {name!r} is {error}: give the class methods save() and load(saved)"
            ) from None
    return msgspec.msgpack.encode(found)


def loaded_object(cls: Any, data: bytes, label: str) -> Any:
    """The object of ``cls`` that was saved.  ValueError for bytes that are none; what ``load`` raises is a StageError."""
    try:
        saved = msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        raise ValueError(f"{label}: the saved object is no MessagePack") from None
    load = getattr(cls, "load", None)
    if callable(load):
        plain = _plain(saved, label)
        try:
            return load(plain)
        except Exception as error:
            raise StageError.of(error, doing=f"{label}: load raised ") from error
    if not isinstance(saved, dict):
        raise ValueError(f"{label}: the saved object has no attributes")  # noqa: TRY004  what was saved is wrong
    obj = cls.__new__(cls)
    vars(obj).update({name: _plain(value, label) for name, value in saved.items()})
    return obj


class _NotPlainError(Exception):
    """The message is what it is instead."""


def _tagged(value: Any) -> Any:
    """As MessagePack takes it: what has no form of its own there is a map of one kind to its content."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in _PLAIN_DTYPES:
            raise _NotPlainError(f"a numpy array of {value.dtype}")
        content = [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
        return {"array" if isinstance(value, np.ndarray) else "scalar": content}
    match value:
        case None | bool() | float() | str() | bytes() if type(value) in (
            type(None),
            bool,
            float,
            str,
            bytes,
        ):
            return value
        case int() if type(value) is int:
            return value if -(2**63) <= value < 2**63 else {"int": str(value)}
        case list() if type(value) is list:
            return [_tagged(part) for part in value]
        case tuple() if type(value) is tuple:
            return {"tuple": [_tagged(part) for part in value]}
        case dict() if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": {key: _tagged(part) for key, part in value.items()}}
    raise _NotPlainError(f"a {type(value).__qualname__}")


def _plain(value: Any, label: str) -> Any:
    """The way back from :func:`_tagged`."""
    if isinstance(value, list):
        return [_plain(part, label) for part in value]
    if not isinstance(value, dict):
        return value
    try:
        ((kind, content),) = value.items()
        match kind:
            case "int":
                return int(content)
            case "tuple":
                return tuple(_plain(part, label) for part in content)
            case "dict":
                return {key: _plain(part, label) for key, part in content.items()}
            case "array" | "scalar":
                dtype, shape, data = content
                if np.dtype(dtype).kind in _PLAIN_DTYPES:
                    array = np.frombuffer(data, dtype).reshape(shape).copy()
                    return array if kind == "array" else array[()]
    except (ValueError, TypeError, AttributeError):
        pass
    raise ValueError(f"{label}: the saved object is damaged")
