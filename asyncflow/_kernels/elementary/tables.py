"""The tables behind ``exp``, ``log`` and ``pow``: ``elementary/tables.h`` is this module's output.

Every entry is computed with 100 decimal digits and rounded to nearest.  ``python -m asyncflow._kernels.elementary.tables`` prints the
header; ``elementary.h`` describes the use of each table.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, getcontext, localcontext
from math import factorial

DIGITS = 100


def _fixed(value: Decimal, fraction_bits: int) -> int:
    """To an integer in units of 2**-fraction_bits."""
    return int((value * (1 << fraction_bits)).to_integral_value())


def _words(value: int, count: int) -> str:
    """A C initializer of ``count`` 64-bit words, most significant first, two's complement."""
    value &= (1 << 64 * count) - 1
    return ", ".join(f"0x{value >> 64 * place & (1 << 64) - 1:016x}u" for place in reversed(range(count)))


def _table(name: str, columns: int, rows: Iterable[str]) -> list[str]:
    lines = [f"    {{{row}}}," for row in rows]
    return [f"static const uint64_t {name}[{len(lines)}][{columns}] = {{", *lines, "};"]


def _reciprocal(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def first_factor(place: int) -> int:
    """About 2**15 / m for m in [place / 256, (place + 1) / 256); exactly 2**15 on both sides of 1."""
    return 1 << 15 if place in (255, 256) else _reciprocal(1 << 24, 2 * place + 1)


def second_factor(place: int) -> int:
    """About 2**24 / (1 + place / 2**14)."""
    return _reciprocal(1 << 38, (1 << 14) + place)


def header() -> str:
    """The text of ``elementary/tables.h``."""
    with localcontext() as context:
        context.prec = DIGITS
        assert getcontext().prec == DIGITS
        two = Decimal(2)
        ln2, ln10 = two.ln(), Decimal(10).ln()

        def powers(steps: int) -> list[str]:
            return [_words(_fixed((ln2 * n / steps).exp(), 127), 2) for n in range(64)]

        def factors(values: Iterable[tuple[int, int]]) -> list[str]:
            logs = ((c, -(Decimal(c) / one).ln() / ln2) for c, one in values)
            return [f"{c}u, {_words(_fixed(log, 180), 3)}" for c, log in logs]

        lines = [
            "/* Tables of exp, log and pow: the output of elementary/tables.py, checked by a test. */",
            f"static const uint64_t af_log2_e[3] = {{{_words(_fixed(1 / ln2, 191), 3)}}}; /* 2^191 log2(e) */",
            f"static const uint64_t af_ln_2[2] = {{{_words(_fixed(ln2, 128), 2)}}}; /* 2^128 ln(2) */",
            f"static const uint64_t af_log10_2[2] = {{{_words(_fixed(ln2 / ln10, 129), 2)}}}; /* 2^129 log10(2) */",
            "/* 2^127 * 2^(i / 64) */",
            *_table("af_exp2_first", 2, powers(64)),
            "/* 2^127 * 2^(i / 4096) */",
            *_table("af_exp2_second", 2, powers(4096)),
            "/* 2^128 * ln(2)^(n + 1) / (n + 1)! */",
            *_table(
                "af_exp2_terms", 2, (_words(_fixed(ln2**n / factorial(n), 128), 2) for n in range(1, 10))
            ),
            "/* c, about 2^15 / m for m in [i / 256, (i + 1) / 256), i from 192; -log2(c / 2^15) in units of 2^-180, three words */",
            *_table("af_log2_first", 4, factors((first_factor(i), 1 << 15) for i in range(192, 384))),
            "/* c, about 2^24 / (1 + j / 2^14), j from -64; -log2(c / 2^24) in units of 2^-180, three words */",
            *_table("af_log2_second", 4, factors((second_factor(j), 1 << 24) for j in range(-64, 65))),
            "/* 2^127 * log2(e) / (n + 1) */",
            *_table("af_log2_terms", 2, (_words(_fixed(1 / ln2 / n, 127), 2) for n in range(1, 11))),
        ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(header(), end="")
