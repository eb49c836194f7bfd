"""The table of powers of five behind exact float parsing: ``powers.h`` is this module's output.

For each exponent q the 128 most significant bits of 5**q (truncated for q >= 0, rounded up for q < 0), as Eisel-Lemire needs them
(D. Lemire, "Number Parsing at a Gigabyte per Second", 2021).  ``python -m asyncflow._kernels.numbers.powers`` prints the header.
"""

from __future__ import annotations

SMALLEST, LARGEST = -342, 308
A_LINE = 3
"""Powers to a line of the table."""


def mantissa(exponent: int) -> int:
    """The 128-bit mantissa of 5**exponent, in [2**127, 2**128)."""
    if exponent >= 0:
        power: int = 5**exponent
        shift = 128 - power.bit_length()
        return power << shift if shift >= 0 else power >> -shift
    power = 5**-exponent
    bits = (power - 1).bit_length()
    scale = bits + 127 if exponent >= -27 else 2 * bits + 128
    value = (1 << scale) // power + 1
    return value >> max(value.bit_length() - 128, 0)


def header() -> str:
    """The text of ``powers.h``."""
    lines = [
        "/* 128-bit mantissas of 5**q, high and low half: the output of numbers/powers.py, checked by a test. */",
        f"enum {{ AF_POWER_MIN = {SMALLEST}, AF_POWER_MAX = {LARGEST} }};",
        f"static const uint64_t af_powers[{LARGEST - SMALLEST + 1}][2] = {{",
    ]
    for first in range(SMALLEST, LARGEST + 1, A_LINE):
        values = [mantissa(exponent) for exponent in range(first, min(first + A_LINE, LARGEST + 1))]
        lines.append(
            "    "
            + " ".join(f"{{0x{value >> 64:016x}u, 0x{value & (2**64 - 1):016x}u}}," for value in values)
        )
    return "\n".join([*lines, "};", ""])


if __name__ == "__main__":
    print(header(), end="")
