/* The first step of CSV, once per instruction-set level: 64 bytes to bit masks, quotes resolved, bits to positions.  csv/level.h
 * includes it. */

#include "base/masks.h"

/* Bit masks of 64 bytes; bit i stands for byte i. */
typedef struct {
    uint64_t separators; /* delimiters and newlines */
    uint64_t newlines;
    uint64_t quotes;
} AF_AT(csv_masks);

/* Collected over the tile: whether any byte is above ASCII, whether any byte is CR. */
#if AF_LEVEL == 4
typedef struct {
    __m512i bytes;
    __mmask64 returns;
} AF_AT(csv_seen);
#elif AF_LEVEL == 3
typedef struct {
    __m256i bytes, returns;
} AF_AT(csv_seen);
#elif AF_LEVEL == 2
typedef struct {
    __m128i bytes, returns;
} AF_AT(csv_seen);
#else
typedef struct {
    uint64_t bytes, returns;
} AF_AT(csv_seen);
#endif

#if AF_LEVEL == 4

AF_LEVEL_INLINE AF_AT(csv_masks) AF_AT(csv_look)(const uint8_t *p, uint8_t delimiter, uint8_t quote, AF_AT(csv_seen) * seen) {
    __m512i x = _mm512_loadu_si512(p);
    seen->bytes = _mm512_or_si512(seen->bytes, x);
    seen->returns |= _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('\r'));
    uint64_t newlines = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('\n'));
    return (AF_AT(csv_masks)){newlines | _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8((char)delimiter)), newlines,
                              _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8((char)quote))};
}

AF_LEVEL_INLINE void AF_AT(csv_tell)(const AF_AT(csv_seen) * seen, bool *non_ascii, bool *returns) {
    *non_ascii = _mm512_movepi8_mask(seen->bytes) != 0;
    *returns = seen->returns != 0;
}

#elif AF_LEVEL == 3

AF_LEVEL_INLINE AF_AT(csv_masks) AF_AT(csv_look)(const uint8_t *p, uint8_t delimiter, uint8_t quote, AF_AT(csv_seen) * seen) {
    const __m256i newline = _mm256_set1_epi8('\n'), comma = _mm256_set1_epi8((char)delimiter), mark = _mm256_set1_epi8((char)quote);
    const __m256i ret = _mm256_set1_epi8('\r');
    __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)(p + 32));
    seen->bytes = _mm256_or_si256(seen->bytes, _mm256_or_si256(a, b));
    seen->returns = _mm256_or_si256(seen->returns, _mm256_or_si256(_mm256_cmpeq_epi8(a, ret), _mm256_cmpeq_epi8(b, ret)));
    uint64_t newlines = AF_AT(af_bits)(_mm256_cmpeq_epi8(a, newline), _mm256_cmpeq_epi8(b, newline));
    return (AF_AT(csv_masks)){newlines | AF_AT(af_bits)(_mm256_cmpeq_epi8(a, comma), _mm256_cmpeq_epi8(b, comma)), newlines,
                              AF_AT(af_bits)(_mm256_cmpeq_epi8(a, mark), _mm256_cmpeq_epi8(b, mark))};
}

AF_LEVEL_INLINE void AF_AT(csv_tell)(const AF_AT(csv_seen) * seen, bool *non_ascii, bool *returns) {
    *non_ascii = _mm256_movemask_epi8(seen->bytes) != 0;
    *returns = !_mm256_testz_si256(seen->returns, seen->returns);
}

#elif AF_LEVEL == 2

AF_LEVEL_INLINE AF_AT(csv_masks) AF_AT(csv_look)(const uint8_t *p, uint8_t delimiter, uint8_t quote, AF_AT(csv_seen) * seen) {
    const __m128i newline = _mm_set1_epi8('\n'), comma = _mm_set1_epi8((char)delimiter), mark = _mm_set1_epi8((char)quote);
    const __m128i ret = _mm_set1_epi8('\r');
    AF_AT(csv_masks) masks = {0, 0, 0};
    for (int i = 0; i < 4; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(p + 16 * i));
        seen->bytes = _mm_or_si128(seen->bytes, x);
        seen->returns = _mm_or_si128(seen->returns, _mm_cmpeq_epi8(x, ret));
        uint64_t newlines = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, newline));
        masks.newlines |= newlines << (16 * i);
        masks.separators |= (newlines | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, comma))) << (16 * i);
        masks.quotes |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, mark)) << (16 * i);
    }
    return masks;
}

AF_LEVEL_INLINE void AF_AT(csv_tell)(const AF_AT(csv_seen) * seen, bool *non_ascii, bool *returns) {
    *non_ascii = _mm_movemask_epi8(seen->bytes) != 0;
    *returns = !_mm_testz_si128(seen->returns, seen->returns);
}

#else

AF_LEVEL_INLINE AF_AT(csv_masks) AF_AT(csv_look)(const uint8_t *p, uint8_t delimiter, uint8_t quote, AF_AT(csv_seen) * seen) {
    AF_AT(csv_masks) masks = {0, 0, 0};
    for (int i = 0; i < 8; i++) {
        uint64_t word = AF_AT(af_word)(p + 8 * i), newlines = AF_AT(af_word_equal)(word, '\n');
        seen->bytes |= word;
        seen->returns |= AF_AT(af_word_equal)(word, '\r');
        masks.newlines |= newlines << (8 * i);
        masks.separators |= (newlines | AF_AT(af_word_equal)(word, delimiter)) << (8 * i);
        masks.quotes |= AF_AT(af_word_equal)(word, quote) << (8 * i);
    }
    return masks;
}

AF_LEVEL_INLINE void AF_AT(csv_tell)(const AF_AT(csv_seen) * seen, bool *non_ascii, bool *returns) {
    *non_ascii = (seen->bytes & 0x8080808080808080u) != 0;
    *returns = seen->returns != 0;
}

#endif

/* Prefix parity: bit i of the result is the parity of bits 0..i. */
AF_LEVEL_INLINE uint64_t AF_AT(csv_parity)(uint64_t bits) {
#if AF_LEVEL >= 3
    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_set_epi64x(0, (int64_t)bits), _mm_set1_epi8(-1), 0));
#else
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    return bits ^ bits << 32;
#endif
}

/* Writes base + i for each set bit i, in order, and returns the end of what was written.  Up to 64 words after the end may be
 * overwritten. */
AF_LEVEL_INLINE uint32_t *AF_AT(csv_positions)(uint32_t *out, uint32_t base, uint64_t bits, int usual) {
    uint32_t count = (uint32_t)__builtin_popcountll(bits);
#if AF_LEVEL == 4
    (void)usual;
    const __m512i numbers = _mm512_set_epi8(63, 62, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 39,
                                            38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14,
                                            13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i start = _mm512_set1_epi32((int)base);
    __m512i packed = _mm512_maskz_compress_epi8(bits, numbers);
    _mm512_storeu_si512(out, _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(packed))));
    if (AF_UNLIKELY(count > 16)) {
        _mm512_storeu_si512(out + 16, _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 1))));
        _mm512_storeu_si512(out + 32, _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 2))));
        _mm512_storeu_si512(out + 48, _mm512_add_epi32(start, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(packed, 3))));
    }
#else
    const uint64_t stop = (uint64_t)1 << 63; /* so that an empty mask still has a lowest bit */
#pragma GCC unroll 8
    for (int i = 0; i < usual; i++) { /* the usual number of bits, without a branch */
        out[i] = base + (uint32_t)__builtin_ctzll(bits | stop);
        bits &= bits - 1;
    }
    if (AF_UNLIKELY(count > (uint32_t)usual)) {
        for (uint32_t i = (uint32_t)usual; i < count; i++) {
            out[i] = base + (uint32_t)__builtin_ctzll(bits | stop);
            bits &= bits - 1;
        }
    }
#endif
    return out + count;
}

/* The separators of at most 64 bytes once quotes are resolved. */
typedef struct {
    uint64_t separators, newlines; /* outside quotes, outside broken records (their newline counts) */
    uint64_t broken;               /* the byte after a closing quote that made a record broken */
    bool escapes;                  /* perhaps two quotes that mean one */
} AF_AT(csv_resolved);

/* The state machine over the set bits, one by one: for blocks with a quote in the middle of a field or text after a closing quote. */
AF_LEVEL_FUNCTION AF_AT(csv_resolved) AF_AT(csv_resolve_slowly)(AF_AT(csv_masks) masks, uint64_t returns, uint32_t count, bool field_start,
                                                                 enum csv_state *state) {
    AF_AT(csv_resolved) out = {0, 0, 0, true};
    uint32_t at = 0;
    while (at < count) {
        const uint64_t here = (uint64_t)1 << at, ahead = ~(uint64_t)0 << at;
        uint64_t next;
        switch (*state) {
        case CSV_OUTSIDE:
            next = (masks.separators | masks.quotes) & ahead;
            if (next == 0) return out;
            at = (uint32_t)__builtin_ctzll(next) + 1;
            next &= 0 - next;
            if (masks.separators & next) {
                out.separators |= next;
                out.newlines |= masks.newlines & next;
            } else if (next == 1 ? field_start : (masks.separators & next >> 1) != 0) {
                *state = CSV_QUOTED;
            }
            break;
        case CSV_QUOTED:
            next = masks.quotes & ahead;
            if (next == 0) return out;
            at = (uint32_t)__builtin_ctzll(next) + 1;
            *state = CSV_CLOSED;
            break;
        case CSV_CLOSED:
            if (masks.quotes & here) {
                *state = CSV_QUOTED;
            } else if (masks.separators & here) {
                out.separators |= here;
                out.newlines |= masks.newlines & here;
                *state = CSV_OUTSIDE;
            } else if (returns & here) {
                *state = CSV_CLOSED_CR;
            } else {
                out.broken |= here;
                *state = CSV_BROKEN;
            }
            at++;
            break;
        case CSV_CLOSED_CR:
            if (!(masks.newlines & here)) out.broken |= here;
            *state = CSV_BROKEN; /* a newline ends this state too */
            break;
        case CSV_BROKEN:
            next = masks.newlines & ahead;
            if (next == 0) return out;
            at = (uint32_t)__builtin_ctzll(next) + 1;
            out.separators |= next & (0 - next);
            out.newlines |= next & (0 - next);
            *state = CSV_OUTSIDE;
            break;
        }
    }
    return out;
}

/* Resolves a block that has quotes or begins in another state than OUTSIDE.  A byte is inside quotes where the number of quotes
 * before it is odd.  This holds while each opening quote is at a field's start (or right after a closing quote: the two are an
 * escaped quote), and each closing quote is before a separator or a line end.  Any other block goes to the state machine.
 * `field_start`: in state OUTSIDE, a quote in byte 0 would open a quoted field. */
AF_LEVEL_FUNCTION AF_AT(csv_resolved) AF_AT(csv_resolve)(AF_AT(csv_masks) masks, const uint8_t *p, uint32_t count, bool field_start,
                                                          enum csv_state *state) {
    uint64_t returns = AF_AT(af_equal64)(p, '\r');
    if (*state <= CSV_CLOSED) {
        const uint64_t all = ~(uint64_t)0 >> (64 - count);
        uint64_t inside = AF_AT(csv_parity)(masks.quotes) ^ (*state == CSV_QUOTED ? ~(uint64_t)0 : 0);
        uint64_t opening = masks.quotes & inside, closing = masks.quotes & ~inside;
        uint64_t after_separator = masks.separators << 1 | (*state == CSV_OUTSIDE && field_start);
        uint64_t after_closing = (closing << 1 | (*state == CSV_CLOSED)) & all;
        uint64_t after_return = (after_closing & returns) << 1 & all;
        uint64_t wrong = (opening & ~(after_separator | after_closing)) |
                         (after_closing & ~(masks.separators | masks.quotes | returns)) | (after_return & ~masks.newlines);
        if (AF_LIKELY(wrong == 0)) {
            const uint64_t last = (uint64_t)1 << (count - 1);
            *state = inside & last                       ? CSV_QUOTED
                     : closing & last                    ? CSV_CLOSED
                     : after_closing & returns & last    ? CSV_CLOSED_CR
                                                         : CSV_OUTSIDE;
            return (AF_AT(csv_resolved)){masks.separators & ~inside, masks.newlines & ~inside, 0, (after_closing & masks.quotes) != 0};
        }
    }
    return AF_AT(csv_resolve_slowly)(masks, returns, count, field_start, state);
}
