/* Values as words of 64 bits: words that sort like their values, and two kinds of hashes; the order of texts; a point between two values.
 *
 * Invariants.  af_finish and af_finish_text never change, because results depend on them (``hash(x)``, sketches).  Their values can
 * be made to collide on purpose, so no table is placed by them: tables use af_keyed_word and af_keyed_text, which take a secret
 * seed, and no result depends on these. */
#ifndef ASYNCFLOW_WORDS_H
#define ASYNCFLOW_WORDS_H

#include <math.h>

#include "base/cpu.h"

/* float64 bits to an int64 that sorts -inf .. -0.0, 0.0 .. inf, NaN.  The function is its own inverse, except that all NaNs become
 * one. */
AF_INLINE int64_t af_sorting_float(double value) {
    int64_t bits;
    memcpy(&bits, &value, 8);
    bits ^= (bits >> 63) & INT64_MAX;
    return value != value ? 0x7FF8000000000000ll : bits;
}

AF_INLINE double af_float_of(int64_t word) {
    double value;
    word ^= (word >> 63) & INT64_MAX;
    memcpy(&value, &word, 8);
    return value;
}

/* Linear interpolation between two values, computed as numpy does. */
AF_INLINE double af_between(double low, double high, double part) {
    const double between = high - low;
    if (part == 0.0) return low;
    if (!isfinite(between)) return low * (1.0 - part) + high * part;
    return part < 0.5 ? low + between * part : high - between * (1.0 - part);
}

/* The first bytes of a text, up to eight, as a word that sorts as they do: the first the most significant, 0 beyond the end. */
AF_INLINE uint64_t af_leading_word(const uint8_t *text, int64_t length) {
    uint64_t word = 0;
    if (AF_LIKELY(length >= 8)) word = af_load64(text);
    else if (length > 0) memcpy(&word, text, (size_t)length);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The finisher of splitmix64 (Steele, Lea, Flood 2014): one word to one word. */
AF_INLINE uint64_t af_finish(uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* The hash of a text, equal to hash64 of strings/compiled.pyx. */
static uint64_t af_finish_text(const uint8_t *bytes, uint32_t length) {
    uint64_t hash = length * 0xD6E8FEB86659FD93ull;
    for (uint32_t at = 0; at < length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, length - at < 8 ? length - at : 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        hash = af_finish(hash ^ word);
    }
    return af_finish(hash);
}

/* The hash of a word under a secret seed. */
AF_INLINE uint64_t af_keyed_word(uint64_t seed, uint64_t word) { return af_fold(word ^ seed, 0x9E3779B97F4A7C15ull); }

/* The hash of a text under a secret seed: folded multiplications, as in wyhash (Wang Yi).  The last word overlaps the word before. */
AF_INLINE uint64_t af_keyed_text(uint64_t seed, const uint8_t *bytes, uint32_t length) {
    const uint64_t key = 0x9E3779B97F4A7C15ull ^ seed << 1;
    uint64_t hash = seed ^ length, word = 0;
    uint32_t left = length;
    for (; left >= 8; left -= 8, bytes += 8) hash = af_fold(hash ^ af_load64(bytes), key);
    if (left && length >= 8) {
        word = af_load64(bytes + left - 8);
    } else if (left >= 4) {
        uint32_t low, high;
        memcpy(&low, bytes, 4);
        memcpy(&high, bytes + left - 4, 4);
        word = low | (uint64_t)high << 32;
    } else if (left) {
        word = bytes[0] | (uint64_t)bytes[left >> 1] << 8 | (uint64_t)bytes[left - 1] << 16;
    }
    return af_fold(hash ^ word, 0xE7037ED1A0B428DBull ^ seed);
}

static int af_text_compare(const uint8_t *left, uint32_t n, const uint8_t *right, uint32_t m) {
    uint32_t common = n < m ? n : m;
    int order = common ? memcmp(left, right, common) : 0;
    return order ? order : (n > m) - (n < m);
}

#endif
