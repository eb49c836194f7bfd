"""The functions of expressions by their names in the plan.

``FUNCTIONS`` take columns and give a column; ``COUNTED`` take a :data:`~asyncflow.operators.functions.arrays.Count` first, because
they may lose values.  ``cast`` stands apart (``casts``): it needs to know both types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncflow.operators.functions import comparing, hashing, logic, numbers, texts, times

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "div": numbers.div, "mod": numbers.mod, "sign": numbers.sign, "floor": numbers.floor, "ceil": numbers.ceil,
    "sqrt": numbers.sqrt, "ln": numbers.ln, "log10": numbers.log10, "exp": numbers.exp, "power": numbers.power,
    "eq": comparing.eq, "ne": comparing.ne, "lt": comparing.lt, "le": comparing.le, "gt": comparing.gt, "ge": comparing.ge,
    "is_distinct": comparing.is_distinct, "in": comparing.in_, "greatest": comparing.greatest, "least": comparing.least,
    "and": logic.and_, "or": logic.or_, "not": logic.not_, "is_null": logic.is_null, "case": logic.case, "coalesce": logic.coalesce,
    "like": texts.like, "concat": texts.concat, "lower": texts.lower, "upper": texts.upper, "trim": texts.trim,
    "length": texts.length, "substring": texts.substring, "replace": texts.replace, "starts_with": texts.starts_with,
    "ends_with": texts.ends_with, "contains": texts.contains, "regexp_matches": texts.regexp_matches,
    "regexp_extract": texts.regexp_extract, "split_part": texts.split_part,
    "extract": times.extract, "to_epoch_ms": times.epoch_ms, "hash": hashing.hash_,
}  # fmt: skip

COUNTED: dict[str, Callable[..., Any]] = {
    "add": numbers.add, "sub": numbers.sub, "mul": numbers.mul, "floordiv": numbers.floordiv, "neg": numbers.neg,
    "abs": numbers.absolute, "round": numbers.round_, "shift": times.shift, "date_trunc": times.date_trunc,
    "from_epoch_ms": times.from_epoch_ms,
}  # fmt: skip
