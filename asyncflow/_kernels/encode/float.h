/* Writes a double as the shortest decimal that reads back as the same double, in the form of Python's repr.
 *
 * Algorithm: Raffaello Giulietti, "The Schubfach way to render doubles" (2020-2022).  v = c * 2^q.  The reals that round to v are
 * an interval around v, which includes its ends where c is even.  With k = floor(log10(width of the interval)) at most one multiple
 * of 10^(k+1) lies inside the interval.  Where there is one it is the shortest decimal; else the shortest is the multiple of 10^k
 * nearest to v. v and the ends of the interval, scaled by 4 * 10^-k, are one 64 x 128 bit product each, rounded to odd: the last
 * bit says that digits were cut off, and the comparisons need no more.
 *
 * powers_of_ten[n - MIN_POWER] is the 128-bit g with g - 1 <= 10^n * 2^-r < g, r = floor(log2(10^n)) - 127, as (high, low).
 * The kernel's module fills it at import from whole-number arithmetic.
 *
 * Layout: digits d1..dn and the place of the point, v = 0.d1..dn * 10^point.  -4 < point <= 16 is written plainly (0.001, 20.0),
 * anything else with an exponent of at least two digits (1e+16, 2.5e-07).
 */
#ifndef ASYNCFLOW_ENCODE_FLOAT_H
#define ASYNCFLOW_ENCODE_FLOAT_H

#include "encode/digits.h"

#define MIN_POWER (-292)
#define MAX_POWER 324

static uint64_t powers_of_ten[MAX_POWER - MIN_POWER + 1][2];

static const uint64_t small_powers_of_ten[18] = {
    1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull, 1000000000ull,
    10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull, 100000000000000ull, 1000000000000000ull,
    10000000000000000ull, 100000000000000000ull,
};

/* floor(g * scaled / 2^128), with the last bit set where digits were cut off. */
static inline uint64_t round_to_odd(const uint64_t *g, uint64_t scaled) {
    unsigned __int128 low = (unsigned __int128)g[1] * scaled;
    unsigned __int128 high = (unsigned __int128)g[0] * scaled + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* Shortest decimal of a positive finite double: returns m and sets *exponent, value = m * 10^exponent, m < 10^17. */
static inline uint64_t shortest_decimal(uint64_t bits, int *exponent) {
    const uint64_t fraction = bits & 0xfffffffffffffull;
    const int biased = (int)(bits >> 52);
    const uint64_t c = biased ? fraction | 1ull << 52 : fraction;
    const int q = (biased ? biased : 1) - 1075;

    /* A whole number below 2^53 is its own digits: every shorter decimal is at least 1 away. */
    if (-52 <= q && q <= 0 && (c & ((1ull << -q) - 1)) == 0) {
        *exponent = 0;
        return c >> -q;
    }

    /* Where v is a power of two, the doubles below v are twice as close as those above. */
    const int uneven = fraction == 0 && biased > 1;
    const uint64_t odd = c & 1;
    const int k = (q * 1262611 - (uneven ? 524031 : 0)) >> 22; /* floor(log10(2^q)), or of 3/4 * 2^q */
    const int shift = q + ((-k * 1741647) >> 19) + 1;          /* floor(log2(10^-k)) */
    const uint64_t *g = powers_of_ten[-k - MIN_POWER];

    const uint64_t lower = round_to_odd(g, (4 * c - 2 + (uint64_t)uneven) << shift) + odd;
    const uint64_t value = round_to_odd(g, (4 * c) << shift);
    const uint64_t upper = round_to_odd(g, (4 * c + 2) << shift) - odd;

    const uint64_t below = value >> 2;
    if (below >= 10) {
        const uint64_t tens = below / 10;
        const int down_fits = lower <= 40 * tens;
        const int up_fits = 40 * tens + 40 <= upper;
        if (down_fits != up_fits) {
            *exponent = k + 1;
            return tens + (uint64_t)up_fits;
        }
    }
    *exponent = k;
    const int down_fits = lower <= 4 * below;
    const int up_fits = 4 * below + 4 <= upper;
    if (down_fits != up_fits)
        return below + (uint64_t)up_fits;
    const uint64_t middle = 4 * below + 2;
    return below + (uint64_t)(value > middle || (value == middle && (below & 1)));
}

/* The short way for numbers of at most four decimals and fifteen digits, as most measurements are.  v is m / 10^4, correctly
 * rounded; no two decimals of up to fifteen digits read as one double, so m without trailing zeros is the shortest decimal.
 * Writes m for each number, or 0 where it has more decimals or digits; signs are left out.  Many at once: the division of one does not
 * hold up the writing of another, and compilers make vectors of the loop. */
static inline void four_decimals(const double *numbers, int64_t count, uint64_t *decimals) {
    const double whole_above = 0x1p52; /* the doubles from here on are whole numbers, and the last bits of one are its distance from here */
    for (int64_t i = 0; i < count; i++) {
        const double number = __builtin_fabs(numbers[i]);
        const double moved = number * 1e4 + whole_above;
        uint64_t bits, base;
        memcpy(&bits, &moved, 8);
        memcpy(&base, &whole_above, 8);
        bits -= base;
        bits = (moved - whole_above) / 1e4 == number ? bits : 0;
        decimals[i] = moved < whole_above + 1e15 ? bits : 0;
    }
}

static inline int count_digits(uint64_t value) {
    int about = ((64 - __builtin_clzll(value)) * 1233) >> 12; /* floor(bits * log10(2)): exact or one too few */
    return about + (value >= small_powers_of_ten[about]);
}

/* m / 10^4, m below 10^12. */
static inline uint8_t *write_four_decimals(uint8_t *out, uint64_t m) {
    uint64_t digits;
    if (m < 100000000u) { /* four digits before the point and four after it */
        digits = eight_digits((uint32_t)m);
        const int zeros = __builtin_ctz((uint32_t)digits | 1u << 24) >> 3;
        store64(out, (digits | ASCII_ZEROS) >> (8 * zeros));
        out += 4 - zeros;
        digits >>= 32;
    } else {
        const uint32_t whole = (uint32_t)(m / 10000);
        out = write_below_1e8(out, whole);
        digits = eight_digits((uint32_t)(m - (uint64_t)whole * 10000)) >> 32;
    }
    *out++ = '.';
    store64(out, digits | ASCII_ZEROS);
    return out + 4 - (__builtin_clz((uint32_t)digits | 1) >> 3);
}

/* A finite double, `decimal` as four_decimals gives it.  At most 24 bytes, and up to 16 stored beyond. */
static inline uint8_t *write_finite(uint8_t *out, double number, uint64_t decimal) {
    uint64_t bits;
    memcpy(&bits, &number, 8);
    *out = '-';
    out += bits >> 63;
    bits &= ~(1ull << 63);
    if (bits == 0) {
        memcpy(out, "0.0", 3);
        return out + 3;
    }

    int exponent = -4;
    if (decimal - 1 < 999999999999u)
        return write_four_decimals(out, decimal);
    if (decimal == 0)
        decimal = shortest_decimal(bits, &exponent);
    const int places = count_digits(decimal);
    const int point = places + exponent;
    /* Multiplied up to 17 places, the digits are at fixed bytes: one, eight and eight. */
    const uint64_t full = decimal * small_powers_of_ten[17 - places];
    const uint64_t nine = full / 100000000u;
    const uint32_t first = (uint32_t)(nine / 100000000u);
    const uint64_t middle = eight_digits((uint32_t)(nine - (uint64_t)first * 100000000u));
    const uint64_t last = eight_digits((uint32_t)(full - nine * 100000000u));
    const int digits = last ? 17 - (__builtin_clzll(last) >> 3) : middle ? 9 - (__builtin_clzll(middle) >> 3) : 1;

    if (0 < point && point <= 16) {
        out[0] = (uint8_t)('0' + first);
        store64(out + 1, middle | ASCII_ZEROS);
        store64(out + 9, last | ASCII_ZEROS);
        /* The digits after the point move on by one byte.  They are shifted in registers: a load would wait for the stores. */
        unsigned __int128 after = (unsigned __int128)(last | ASCII_ZEROS) << 64 | (middle | ASCII_ZEROS);
        after >>= 8 * (point - 1);
        out[point] = '.';
        store64(out + point + 1, (uint64_t)after);
        store64(out + point + 9, (uint64_t)(after >> 64));
        if (digits > point)
            return out + digits + 1;
        out[point + 1] = '0';
        return out + point + 2;
    }
    if (-4 < point && point <= 0) {
        memcpy(out, "0.000", 5);
        out += 2 - point;
        out[0] = (uint8_t)('0' + first);
        store64(out + 1, middle | ASCII_ZEROS);
        store64(out + 9, last | ASCII_ZEROS);
        return out + digits;
    }
    out[0] = (uint8_t)('0' + first);
    out[1] = '.';
    store64(out + 2, middle | ASCII_ZEROS);
    store64(out + 10, last | ASCII_ZEROS);
    out += digits > 1 ? digits + 1 : 1;
    const int power = point - 1;
    const uint32_t size = (uint32_t)(power < 0 ? -power : power);
    *out++ = 'e';
    *out++ = power < 0 ? '-' : '+';
    if (size >= 100)
        *out++ = (uint8_t)('0' + size / 100);
    *out++ = (uint8_t)('0' + size / 10 % 10);
    *out++ = (uint8_t)('0' + size % 10);
    return out;
}

#endif
