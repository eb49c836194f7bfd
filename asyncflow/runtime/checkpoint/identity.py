"""Each table of a plan as text, as far as saved state depends on it: where the text is the same, the state of one run fits another.

Settings that only say how long to wait or how much may be held are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

from asyncflow.plan.tables import Plan

_FREE = frozenset(
    {"watermark_delay_ns", "max_future_ns", "idle_timeout_ns", "on_error", "refresh_ns", "max_state_bytes"}
)


def identity(plan: Plan) -> dict[str, str]:
    """By the TOML path of each table its text."""
    rooms: dict[str, tuple[Any, ...]] = {"sources": plan.sources, "stages": plan.stages, "sinks": plan.sinks}
    return {
        f"{room}.{table.name}": json.dumps(_plain(table), sort_keys=True)
        for room, tables in rooms.items()
        for table in tables
    }


def _plain(value: object) -> Any:
    if isinstance(value, Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__ if name not in _FREE}
        return {"": type(value).__name__, **{name: _plain(field) for name, field in fields.items()}}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, frozenset | set):
        return sorted(json.dumps(_plain(each), sort_keys=True) for each in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    made = value if isinstance(value, type) or callable(value) else type(value)
    return f"{getattr(made, '__module__', '')}.{getattr(made, '__qualname__', type(value).__qualname__)}"


def changed(before: Mapping[str, object], now: Mapping[str, str]) -> list[str]:
    """What differs between the tables of two plans, in words."""
    found = [f"{path} is new" for path in now if path not in before]
    found += [f"{path} is gone" for path in before if path not in now]
    return found + [f"{path} has changed" for path in now if path in before and before[path] != now[path]]
