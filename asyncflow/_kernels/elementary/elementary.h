/* exp, ln, log10 and pow of doubles, rounded to nearest: the same bits on every processor, instruction level and C library.
 *
 * All arithmetic is on integers: fixed-point numbers of 128 bits and more, whose products are truncated.  So no result depends on
 * the floating-point instructions that a compiler chooses.  A result is computed to about 2^-60 of its last place (2^-114 relative
 * in pow, 2^-123 in the others) and rounded once.  No argument of exp, ln or log10 gives a value as near to a tie without being a
 * tie (V. Lefevre and J.-M. Muller, "Worst cases for correct rounding of the elementary functions in double precision", 2001).  A
 * result of pow within 2^-59 of a tie is taken for a tie (1.5 of a square).  Ties go to even.
 *
 * The method is table-driven reduction (P. T. P. Tang, "Table-driven implementation of the exponential function", 1989, and "... of
 * the logarithm function", 1990), twice:
 *   2^t:     t = k + i / 64 + j / 4096 + g, 0 <= g < 2^-12;  2^k * 2^(i/64) * 2^(j/4096) * (1 + g * terms(g)).  exp(x) is 2^(x log2(e)).
 *   log2(x): x = 2^e * m, 3/4 <= m < 3/2;  m c = 1 + z and (1 + z) d = 1 + w with short reciprocals c and d from tables, so that z and w
 *            are exact, |w| < 2^-14.9;  e - log2(c) - log2(d) + w * terms(w).  Beside 1 the first three are 0, and w alone keeps all its digits.
 *            ln(x) and log10(x) are log2(x) times a constant; pow(x, y) is 2^(y log2(x)).
 * Both are first computed in brief, with terms of 64 bits.  Where the possible error reaches over a tie (about 1 value in 60), they
 * are computed again with 128 bits (the test of A. Ziv, "Fast evaluation of elementary mathematical functions with correctly
 * rounded last bit", 1991). Special values are C99's (annex F); every NaN given is the same one. */
#ifndef ASYNCFLOW_ELEMENTARY_H
#define ASYNCFLOW_ELEMENTARY_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "elementary/tables.h"

#define AF_ELEMENTARY static inline __attribute__((always_inline))

typedef unsigned __int128 af_wide;

/* sign * significand / 2^127 * 2^exponent; the significand's first bit is set, or it is 0. */
typedef struct {
    af_wide significand;
    int exponent;
    bool negative;
} af_real;

enum { AF_EXACT_ULPS = 16 }; /* largest error of pow, in units of 2^-127, as a power of two */

static inline af_wide af_wide_from(const uint64_t *words) { return (af_wide)words[0] << 64 | words[1]; }

/* The upper half of the product of two 128-bit numbers. */
static inline af_wide af_high(af_wide a, af_wide b) {
    const uint64_t ah = (uint64_t)(a >> 64), al = (uint64_t)a, bh = (uint64_t)(b >> 64), bl = (uint64_t)b;
    const af_wide left = (af_wide)ah * bl, right = (af_wide)al * bh;
    const af_wide carry = ((af_wide)al * bl >> 64) + (uint64_t)left + (uint64_t)right;
    return (af_wide)ah * bh + (left >> 64) + (right >> 64) + (carry >> 64);
}

static inline uint64_t af_high64(uint64_t a, uint64_t b) { return (uint64_t)((af_wide)a * b >> 64); }

static inline int af_zeros(af_wide value) { /* leading ones; value is not 0 */
    const uint64_t high = (uint64_t)(value >> 64);
    return high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)value);
}

static inline double af_from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

static inline uint64_t af_to_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

static inline double af_nan(void) { return af_from_bits(0x7ff8000000000000u); }

/* The 53 digits of a finite number above 0 with the first at bit 63, and the exponent of that bit. */
static inline uint64_t af_digits(double size, int *exponent) {
    const uint64_t bits = af_to_bits(size);
    const int biased = (int)(bits >> 52 & 0x7ff);
    if (biased) {
        *exponent = biased - 1023;
        return bits << 11 | (uint64_t)1 << 63;
    }
    const int zeros = __builtin_clzll(bits);
    *exponent = -1011 - zeros;
    return bits << zeros;
}

/* The nearest double, ties to even.  A value within `doubt` (in units of 2^-127) of a tie is taken for a tie. */
static inline double af_rounded(af_real real, af_wide doubt) {
    const uint64_t sign = (uint64_t)real.negative << 63;
    if (real.exponent > 1023) return af_from_bits(sign | 0x7ff0000000000000u);
    const bool small = real.exponent < -1022;
    const int dropped = small ? 75 - 1022 - real.exponent : 75;
    if (dropped > 128) return af_from_bits(sign);
    uint64_t kept = dropped == 128 ? 0 : (uint64_t)(real.significand >> dropped);
    const af_wide rest = dropped == 128 ? real.significand : real.significand & (((af_wide)1 << dropped) - 1);
    const af_wide half = (af_wide)1 << (dropped - 1), away = rest > half ? rest - half : half - rest;
    kept += away <= doubt ? kept & 1 : rest > half;
    return af_from_bits(sign | (small ? kept : kept + ((uint64_t)(real.exponent + 1022) << 52))); /* a carry moves into the exponent */
}

/* Whether all values in real +- 2^error (in units of 2^-127) have the same nearest double. */
static inline bool af_settled(af_real real, int error) {
    if (real.exponent < -1022 || real.exponent > 1023) return false;
    const int64_t from_tie = (int64_t)((uint64_t)(real.significand >> 11) - ((uint64_t)1 << 63)); /* in units of 2^11 */
    const int64_t off = (int64_t)1 << (error - 11);
    return from_tie > off || from_tie < -off;
}

/* 2^t, where t is the 192-bit number * 2^(scale - 190), or minus that; scale < 11.  In brief the error is below 2^-59. */
AF_ELEMENTARY af_real af_exp2(af_wide high, uint64_t low, int scale, bool negative, bool in_brief) {
    /* t to 12 bits and 128 bits of fraction: shifted right by 62 - scale of 192 */
    const int shift = 62 - scale;
    af_wide fraction = 0;
    int whole = 0;
    if (shift < 64) {
        fraction = high << (64 - shift) | low >> shift;
        whole = (int)(high >> (64 + shift));
    } else if (shift < 162) { /* t below 2^-98 counts as 0 */
        fraction = high >> (shift - 64);
    }
    if (negative) {
        whole = -whole - (fraction != 0);
        fraction = -fraction;
    }
    const unsigned i = (unsigned)(fraction >> 122), j = (unsigned)(fraction >> 116) & 63;
    const af_wide g = fraction & (((af_wide)1 << 116) - 1);
    const uint64_t g64 = (uint64_t)(g >> 64);
    uint64_t brief = af_exp2_terms[8][0];
    if (in_brief) {
        brief = af_exp2_terms[5][0];
        for (int n = 4; n >= 0; n--) brief = af_exp2_terms[n][0] + af_high64(g64, brief);
        uint64_t product = ((uint64_t)1 << 63) + (af_high64(g64, brief) >> 1);
        product = af_high64(product, af_exp2_second[j][0]) << 1;
        product = af_high64(product, af_exp2_first[i][0]) << 1;
        const int zeros = (int)(~product >> 63); /* the last bit may be lost */
        return (af_real){(af_wide)product << (64 + zeros), whole - zeros, false};
    }
    for (int n = 7; n >= 5; n--) brief = af_exp2_terms[n][0] + af_high64(g64, brief);
    af_wide sum = (af_wide)brief << 64;
    for (int n = 4; n >= 0; n--) sum = af_wide_from(af_exp2_terms[n]) + af_high(g, sum);
    af_wide result = ((af_wide)1 << 127) + (af_high(g, sum) >> 1); /* 1 .. 2, in units of 2^-127 */
    result = af_high(result, af_wide_from(af_exp2_second[j])) << 1;
    result = af_high(result, af_wide_from(af_exp2_first[i])) << 1;
    return (af_real){result, whole, false};
}

static inline af_real af_normal(af_wide significand, int exponent, bool negative) {
    if (significand == 0) return (af_real){0, 0, false};
    const int zeros = af_zeros(significand);
    return (af_real){significand << zeros, exponent - zeros, negative};
}

/* The largest error of log2 in brief, in units of 2^-127, as a power of two; smaller where the table gives most of the value. */
static inline int af_log2_error(af_real log) { return log.exponent < -14 ? 67 : 53 - log.exponent; }

/* log2 of a finite number above 0. */
AF_ELEMENTARY af_real af_log2(double size, bool in_brief) {
    int e;
    uint64_t m = af_digits(size, &e) >> 11; /* in units of 2^-52 */
    if (m >= (uint64_t)3 << 51) {
        e += 1;
    } else {
        m <<= 1;
    } /* in units of 2^-53, 3/4 .. 3/2 */
    const uint64_t *first = af_log2_first[(m >> 45) - 192];
    const af_wide near = (af_wide)m * first[0]; /* 1 + z in units of 2^-68 */
    const int64_t z = (int64_t)(near - ((af_wide)1 << 68));
    const uint64_t *second = af_log2_second[((z + ((int64_t)1 << 53)) >> 54) + 64];
    const af_wide signed_w = near * second[0] - ((af_wide)1 << 92); /* in units of 2^-92 */
    const bool below = (int64_t)(signed_w >> 64) < 0;
    const af_wide minus = -(af_wide)below, w = (signed_w ^ minus) - minus; /* no branch: its sign is random */

    /* the sum of the three logarithms in units of 2^-180, 192 bits of two's complement */
    af_wide low = af_wide_from(first + 2) + af_wide_from(second + 2);
    uint64_t high = first[1] + second[1] + (low < af_wide_from(second + 2)) + ((uint64_t)(int64_t)e << 52);

    /* (1 - w/2 + w^2/3 - ...) log2(e), or with plus signs for w below 0 */
    const af_wide fraction = w << 36, flip = ~minus;
    const uint64_t fraction64 = (uint64_t)(fraction >> 64), flip64 = (uint64_t)flip;
    uint64_t brief = af_log2_terms[in_brief ? 4 : 9][0];
    for (int n = in_brief ? 3 : 8; n >= (in_brief ? 0 : 5); n--)
        brief = af_log2_terms[n][0] + ((af_high64(fraction64, brief) ^ flip64) - flip64);
    af_wide sum = (af_wide)brief << 64;
    for (int n = in_brief ? -1 : 4; n >= 0; n--) sum = af_wide_from(af_log2_terms[n]) + ((af_high(fraction, sum) ^ flip) - flip);
    if (w == 0 && low == 0 && high == 0) return (af_real){0, 0, false};
    const int zeros = w ? af_zeros(w) : 0;
    const af_wide part = in_brief ? (af_wide)(uint64_t)((w << zeros) >> 64) * brief : af_high(w << zeros, sum); /* in units of 2^(-91 - zeros) */
    if (low == 0 && high == 0) return af_normal(part, 36 - zeros, below);
    if (w) {
        const int up = 89 - zeros; /* of 180: below 39 */
        const af_wide add_low = (up >= 0 ? part << up : up > -128 ? part >> -up : 0) ^ minus;
        const uint64_t add_high = (up > 0 ? (uint64_t)(part >> (128 - up)) : 0) ^ (uint64_t)minus;
        low += add_low;
        high += add_high + (low < add_low);
        low += below;
        high += below && low == 0;
    }
    const bool negative = (int64_t)high < 0;
    if (negative) {
        high = ~high + (low == 0);
        low = -low;
    }
    if (high == 0) return af_normal(low, 127 - 180, negative);
    const int top = __builtin_clzll(high);
    return (af_real){((af_wide)high << 64 | (uint64_t)(low >> 64)) << top | (top ? (uint64_t)low >> (64 - top) : 0), 191 - top - 180, negative};
}

static inline double af_exp(double x) {
    if (x != x) return af_nan();
    if (x > 709.9) return af_from_bits(0x7ff0000000000000u);
    if (x < -745.2) return 0.0;
    const double size = fabs(x);
    if (size < 0x1p-54) return 1.0; /* the neighbours of 1 are at least 2^-53 away */
    int exponent;
    const uint64_t digits = af_digits(size, &exponent);
    const af_wide low = (af_wide)digits * af_log2_e[1] + af_high64(digits, af_log2_e[2]);
    const af_wide high = (af_wide)digits * af_log2_e[0] + (low >> 64);
    const af_real brief = af_exp2(high, (uint64_t)low, exponent, x < 0.0, true);
    if (af_settled(brief, 68)) return af_rounded(brief, 0);
    return af_rounded(af_exp2(high, (uint64_t)low, exponent, x < 0.0, false), 0);
}

/* Special values of a logarithm: true, and sets the result, where x is none that log2 takes. */
static inline bool af_no_log(double x, double *result) {
    if (x > 0.0 && x < INFINITY) return false;
    *result = x == 0.0 ? af_from_bits(0xfff0000000000000u) : x > 0.0 ? x : af_nan();
    return true;
}

AF_ELEMENTARY af_real af_times(af_real log, const uint64_t *factor, int exponent) {
    return af_normal(af_high(log.significand, af_wide_from(factor)), log.exponent + exponent, log.negative);
}

static inline double af_log_times(double x, const uint64_t *factor, int exponent) {
    double special;
    if (af_no_log(x, &special)) return special;
    const af_real log = af_log2(x, true), brief = af_times(log, factor, exponent);
    if (log.significand == 0) return 0.0;
    if (af_settled(brief, af_log2_error(log) + 1)) return af_rounded(brief, 0);
    return af_rounded(af_times(af_log2(x, false), factor, exponent), 0);
}

static inline double af_log(double x) { return af_log_times(x, af_ln_2, 0); }

static inline double af_log10(double x) { return af_log_times(x, af_log10_2, -1); }

/* size^y with the given sign bit; false where the brief computation does not decide the rounding. */
AF_ELEMENTARY bool af_pow_of(double size, double y, uint64_t sign, bool in_brief, double *result) {
    int exponent;
    const uint64_t digits = af_digits(fabs(y), &exponent);
    const af_real log = af_log2(size, in_brief);
    const int scale = log.exponent + exponent;
    const bool negative = log.negative != (y < 0.0);
    if (scale > 10) {
        *result = af_from_bits(sign | (negative ? 0 : 0x7ff0000000000000u));
        return true;
    }
    if (in_brief && af_log2_error(log) + scale + 1 > 69) return false;
    const af_wide low = (af_wide)(uint64_t)log.significand * digits, high = (log.significand >> 64) * digits + (low >> 64);
    af_real power = af_exp2(high, (uint64_t)low, scale, negative, in_brief);
    power.negative = sign != 0;
    if (in_brief && !af_settled(power, 70)) return false;
    *result = af_rounded(power, in_brief ? 0 : (af_wide)1 << AF_EXACT_ULPS);
    return true;
}

static inline double af_pow(double x, double y) {
    if (y == 0.0 || x == 1.0) return 1.0;
    if (x != x || y != y) return af_nan();
    if (y == 1.0) return x;
    if (y == 2.0) return x * x;
    if (y == -1.0) return 1.0 / x;
    if (y == 0.5 && x > 0.0) return sqrt(x);
    const double size = fabs(x), many = fabs(y);
    const bool whole = many >= 0x1p53 || many == (double)(int64_t)many;
    const bool odd = many < 0x1p53 && whole && ((int64_t)many & 1);
    const uint64_t sign = (uint64_t)(odd && signbit(x)) << 63;
    if (many == INFINITY && size == 1.0) return 1.0;
    if (size == 0.0 || size == INFINITY || many == INFINITY)
        return af_from_bits(sign | ((size > 1.0) == (y > 0.0) ? 0x7ff0000000000000u : 0));
    if (x < 0.0 && !whole) return af_nan();
    if (size == 1.0) return af_from_bits(sign | 0x3ff0000000000000u);
    double result;
    if (!af_pow_of(size, y, sign, true, &result)) af_pow_of(size, y, sign, false, &result);
    return result;
}

#endif
