/* Validates UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).  A level header: a body that base/levels.h
 * compiles includes it; af_utf8_valid alone does not depend on the level.
 *
 *   af_utf8_valid(bytes, length)          scalar, eight ASCII bytes a step
 *   AF_AT(utf8_valid)(bytes, length)      the same answer, with the level's instructions
 *
 * The vector form classifies every pair of neighbours by three table look-ups of four bits each (Keiser, Lemire: Validating UTF-8 in less
 * than one instruction per byte, 2020).  A bit that all three have set is an error; the two-continuations bit alone is none where the
 * byte two or three before begins a form that long. */
#ifndef ASYNCFLOW_UTF8_H
#define ASYNCFLOW_UTF8_H

#include "base/cpu.h"

AF_NOINLINE bool af_utf8_valid(const uint8_t *bytes, size_t length) {
    size_t i = 0;
    while (i < length) {
        uint8_t lead = bytes[i];
        if (lead < 0x80) {
            i++;
            while (length - i >= 8 && (af_load64(bytes + i) & 0x8080808080808080u) == 0) i += 8;
            continue;
        }
        unsigned more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        /* the second byte alone decides about overlong forms, surrogates and values above the last code point */
        uint8_t lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        uint8_t highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (lead < 0xC2 || lead > 0xF4 || length - i <= more) return false;
        if (bytes[i + 1] < lowest || bytes[i + 1] > highest) return false;
        for (unsigned k = 2; k <= more; k++)
            if ((bytes[i + k] & 0xC0) != 0x80) return false;
        i += more + 1;
    }
    return true;
}

#if AF_X86
enum {
    AF_UTF8_TOO_SHORT = 1,  /* a lead and no continuation */
    AF_UTF8_TOO_LONG = 2,   /* ASCII and a continuation */
    AF_UTF8_OVERLONG_3 = 4,
    AF_UTF8_TOO_LARGE = 8,
    AF_UTF8_SURROGATE = 16,
    AF_UTF8_OVERLONG_2 = 32,
    AF_UTF8_OVERLONG_4 = 64, /* also what is too large by its lead alone: F5 and above */
    AF_UTF8_TWO_MORE = 128,  /* two continuations */
    AF_UTF8_ANY = AF_UTF8_TOO_SHORT | AF_UTF8_TOO_LONG | AF_UTF8_TWO_MORE,
    AF_UTF8_LARGEST = AF_UTF8_ANY | AF_UTF8_TOO_LARGE | AF_UTF8_OVERLONG_4,
    AF_UTF8_MORE = AF_UTF8_TOO_LONG | AF_UTF8_OVERLONG_2 | AF_UTF8_TWO_MORE,
};

/* The errors that remain possible after the high half of the first byte, its low half, and the high half of the second byte. */
static const uint8_t af_utf8_first_high[16] __attribute__((aligned(16))) = {
    AF_UTF8_TOO_LONG, AF_UTF8_TOO_LONG, AF_UTF8_TOO_LONG, AF_UTF8_TOO_LONG, AF_UTF8_TOO_LONG, AF_UTF8_TOO_LONG, AF_UTF8_TOO_LONG,
    AF_UTF8_TOO_LONG, AF_UTF8_TWO_MORE, AF_UTF8_TWO_MORE, AF_UTF8_TWO_MORE, AF_UTF8_TWO_MORE, AF_UTF8_TOO_SHORT | AF_UTF8_OVERLONG_2,
    AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT | AF_UTF8_OVERLONG_3 | AF_UTF8_SURROGATE,
    AF_UTF8_TOO_SHORT | AF_UTF8_TOO_LARGE | AF_UTF8_OVERLONG_4};
static const uint8_t af_utf8_first_low[16] __attribute__((aligned(16))) = {
    AF_UTF8_ANY | AF_UTF8_OVERLONG_3 | AF_UTF8_OVERLONG_2 | AF_UTF8_OVERLONG_4, AF_UTF8_ANY | AF_UTF8_OVERLONG_2, AF_UTF8_ANY,
    AF_UTF8_ANY, AF_UTF8_ANY | AF_UTF8_TOO_LARGE, AF_UTF8_LARGEST, AF_UTF8_LARGEST, AF_UTF8_LARGEST, AF_UTF8_LARGEST, AF_UTF8_LARGEST,
    AF_UTF8_LARGEST, AF_UTF8_LARGEST, AF_UTF8_LARGEST, AF_UTF8_LARGEST | AF_UTF8_SURROGATE, AF_UTF8_LARGEST, AF_UTF8_LARGEST};
static const uint8_t af_utf8_second_high[16] __attribute__((aligned(16))) = {
    AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT,
    AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_MORE | AF_UTF8_OVERLONG_3 | AF_UTF8_OVERLONG_4,
    AF_UTF8_MORE | AF_UTF8_OVERLONG_3 | AF_UTF8_TOO_LARGE, AF_UTF8_MORE | AF_UTF8_SURROGATE | AF_UTF8_TOO_LARGE,
    AF_UTF8_MORE | AF_UTF8_SURROGATE | AF_UTF8_TOO_LARGE, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT, AF_UTF8_TOO_SHORT};
#endif

#endif

#ifdef AF_LEVEL
#if AF_LEVEL >= 2
#if AF_LEVEL >= 3
#define AF_BYTES __m256i
#define AF_WIDTH 32
#define AF_LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#define AF_TABLE(table) _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(table)))
#define AF_OF(name) _mm256_##name
#define AF_BITS(name) _mm256_##name##_si256
#else
#define AF_BYTES __m128i
#define AF_WIDTH 16
#define AF_LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define AF_TABLE(table) _mm_load_si128((const __m128i *)(table))
#define AF_OF(name) _mm_##name
#define AF_BITS(name) _mm_##name##_si128
#endif

/* Not zero where a byte from ``p`` on is wrong, or a character that ends there.  The three bytes before ``p`` are read too. */
AF_LEVEL_INLINE AF_BYTES AF_AT(utf8_errors)(const uint8_t *p) {
    const AF_BYTES half = AF_OF(set1_epi8)(15);
    AF_BYTES here = AF_LOAD(p), before = AF_LOAD(p - 1);
    AF_BYTES first = AF_OF(shuffle_epi8)(AF_TABLE(af_utf8_first_high), AF_BITS(and)(AF_OF(srli_epi16)(before, 4), half));
    AF_BYTES low = AF_OF(shuffle_epi8)(AF_TABLE(af_utf8_first_low), AF_BITS(and)(before, half));
    AF_BYTES second = AF_OF(shuffle_epi8)(AF_TABLE(af_utf8_second_high), AF_BITS(and)(AF_OF(srli_epi16)(here, 4), half));
    AF_BYTES long_form = AF_BITS(or)(AF_OF(subs_epu8)(AF_LOAD(p - 2), AF_OF(set1_epi8)(0xE0 - 0x80)),
                                     AF_OF(subs_epu8)(AF_LOAD(p - 3), AF_OF(set1_epi8)(0xF0 - 0x80)));
    long_form = AF_BITS(and)(long_form, AF_OF(set1_epi8)((char)0x80));
    return AF_BITS(xor)(long_form, AF_BITS(and)(AF_BITS(and)(first, low), second));
}

AF_LEVEL_FUNCTION bool AF_AT(utf8_valid)(const uint8_t *bytes, size_t length) {
    uint8_t edge[3 + AF_WIDTH] = {0};
    size_t i = AF_WIDTH;
    if (length < AF_WIDTH) return af_utf8_valid(bytes, length);
    memcpy(edge + 3, bytes, AF_WIDTH);
    AF_BYTES errors = AF_AT(utf8_errors)(edge + 3);
    while (length - i >= 2 * AF_WIDTH) {
        AF_BYTES all = AF_BITS(or)(AF_BITS(or)(AF_LOAD(bytes + i), AF_LOAD(bytes + i + AF_WIDTH)), AF_LOAD(bytes + i - 3));
        if (AF_OF(movemask_epi8)(all) != 0) {
            errors = AF_BITS(or)(errors, AF_AT(utf8_errors)(bytes + i));
            errors = AF_BITS(or)(errors, AF_AT(utf8_errors)(bytes + i + AF_WIDTH));
        }
        i += 2 * AF_WIDTH;
    }
    if (length - i >= AF_WIDTH) {
        errors = AF_BITS(or)(errors, AF_AT(utf8_errors)(bytes + i));
        i += AF_WIDTH;
    }
    memset(edge, 0, sizeof edge); /* zeros after the last byte: a character cut short there is an error */
    memcpy(edge, bytes + i - 3, 3 + length - i);
    errors = AF_BITS(or)(errors, AF_AT(utf8_errors)(edge + 3));
    return AF_BITS(testz)(errors, errors) != 0;
}

#undef AF_BYTES
#undef AF_WIDTH
#undef AF_LOAD
#undef AF_TABLE
#undef AF_OF
#undef AF_BITS
#else
AF_LEVEL_INLINE bool AF_AT(utf8_valid)(const uint8_t *bytes, size_t length) { return af_utf8_valid(bytes, length); }
#endif
#endif
