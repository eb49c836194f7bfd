/* Exact numbers of any size on the stack, and what they come to as float64, rounded once (to nearest, ties to even).
 *
 * A number is a sign and limbs of 64 bits, worth 2^(64 * first) and up, without zeros at either end.  A ratio, or its square root, is found as
 * an integer of 55 or 56 bits and whether anything is left: an estimate from the leading words decides nearly always, a comparison of
 * whole numbers where the estimate is too near to an integer. */
#ifndef ASYNCFLOW_SUMS_ROUNDED_H
#define ASYNCFLOW_SUMS_ROUNDED_H

#include <stddef.h>

#include "sums/fixed.h"

/* Limbs of the largest: of a correlation, the product of two variances times a square of two limbs. */
enum { AF_EXACT_LIMBS = 4 * AF_FIXED_LIMBS + 8 };

typedef struct {
    int32_t first, count; /* count 0: zero */
    bool negative;
    uint64_t limbs[AF_EXACT_LIMBS];
} af_exact;

static void af_exact_trim(af_exact *number) {
    int32_t zeros = 0;
    while (number->count && number->limbs[number->count - 1] == 0) number->count--;
    while (zeros < number->count && number->limbs[zeros] == 0) zeros++;
    if (zeros) memmove(number->limbs, number->limbs + zeros, (size_t)(number->count - zeros) * sizeof(uint64_t));
    number->first += zeros;
    number->count -= zeros;
}

static void af_exact_of_fixed(af_exact *into, const af_fixed *fixed) {
    uint64_t carry = 0;
    into->first = fixed->first - AF_FIXED_POINT;
    into->count = fixed->count;
    into->negative = af_fixed_sign(fixed) != 0;
    for (int32_t i = 0; i < fixed->count; i++)
        into->limbs[i] = into->negative ? af_limb_subtract(0, fixed->limbs[i], &carry) : fixed->limbs[i];
    af_exact_trim(into);
}

/* The sum of some finite values. */
static void af_exact_of_values(af_exact *into, const double *values, int count) {
    af_fixed_room room;
    uint64_t held = 0;
    af_fixed *fixed = af_fixed_for(&room, values, count);
    for (int i = 0; i < count; i++) af_fixed_add(&fixed, values[i], &held);
    af_exact_of_fixed(into, fixed);
}

static void af_exact_of_words(af_exact *into, unsigned __int128 magnitude, bool negative) {
    into->first = 0;
    into->count = 2;
    into->negative = negative;
    into->limbs[0] = (uint64_t)magnitude;
    into->limbs[1] = (uint64_t)(magnitude >> 64);
    af_exact_trim(into);
}

/* into = a * b; `into` is neither. */
static void af_exact_multiply(af_exact *into, const af_exact *a, const af_exact *b) {
    into->first = a->first + b->first;
    into->count = a->count + b->count;
    into->negative = a->negative != b->negative;
    memset(into->limbs, 0, (size_t)into->count * sizeof(uint64_t));
    for (int32_t i = 0; i < a->count; i++) {
        uint64_t carry = 0;
        for (int32_t j = 0; j < b->count; j++) {
            const unsigned __int128 sum = (unsigned __int128)a->limbs[i] * b->limbs[j] + into->limbs[i + j] + carry;
            into->limbs[i + j] = (uint64_t)sum;
            carry = (uint64_t)(sum >> 64);
        }
        into->limbs[i + b->count] = carry;
    }
    af_exact_trim(into);
}

AF_INLINE uint64_t af_exact_limb(const af_exact *number, int32_t at) {
    at -= number->first;
    return at < 0 || at >= number->count ? 0 : number->limbs[at];
}

/* Compares magnitudes: -1, 0 or 1. */
static int af_exact_compare(const af_exact *a, const af_exact *b) {
    const int32_t a_end = a->first + a->count, b_end = b->first + b->count;
    if (a->count == 0 || b->count == 0) return (a->count > 0) - (b->count > 0);
    if (a_end != b_end) return a_end > b_end ? 1 : -1;
    const int32_t first = a->first < b->first ? a->first : b->first;
    for (int32_t at = a_end - 1; at >= first; at--) {
        const uint64_t x = af_exact_limb(a, at), y = af_exact_limb(b, at);
        if (x != y) return x > y ? 1 : -1;
    }
    return 0;
}

/* into = a - b; `into` is neither. */
static void af_exact_minus(af_exact *into, const af_exact *a, const af_exact *b) {
    const bool swapped = af_exact_compare(a, b) < 0, same_sign = a->negative == b->negative;
    if (b->count == 0 || a->count == 0) {
        const af_exact *only = b->count == 0 ? a : b;
        memcpy(into, only, offsetof(af_exact, limbs) + (size_t)only->count * sizeof(uint64_t));
        into->negative = only->negative != (only == b);
        return;
    }
    const af_exact *large = swapped ? b : a, *small = swapped ? a : b;
    const int32_t a_end = a->first + a->count, b_end = b->first + b->count;
    uint64_t carry = 0;
    into->first = a->first < b->first ? a->first : b->first;
    into->count = (a_end > b_end ? a_end : b_end) - into->first + !same_sign;
    into->negative = swapped ? !b->negative : a->negative;
    for (int32_t i = 0; i < into->count; i++) {
        const uint64_t x = af_exact_limb(large, into->first + i), y = af_exact_limb(small, into->first + i);
        into->limbs[i] = same_sign ? af_limb_subtract(x, y, &carry) : af_limb_add(x, y, &carry);
    }
    af_exact_trim(into);
}

/* -- rounding --------------------------------------------------------------------------------------------------------- */

/* integer * 2^exponent, and `more`: something below; the integer has 55 bits at least. */
static double af_rounded_bits(uint64_t integer, bool more, int64_t exponent, bool negative) {
    const int bits = 64 - __builtin_clzll(integer);
    const int64_t leading = bits - 1 + exponent; /* of the value */
    const int64_t kept = leading >= -1022 ? 53 : 1075 + leading;
    if (kept < 0 || leading > 1024) return negative ? -(leading > 0 ? INFINITY : 0.0) : leading > 0 ? INFINITY : 0.0;
    const int dropped = bits - (int)kept; /* 2 .. 64 */
    const uint64_t half = 1ull << (dropped - 1), rest = dropped < 64 ? integer & ((half << 1) - 1) : integer;
    uint64_t rounded = dropped < 64 ? integer >> dropped : 0;
    rounded += rest > half || (rest == half && (more || (rounded & 1)));
    const double value = ldexp((double)rounded, (int)exponent + dropped);
    return negative ? -value : value;
}

/* The leading 64 bits, and in `below` the 64 that follow; gives how many bits the number has above 2^0, the leading one counted. */
static int64_t af_exact_leading(const af_exact *number, uint64_t *leading, uint64_t *below) {
    const int32_t top = number->count - 1;
    const int shift = __builtin_clzll(number->limbs[top]);
    const uint64_t high = number->limbs[top], middle = top > 0 ? number->limbs[top - 1] : 0, low = top > 1 ? number->limbs[top - 2] : 0;
    *leading = shift ? high << shift | middle >> (64 - shift) : high;
    *below = shift ? middle << shift | low >> (64 - shift) : middle;
    return 64 * ((int64_t)number->first + number->count) - shift;
}

static double af_exact_rounded(const af_exact *number) {
    uint64_t leading, below;
    if (number->count == 0) return 0.0;
    const int64_t bits = af_exact_leading(number, &leading, &below);
    return af_rounded_bits(leading, below != 0 || number->count > 2, bits - 64, number->negative);
}

/* The sum of two float64 that this is, the first one the number rounded; false: it is none. */
static bool af_exact_pair(const af_exact *number, double *high, double *low) {
    af_exact part, rest, none;
    *high = af_exact_rounded(number);
    if (!isfinite(*high)) return false;
    af_exact_of_values(&part, high, 1);
    af_exact_minus(&rest, number, &part);
    *low = af_exact_rounded(&rest);
    af_exact_of_values(&part, low, 1);
    af_exact_minus(&none, &rest, &part);
    return none.count == 0;
}

AF_INLINE uint64_t af_square_root(unsigned __int128 square) { /* below 2^112 */
    uint64_t root = (uint64_t)sqrt((double)square);
    root = (root + (uint64_t)(square / root)) / 2;
    while ((unsigned __int128)root * root > square) root--;
    while ((unsigned __int128)(root + 1) * (root + 1) <= square) root++;
    return root;
}

/* number / divisor (`power` 1), or the square root of it (2): both magnitudes, the divisor is not 0; of the sign of `number`. */
static double af_exact_ratio(const af_exact *number, const af_exact *divisor, int power) {
    uint64_t leading, below, divisor_leading, divisor_below;
    if (number->count == 0) return 0.0;
    const int64_t bits = af_exact_leading(number, &leading, &below) - af_exact_leading(divisor, &divisor_leading, &divisor_below);
    /* The ratio is in 2^(bits - 1) .. 2^(bits + 1); times 2^shift it, or its root, is in 2^54 .. 2^56. */
    const int64_t shift = power == 1 ? 55 - bits : (110 - bits) & ~(int64_t)1;
    /* The ratio * 2^(64 - bits) is above quotient - 4, and below quotient + 2: both words are cut off below. */
    const unsigned __int128 quotient = ((unsigned __int128)leading << 64 | below) / divisor_leading;
    const int up = (int)(bits - 64 + shift); /* -9, or 45 or 46 */
    const uint64_t least = power == 1 ? (uint64_t)((quotient - 4) >> -up) : af_square_root((quotient - 4) << up);
    const uint64_t most = power == 1 ? (uint64_t)((quotient + 2) >> -up) : af_square_root((quotient + 2) << up);
    uint64_t integer = least;
    bool more = true; /* the ratio is above quotient - 4 */
    if (AF_UNLIKELY(least != most)) {
        af_exact bound, shifted, wanted;
        af_exact_of_words(&wanted, power == 1 ? most : (unsigned __int128)most * most, false);
        af_exact_multiply(&bound, &wanted, divisor);
        af_exact_of_words(&wanted, (unsigned __int128)1 << (shift & 63), false);
        af_exact_multiply(&shifted, number, &wanted);
        shifted.first += (int32_t)(shift >> 6);
        const int order = af_exact_compare(&shifted, &bound);
        if (order >= 0) integer = most;
        more = order != 0;
    }
    return af_rounded_bits(integer, more, power == 1 ? -shift : -shift / 2, number->negative);
}

#endif
