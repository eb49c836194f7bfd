/* Fixed-point numbers that hold any sum of float64, or of products of two, without rounding.
 *
 * A number is an integer in two's complement, in units of 2^-2176: below the least product of two float64 (2^-2148), and a whole number of
 * limbs of 64 bits.  Only a window of its limbs is kept, from limb `first` on; limbs below are 0.  The window grows as values come.
 * Invariant: the last limb has no more than the sign and a carry; af_fixed_add sees to the room before it adds. */
#ifndef ASYNCFLOW_SUMS_FIXED_H
#define ASYNCFLOW_SUMS_FIXED_H

#include <math.h>

#include "base/words.h"

enum {
    AF_FIXED_POINT = 34,  /* the limb of 2^0 */
    AF_FIXED_SAVED = 68,  /* limbs of what may be loaded: 2^56 of the largest products fit */
    AF_FIXED_LIMBS = 72   /* no sum comes to more */
};

typedef struct {
    int32_t first, count;
    uint64_t limbs[];
} af_fixed;

/* Room for any number on the stack. */
typedef union {
    af_fixed fixed;
    uint64_t words[1 + AF_FIXED_LIMBS];
} af_fixed_room;
_Static_assert(sizeof(af_fixed) == sizeof(uint64_t), "limbs begin behind one word");

/* One limb of a sum, or of a difference; `carry` is 0 or 1. */
AF_INLINE uint64_t af_limb_add(uint64_t a, uint64_t b, uint64_t *carry) {
    const unsigned __int128 sum = (unsigned __int128)a + b + *carry;
    *carry = (uint64_t)(sum >> 64);
    return (uint64_t)sum;
}

AF_INLINE uint64_t af_limb_subtract(uint64_t a, uint64_t b, uint64_t *carry) {
    const unsigned __int128 difference = (unsigned __int128)a - b - *carry;
    *carry = (uint64_t)(difference >> 64) & 1;
    return (uint64_t)difference;
}

AF_INLINE size_t af_fixed_bytes(const af_fixed *fixed) { return sizeof *fixed + (size_t)fixed->count * sizeof(uint64_t); }

AF_INLINE uint64_t af_fixed_sign(const af_fixed *fixed) { return fixed->limbs[fixed->count - 1] >> 63 ? UINT64_MAX : 0; }

static void af_fixed_drop(af_fixed *fixed, uint64_t *held) {
    if (fixed != NULL) *held -= af_fixed_bytes(fixed);
    free(fixed);
}

static af_fixed *af_fixed_copy(const af_fixed *from, uint64_t *held) {
    af_fixed *made = malloc(af_fixed_bytes(from));
    if (made == NULL) return NULL;
    memcpy(made, from, af_fixed_bytes(from));
    *held += af_fixed_bytes(made);
    return made;
}

/* Room to add what is in limbs `low` .. `high` - 1; false: no memory, and the number is as before. */
static bool af_fixed_cover(af_fixed **place, int32_t low, int32_t high, uint64_t *held) {
    af_fixed *old = *place;
    if (old != NULL) {
        const int32_t end = old->first + old->count;
        if (low > old->first) low = old->first;
        if (high < end - 1) high = end - 1;
        if (old->limbs[old->count - 1] + 1 > 1 && high < end) high = end; /* a carry: the sign needs a limb of its own */
        if (low == old->first && high < end) return true;
    }
    const int32_t count = high + 1 - low;
    af_fixed *made = malloc(sizeof *made + (size_t)count * sizeof(uint64_t));
    if (made == NULL) return false;
    made->first = low;
    made->count = count;
    memset(made->limbs, 0, (size_t)count * sizeof(uint64_t));
    if (old != NULL) {
        uint64_t *to = made->limbs + (old->first - low);
        memcpy(to, old->limbs, (size_t)old->count * sizeof(uint64_t));
        if (af_fixed_sign(old)) memset(to + old->count, 0xFF, (size_t)(made->limbs + count - (to + old->count)) * sizeof(uint64_t));
    }
    *held += af_fixed_bytes(made);
    af_fixed_drop(old, held);
    *place = made;
    return true;
}

/* Adds `magnitude` * 2^`at` units, or takes it away; false: no memory. */
static bool af_fixed_add_at(af_fixed **place, unsigned __int128 magnitude, int32_t at, bool negative, uint64_t *held) {
    if (magnitude == 0) return true;
    const int zeros = (uint64_t)magnitude ? __builtin_ctzll((uint64_t)magnitude) : 64 + __builtin_ctzll((uint64_t)(magnitude >> 64));
    magnitude >>= zeros;
    at += zeros;
    const int32_t low = at / 64;
    const int shift = at % 64;
    const unsigned __int128 shifted = magnitude << shift;
    const uint64_t parts[3] = {(uint64_t)shifted, (uint64_t)(shifted >> 64), shift ? (uint64_t)(magnitude >> (128 - shift)) : 0};
    if (!af_fixed_cover(place, low, low + (parts[2] ? 3 : parts[1] ? 2 : 1), held)) return false;
    af_fixed *fixed = *place;
    uint64_t *limb = fixed->limbs + (low - fixed->first), *end = fixed->limbs + fixed->count;
    uint64_t carry = 0;
    for (int i = 0; limb < end && (i < 3 || carry); i++, limb++) {
        const uint64_t part = i < 3 ? parts[i] : 0;
        *limb = negative ? af_limb_subtract(*limb, part, &carry) : af_limb_add(*limb, part, &carry);
    }
    return true;
}

/* A finite value as mantissa * 2^(exponent). */
AF_INLINE uint64_t af_mantissa(double value, int32_t *exponent) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const int32_t biased = (int32_t)(bits >> 52 & 0x7FF);
    *exponent = (biased ? biased : 1) - 1075;
    return (bits & 0xFFFFFFFFFFFFFull) | (biased ? 1ull << 52 : 0);
}

/* Adds a finite value; false: no memory. */
static bool af_fixed_add(af_fixed **place, double value, uint64_t *held) {
    int32_t exponent;
    const uint64_t mantissa = af_mantissa(value, &exponent);
    af_fixed *fixed = *place;
    const int32_t at = exponent + 64 * AF_FIXED_POINT - 64 * fixed->first, low = at >> 6;
    if (AF_LIKELY(low >= 0 && low + 2 < fixed->count && fixed->limbs[fixed->count - 1] + 1 <= 1)) { /* there is room */
        const uint64_t sign = value < 0.0 ? UINT64_MAX : 0;
        const unsigned __int128 part = (((unsigned __int128)mantissa << (at & 63)) ^ ((unsigned __int128)sign << 64 | sign)) + (sign & 1);
        uint64_t carry = 0, *limb = fixed->limbs + low;
        limb[0] = af_limb_add(limb[0], (uint64_t)part, &carry);
        limb[1] = af_limb_add(limb[1], (uint64_t)(part >> 64), &carry);
        const uint64_t above = mantissa ? sign : 0;
        for (limb += 2; carry != (above & 1) && limb < fixed->limbs + fixed->count; limb++) *limb = af_limb_add(*limb, above, &carry);
        return true;
    }
    return af_fixed_add_at(place, mantissa, exponent + 64 * AF_FIXED_POINT, value < 0.0, held);
}

/* Adds the product of two finite values. */
static bool af_fixed_add_product(af_fixed **place, double x, double y, uint64_t *held) {
    int32_t x_exponent, y_exponent;
    const unsigned __int128 product = (unsigned __int128)af_mantissa(x, &x_exponent) * af_mantissa(y, &y_exponent);
    return af_fixed_add_at(place, product, x_exponent + y_exponent + 64 * AF_FIXED_POINT, (x < 0.0) != (y < 0.0), held);
}

static bool af_fixed_merge(af_fixed **place, const af_fixed *from, uint64_t *held) {
    if (!af_fixed_cover(place, from->first, from->first + from->count, held)) return false;
    af_fixed *into = *place;
    uint64_t carry = 0;
    for (int32_t i = from->first - into->first, j = 0; i < into->count; i++, j++) {
        const uint64_t part = j < from->count ? from->limbs[j] : af_fixed_sign(from);
        into->limbs[i] = af_limb_add(into->limbs[i], part, &carry);
    }
    return true;
}

/* 0 in room for these finite values and their sum: adding them takes no memory. */
static af_fixed *af_fixed_for(af_fixed_room *room, const double *values, int count) {
    int32_t low = AF_FIXED_LIMBS, high = 0;
    for (int i = 0; i < count; i++) {
        int32_t exponent;
        if (af_mantissa(values[i], &exponent) == 0) continue;
        const int32_t limb = (exponent + 64 * AF_FIXED_POINT) / 64;
        if (limb < low) low = limb;
        if (limb > high) high = limb;
    }
    if (low > high) low = high;
    room->fixed.first = low;
    room->fixed.count = high - low + 4;
    memset(room->fixed.limbs, 0, (size_t)room->fixed.count * sizeof(uint64_t));
    return &room->fixed;
}

#endif
