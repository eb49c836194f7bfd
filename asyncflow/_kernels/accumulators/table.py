"""Which aggregates there are, what they take and give, and their accumulators: the one table of all kernels and operators.

Equal accumulators are kept once: ``count``, ``sum``, ``min``, ``max`` and ``mean`` of one column under one mask are results of one NUMBER.
Families and results are named as in ``accumulators/list.h``; the kernel refuses to be imported where a name here is none there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Aggregate: TypeAlias = tuple[str, tuple[int, ...], tuple[str, ...], int | None, *tuple[float, ...]]
"""Function, inputs by position, their types, mask by position; then the constants of quantiles (which) and approx_top_k (how many)."""


class Accumulator(Struct):
    """What one accumulator reads and keeps.  Columns and masks by position, -1 for none; kinds are names of types."""

    family: str
    input: int = -1
    second: int = -1
    mask: int = -1
    kind: str = "int64"
    second_kind: str = "int64"
    sum: bool = False
    """NUMBER: whether there is a sum, and whether there are least and greatest (``extremes``)."""
    extremes: bool = False
    key: str = "NONE"
    """PICK: what decides, NONE (the order of arrival alone), TIME or VALUE; the column of a VALUE; which key, and which of equal ones."""
    key_input: int = -1
    key_kind: str = "int64"
    greatest: bool = False
    last: bool = False
    valued: bool = False
    """PICK: whether there is a value besides the key."""
    counters: int = 0
    """TOP: how many."""

    @property
    def text_key(self) -> bool:
        return self.key == "VALUE" and self.key_kind == "string"

    @property
    def text_value(self) -> bool:
        return self.valued and self.kind == "string"

    @property
    def apart(self) -> bool:
        """Rows may be added up apart and their cells merged, in any tree: neither results nor saved states show it.  Not those that depend
        on the order of rows, nor sets of values, which may be as many as the rows."""
        return self.family not in ("DISTINCT", "RANKS", "TOP")

    @property
    def described(self) -> str:
        """What it is, as saved states say it: equal for equal accumulators of equal types."""
        words = [
            self.family,
            self.kind,
            *(("sum",) if self.sum else ()),
            *(("extremes",) if self.extremes else ()),
        ]
        if self.family == "COMOMENTS":
            words.append(self.second_kind)
        if self.family == "PICK":
            words += [self.key, *((self.key_kind,) if self.key == "VALUE" else ())]
            words += [name for name in ("greatest", "last", "valued") if getattr(self, name)]
        if self.family == "TOP":
            words.append(str(self.counters))
        return " ".join(words)

    def saved_words(self) -> list[tuple[str, str]]:
        """Names and dtypes of the words that are saved of it, each of 8 bytes."""
        match self.family:
            case "NUMBER":
                is_float = self.kind == "float64"
                sums = (
                    [("sum", "<f8"), ("rest", "<f8")]
                    if is_float
                    else [("sum_low", "<u8"), ("sum_high", "<i8")]
                )
                extremes = [("least", "<i8"), ("greatest", "<i8")]
                return [
                    ("left_out", "<i8"),
                    *(sums if self.sum else ()),
                    *(extremes if self.extremes else ()),
                ]
            case "MOMENTS":
                return [("count", "<i8"), ("sum", "<f8"), ("rest", "<f8")]
            case "COMOMENTS":
                return [("count", "<i8"), *((name, "<f8") for name in ("sum_x", "rest_x", "sum_y", "rest_y"))]
            case "PICK":
                key = [] if self.text_key else [("key", "<i8")]
                value = [("value", "<i8")] if self.valued and not self.text_value else []
                return [("arrival", "<i8"), *key, *value]
        return []


class Output(Struct, frozen=True):
    """A result: of which accumulator (-1: of the cell), the type of its words, its constant (taken from n, which share, how many)."""

    result: str
    accumulator: int
    kind: str
    parameter: float = 0.0


class Rule(Struct, frozen=True):
    """``takes``: the types that each input may have; ``type``: of the result, None for that of the first input; ``constant``: the least and
    the greatest constant, None where there is none.  ``parameter``: of the result where there is no constant; the rest as in
    :class:`Accumulator`."""

    family: str
    result: str
    takes: tuple[frozenset[str], ...]
    type: str | None = None
    constant: tuple[float, float] | None = None
    sum: bool = False
    extremes: bool = False
    parameter: float = 0.0
    key: str = "NONE"
    greatest: bool = False
    last: bool = False


NUMBERS = frozenset({"int64", "float64"})
ORDERED = NUMBERS | {"timestamp"}
ANY = ORDERED | {"bool", "string"}
BOOL = frozenset({"bool"})
SHARE = (0.0, 1.0)
MOST_COUNTED = 1000

AGGREGATES: dict[str, Rule] = {
    "count": Rule("NUMBER", "COUNT", (ANY,), "int64"),  # without an input: of rows
    "sum": Rule("NUMBER", "SUM", (NUMBERS,), sum=True),
    "mean": Rule("NUMBER", "MEAN", (NUMBERS,), "float64", sum=True),
    "min": Rule("NUMBER", "LEAST", (ANY,), extremes=True),
    "max": Rule("NUMBER", "GREATEST", (ANY,), extremes=True),
    "bool_and": Rule("NUMBER", "LEAST", (BOOL,), extremes=True),
    "bool_or": Rule("NUMBER", "GREATEST", (BOOL,), extremes=True),
    "var": Rule("MOMENTS", "VARIANCE", (NUMBERS,), "float64", parameter=1.0),
    "stddev": Rule("MOMENTS", "DEVIATION", (NUMBERS,), "float64", parameter=1.0),
    "var_pop": Rule("MOMENTS", "VARIANCE", (NUMBERS,), "float64"),
    "stddev_pop": Rule("MOMENTS", "DEVIATION", (NUMBERS,), "float64"),
    "covar": Rule("COMOMENTS", "COVARIANCE", (NUMBERS, NUMBERS), "float64"),
    "corr": Rule("COMOMENTS", "CORRELATION", (NUMBERS, NUMBERS), "float64"),
    "first": Rule("PICK", "PICKED", (ANY,), key="TIME"),
    "last": Rule("PICK", "PICKED", (ANY,), key="TIME", greatest=True, last=True),
    "any_value": Rule("PICK", "PICKED", (ANY,)),
    "arg_min": Rule("PICK", "PICKED", (ANY, ANY), key="VALUE"),
    "arg_max": Rule("PICK", "PICKED", (ANY, ANY), key="VALUE", greatest=True),
    "count_distinct": Rule("DISTINCT", "DISTINCT_COUNT", (ANY,), "int64"),
    "approx_count_distinct": Rule("ABOUT_DISTINCT", "DISTINCT_ESTIMATE", (ANY,), "int64"),
    "quantile": Rule("RANKS", "QUANTILE", (NUMBERS,), "float64", SHARE),
    "quantile_disc": Rule("RANKS", "QUANTILE_VALUE", (ORDERED,), None, SHARE),
    "approx_quantile": Rule("ABOUT_QUANTILE", "QUANTILE_ESTIMATE", (NUMBERS,), "float64", SHARE),
    "approx_top_k": Rule("TOP", "MOST_FREQUENT", (ANY,), "string", (1, MOST_COUNTED)),
}
OF_TEXTS: dict[str, Rule] = {
    "min": Rule("PICK", "PICKED", (ANY,), key="VALUE"),
    "max": Rule("PICK", "PICKED", (ANY,), key="VALUE", greatest=True),
}
"""Aggregates that have other accumulators for texts."""


def result_kind(function: str, types: tuple[str, ...]) -> str:
    """The type name of an aggregate's result."""
    return AGGREGATES[function].type or types[0]


def laid_out(aggregates: Iterable[Aggregate]) -> tuple[list[Accumulator], list[Output]]:
    """The accumulators that give these aggregates, each once, and for every aggregate its result.  ValueError for an unknown one."""
    accumulators: list[Accumulator] = []
    outputs: list[Output] = []
    places: dict[tuple[object, ...], int] = {}
    for function, inputs, types, mask, *constants in aggregates:
        if function == "count" and not inputs and mask is None:
            outputs.append(Output("ROWS_ALL", -1, "int64"))
            continue
        rule = OF_TEXTS.get(function) if types[:1] == ("string",) else None
        rule = rule or AGGREGATES.get(function)
        if rule is None:
            raise ValueError(f"unknown aggregate {function!r}")
        wanted = Accumulator(rule.family, inputs[0] if inputs else -1, mask=-1 if mask is None else mask)
        wanted.kind = types[0] if types else "int64"
        if rule.family == "COMOMENTS":
            wanted.second, wanted.second_kind = inputs[1], types[1]
        if rule.family == "PICK":
            keyed = 1 if len(inputs) > 1 else 0
            wanted.key, wanted.greatest, wanted.last = rule.key, rule.greatest, rule.last
            wanted.key_input, wanted.key_kind = inputs[keyed], types[keyed]
            wanted.valued = function not in OF_TEXTS
            if keyed:
                wanted.second, wanted.second_kind = inputs[1], types[1]
        if rule.family == "TOP":
            if not 1 <= constants[0] <= MOST_COUNTED:
                raise ValueError(f"approx_top_k gives 1 .. {MOST_COUNTED} values")
            wanted.counters = int(max(10 * constants[0], 100))
        identity = (wanted.described, wanted.input, wanted.second, wanted.key_input, wanted.mask)
        at = places.setdefault(identity, len(accumulators))
        if at == len(accumulators):
            accumulators.append(wanted)
        accumulators[at].sum |= rule.sum
        accumulators[at].extremes |= rule.extremes
        kind = types[0] if rule.family == "TOP" or not rule.type else rule.type
        outputs.append(Output(rule.result, at, kind, constants[0] if constants else rule.parameter))
    return accumulators, outputs


# -- saved cells ----------------------------------------------------------------------------------------------------------


def cell_dtype(accumulators: Iterable[Accumulator]) -> np.dtype[np.void]:
    """A saved cell: its group (place among the saved groups), its rows, and the words of each accumulator, as ``0_number_left_out``."""
    words = [("group", "<i8"), ("rows", "<i8")]
    for position, accumulator in enumerate(accumulators):
        begin = f"{position}_{accumulator.family.lower()}"
        words += [(f"{begin}_{name}", dtype) for name, dtype in accumulator.saved_words()]
    return np.dtype(words)


PANE = np.dtype(
    [
        ("number_high", "<i8"),
        ("number_low", "<u8"),
        ("first_high", "<i8"),
        ("first_low", "<u8"),
        ("cells", "<i8"),
    ]
)
"""A saved pane: its number and the first window that it counts in, of 128 bits each, and how many of the cells are its."""

BLOCK = np.dtype([("cell", "<i8"), ("accumulator", "<i4"), ("kind", "<i4"), ("bytes", "<i8")])
"""What a cell keeps outside of it: texts (kind 0: a key, 1: a value), sketches, sets and sums (1; of several
sums 1 and up); the bytes stand in ``block_bytes``."""

BYTES: np.dtype[np.uint8] = np.dtype("u1")
Parts: TypeAlias = dict[str, NDArray[np.void] | NDArray[np.uint8]]
