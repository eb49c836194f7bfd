"""The functions and aggregates of the expression language: names, signatures and a line of doc each.

One table serves checking (``typing``), the hint with the nearest name, and ``asyncflow list functions|aggregates``.
A signature reads ``"float64, int64? -> float64"``: ``?`` may be left out, ``...`` comes once or more.  ``any`` is any type; equal
letters (``a``) are one common type; ``interval`` is a length of time.  Where several signatures fit, the one that needs the
fewest casts is taken, and the first of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

from msgspec import Struct


class Signature(Struct, frozen=True):
    """Parameter words and the result word; ``required`` of the parameters must be given, the last may repeat if ``repeats``."""

    parameters: tuple[str, ...]
    required: int
    repeats: bool
    result: str

    @classmethod
    def parse(cls, text: str) -> Signature:
        left, _, result = text.partition(" -> ")
        words = [word for word in left.split(", ") if word]
        repeats = bool(words) and words[-1].endswith("...")
        required = sum(not word.endswith("?") for word in words)
        return cls(tuple(word.rstrip("?.") for word in words), required, repeats, result)

    def expand(self, count: int) -> tuple[str, ...] | None:
        """The parameter words for ``count`` arguments; None where that number does not fit."""
        if count < self.required or (count > len(self.parameters) and not self.repeats):
            return None
        return (self.parameters + self.parameters[-1:] * (count - len(self.parameters)))[:count]


class Function(Struct, frozen=True, dict=True):
    """A function or aggregate by name; ``operator`` is how it is written where it is not written as a call; ``python``: the class of
    an aggregate written in Python."""

    name: str
    texts: tuple[str, ...]
    doc: str
    operator: str = ""
    python: type | None = None

    @cached_property
    def signatures(self) -> tuple[Signature, ...]:
        return tuple(Signature.parse(text) for text in self.texts)

    @property
    def usage(self) -> str:
        """``"round(float64, int64?) -> float64"``, one signature a line."""
        lines = []
        for text in self.texts:
            parameters, _, result = text.partition(" -> ")
            lines.append(f"{self.operator or self.name}({parameters}) -> {result}")
        return "\n".join(lines)


def _table(*functions: Function) -> Mapping[str, Function]:
    return MappingProxyType({function.name: function for function in functions})


_NUMBER = ("int64 -> int64", "float64 -> float64")
_NUMBERS = ("int64, int64 -> int64", "float64, float64 -> float64")
_REAL = ("float64 -> float64",)
_COMPARE = ("a, a -> bool",)
_TEXT_TEST = ("string, string -> bool",)

OPERATORS: Mapping[str, Function] = _table(
    Function("add", (*_NUMBERS, "timestamp, interval -> timestamp", "interval, timestamp -> timestamp"),
             "sum; of int64 beyond its range: null, counted", "+"),
    Function("sub", (*_NUMBERS, "timestamp, interval -> timestamp"), "difference; see +", "-"),
    Function("mul", _NUMBERS, "product; see +", "*"),
    Function("div", ("float64, float64 -> float64",), "quotient, always a float64; by zero: inf or NaN", "/"),
    Function("floordiv", _NUMBERS, "int64: quotient cut towards zero, by zero null; float64: as /, by zero null", "//"),
    Function("mod", _NUMBERS, "remainder with the sign of the first; by zero: null (int64) or NaN", "%"),
    Function("neg", _NUMBER, "minus", "-"),
    Function("eq", _COMPARE, "equal; NaN equals NaN", "="),
    Function("ne", _COMPARE, "not equal", "<>"),
    Function("lt", _COMPARE, "less; text by its UTF-8 bytes, NaN is the greatest number", "<"),
    Function("le", _COMPARE, "less or equal", "<="),
    Function("gt", _COMPARE, "greater", ">"),
    Function("ge", _COMPARE, "greater or equal", ">="),
    Function("and", ("bool... -> bool",), "three-valued and", "AND"),
    Function("or", ("bool... -> bool",), "three-valued or", "OR"),
    Function("not", ("bool -> bool",), "three-valued not", "NOT"),
    Function("is_null", ("any -> bool",), "true where there is no value", "IS NULL"),
    Function("is_distinct", _COMPARE, "not equal, null being a value: never null", "IS DISTINCT FROM"),
    Function("in", ("a, a... -> bool",), "equal to one of them", "IN"),
    Function("like", ("string, string, string? -> bool",), "the whole text fits: % any text, _ one character", "LIKE"),
    Function("concat", ("any... -> string",), "texts put together; null if one is null", "||"),
)  # fmt: skip

SCALARS: Mapping[str, Function] = _table(
    Function("abs", _NUMBER, "absolute value; of the least int64: null, counted"),
    Function("round", ("int64, int64? -> int64", "float64, int64? -> float64"),
             "to so many decimals (0), halves away from zero; negative ones round before the point"),
    Function("floor", _REAL, "greatest whole number not above"),
    Function("ceil", _REAL, "least whole number not below"),
    Function("sqrt", _REAL, "square root; of a negative number NaN"),
    Function("ln", _REAL, "natural logarithm; of 0 -inf, of a negative number NaN"),
    Function("log10", _REAL, "logarithm to base 10"),
    Function("exp", _REAL, "e to the power"),
    Function("power", ("float64, float64 -> float64",), "the first to the power of the second"),
    Function("mod", _NUMBERS, "remainder, as %"),
    Function("sign", ("int64 -> int64", "float64 -> int64"), "-1, 0 or 1; of NaN 0"),
    Function("greatest", ("a... -> a",), "the greatest, nulls left out"),
    Function("least", ("a... -> a",), "the least, nulls left out"),
    Function("coalesce", ("a... -> a",), "the first that is not null"),
    Function("nullif", ("a, a -> a",), "null where both are equal, else the first"),
    Function("lower", ("string -> string",), "in small letters, character by character"),
    Function("upper", ("string -> string",), "in capital letters, character by character"),
    Function("trim", ("string, string? -> string",), "without spaces (or the given characters) at both ends"),
    Function("length", ("string -> int64",), "number of characters (code points)"),
    Function("substring", ("string, int64, int64? -> string",),
             "from a position (1 is the first, negative from the end), so many characters"),
    Function("replace", ("string, string, string -> string",), "every occurrence of the second by the third"),
    Function("starts_with", _TEXT_TEST, "begins with the second"),
    Function("ends_with", _TEXT_TEST, "ends with the second"),
    Function("contains", _TEXT_TEST, "holds the second somewhere"),
    Function("regexp_matches", _TEXT_TEST, "the pattern (RE2's syntax) is found somewhere in the text"),
    Function("regexp_extract", ("string, string, int64? -> string",),
             "what the pattern (RE2's syntax), or its n-th group, found first, or ''"),
    Function("split_part", ("string, string, int64 -> string",),
             "the n-th part between separators (negative from the end), or ''"),
    Function("date_trunc", ("string, timestamp -> timestamp",),
             "start of its microsecond, millisecond, second, minute, hour, day, week, month, quarter, year, ..."),
    Function("extract", ("string, timestamp -> int64",), "a field: extract(hour FROM ts); epoch is a float64 of seconds"),
    Function("epoch_ms", ("timestamp -> int64", "int64 -> timestamp"), "milliseconds since 1970 (rounded), or the instant of so many"),
    Function("hash", ("any... -> int64",), "a number from 0 to 2^63-1, the same in every run and process"),
)  # fmt: skip

AGGREGATES: Mapping[str, Function] = _table(
    Function("count", (" -> int64", "any -> int64"), "number of rows, or of values; count(DISTINCT x) of different values"),
    Function("sum", _NUMBER, "exact for int64 (null beyond its range); of float64 exact and rounded once"),
    Function("min", ("a -> a",), "least value"),
    Function("max", ("a -> a",), "greatest value"),
    Function("mean", ("int64 -> float64", "float64 -> float64"), "arithmetic mean, exact and rounded once"),
    Function("var", _REAL, "sample variance, exact and rounded once; of fewer than two values null"),
    Function("stddev", _REAL, "sample standard deviation"),
    Function("var_pop", _REAL, "population variance"),
    Function("stddev_pop", _REAL, "population standard deviation"),
    Function("first", ("a -> a",), "value of the earliest row, ties by arrival"),
    Function("last", ("a -> a",), "value of the latest row, ties by arrival"),
    Function("any_value", ("a -> a",), "the first value to arrive"),
    Function("bool_and", ("bool -> bool",), "true where all are"),
    Function("bool_or", ("bool -> bool",), "true where one is"),
    Function("covar", ("float64, float64 -> float64",), "sample covariance"),
    Function("corr", ("float64, float64 -> float64",), "Pearson's correlation"),
    Function("arg_min", ("a, b -> a",), "the first argument where the second is least"),
    Function("arg_max", ("a, b -> a",), "the first argument where the second is greatest"),
    Function("approx_count_distinct", ("any -> int64",),
             "number of different values: exact to 1,536, then within 1.2 % in 95 of 100 (UltraLogLog; at most 16 KiB a group)"),
    Function("quantile", ("float64, float64 -> float64",),
             "the value below which that share (a constant from 0 to 1) lies, between two values by a straight line, NaN the greatest: "
             "exact to 4,096 values, then within 1 % of the rank asked for (32 KiB a group, 8 KiB more for each time the values double)"),
    Function("median", _REAL, "quantile(x, 0.5)"),
    Function("quantile_disc", ("int64, float64 -> int64", "float64, float64 -> float64", "timestamp, float64 -> timestamp"),
             "as quantile, but always one of the values: the first that has at least that share at or below it"),
    Function("approx_quantile", ("float64, float64 -> float64",),
             "as quantile, but by value: exact to 128 values, then within 1 % of the true one's size "
             "(DDSketch; at most 64 KiB a group)"),
    Function("approx_top_k", ("any, int64 -> string",),
             'the k (a constant from 1 to 1000) most frequent values as JSON text, [{"value":v,"count":n}, ...], by count, then by '
             "value: exact to m = max(10 k, 100) different values, then counts are up to rows / m too high (Space-Saving)"),
)  # fmt: skip

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "avg": "mean", "stddev_samp": "stddev", "variance": "var", "var_samp": "var", "covar_samp": "covar",
        "min_by": "arg_min", "argmin": "arg_min", "max_by": "arg_max", "argmax": "arg_max",
        "logical_and": "bool_and", "logical_or": "bool_or", "quantile_cont": "quantile",
        "pow": "power", "ceiling": "ceil", "log": "log10", "substr": "substring", "char_length": "length",
        "character_length": "length", "len": "length", "lcase": "lower", "ucase": "upper",
        "prefix": "starts_with", "suffix": "ends_with", "datetrunc": "date_trunc",
        "date_part": "extract", "datepart": "extract",
    }
)  # fmt: skip
"""Other names by which DuckDB's users know them; never shown, read by the parser."""


def find_function(name: str) -> Function | None:
    """The scalar function or operator node of that name; None when there is none."""
    return SCALARS.get(name) or OPERATORS.get(name)
