/* Words in ascending order.
 *
 * Words are spread by their distance from the least one over buckets of a few words each; buckets of more than that are spread again by
 * their own least and greatest, the others sorted at once.  A round narrows a bucket's range at least 8 times, so there are at most 22
 * rounds whatever the words; usual data take one or two, words in order none.
 *
 * A few words are 16 and sorted by insertion; with AVX-512 (`wide`) they are 64, sorted by a bitonic network in registers (Batcher 1968). */
#ifndef ASYNCFLOW_WORDS_SORT_H
#define ASYNCFLOW_WORDS_SORT_H

#include "base/cpu.h"

enum { AF_SORT_FEW = 16, AF_SORT_WIDE_FEW = 64, AF_SORT_BITS = 11, AF_SORT_MOST = 1 << 15, AF_SORT_STACK = 128 };

AF_INLINE void af_words_insert(int64_t *words, uint32_t length) {
    for (uint32_t i = 1; i < length; i++) {
        const int64_t word = words[i];
        uint32_t at = i;
        for (; at > 0 && words[at - 1] > word; at--) words[at] = words[at - 1];
        words[at] = word;
    }
}

#if AF_X86
#define AF_SORT_INLINE AF_TARGET_V4 static inline __attribute__((always_inline))

/* Each lane and the one that `order` gives for it: the lesser of both, in the lanes of `greater` the greater. */
AF_SORT_INLINE __m512i af_lanes_compare(__m512i lanes, __m512i other, __mmask8 greater) {
    return _mm512_mask_max_epi64(_mm512_min_epi64(lanes, other), greater, lanes, other);
}

AF_SORT_INLINE __m512i af_lanes_reversed(__m512i lanes) { return _mm512_permutexvar_epi64(_mm512_set_epi64(0, 1, 2, 3, 4, 5, 6, 7), lanes); }

/* Eight words that rise and then fall, or fall and then rise, into ascending order. */
AF_SORT_INLINE __m512i af_lanes_merge(__m512i lanes) {
    lanes = af_lanes_compare(lanes, _mm512_shuffle_i64x2(lanes, lanes, 0x4E), 0xF0);
    lanes = af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0x4E), 0xCC);
    return af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0xB1), 0xAA);
}

AF_SORT_INLINE __m512i af_lanes_sort(__m512i lanes) {
    lanes = af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0xB1), 0xAA);
    lanes = af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0x1B), 0xCC);
    lanes = af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0xB1), 0xAA);
    lanes = af_lanes_compare(lanes, af_lanes_reversed(lanes), 0xF0);
    lanes = af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0x4E), 0xCC);
    return af_lanes_compare(lanes, _mm512_permutex_epi64(lanes, 0xB1), 0xAA);
}

/* At most 8 * `count` words, `count` a power of two up to 8 and a constant where it is inlined. */
AF_SORT_INLINE void af_words_network(int64_t *words, uint32_t length, int count) {
    __m512i run[8];
    __mmask8 taken[8];
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) {
        const int left = (int)length - 8 * i;
        taken[i] = left >= 8 ? 0xFF : left > 0 ? (__mmask8)((1u << left) - 1) : 0;
        run[i] = af_lanes_sort(_mm512_mask_loadu_epi64(_mm512_set1_epi64(INT64_MAX), taken[i], words + 8 * i));
    }
#pragma GCC unroll 3
    for (int width = 1; width < count; width *= 2) /* runs of so many registers, two at a time */
#pragma GCC unroll 4
        for (int from = 0; from < count; from += 2 * width) {
#pragma GCC unroll 4
            for (int i = 0; i < width; i++) {
                __m512i *low = &run[from + i], *high = &run[from + 2 * width - 1 - i];
                const __m512i reversed = af_lanes_reversed(*high), least = _mm512_min_epi64(*low, reversed);
                *high = _mm512_max_epi64(*low, reversed);
                *low = least;
            }
#pragma GCC unroll 2
            for (int step = width / 2; step > 0; step /= 2)
#pragma GCC unroll 8
                for (int i = 0; i < 2 * width; i++) {
                    if (i & step) continue;
                    __m512i *low = &run[from + i], *high = &run[from + i + step];
                    const __m512i least = _mm512_min_epi64(*low, *high);
                    *high = _mm512_max_epi64(*low, *high);
                    *low = least;
                }
#pragma GCC unroll 8
            for (int i = 0; i < 2 * width; i++) run[from + i] = af_lanes_merge(run[from + i]);
        }
#pragma GCC unroll 8
    for (int i = 0; i < count; i++) _mm512_mask_storeu_epi64(words + 8 * i, taken[i], run[i]);
}

/* At most AF_SORT_WIDE_FEW words. */
AF_TARGET_V4 AF_NOINLINE void af_words_sort_wide(int64_t *words, uint32_t length) {
    if (length <= 8) {
        af_words_network(words, length, 1);
    } else if (length <= 16) {
        af_words_network(words, length, 2);
    } else if (length <= 32) {
        af_words_network(words, length, 4);
    } else {
        af_words_network(words, length, 8);
    }
}
#undef AF_SORT_INLINE
#endif

/* As many words as are sorted at once. */
AF_INLINE void af_words_few(int64_t *words, uint32_t length, bool wide) {
#if AF_X86
    if (wide && length > 4) {
        af_words_sort_wide(words, length);
        return;
    }
#endif
    af_words_insert(words, length);
}

/* `other` has room for as many. */
static void af_words_spread(int64_t *words, uint32_t length, int64_t *other, bool wide) {
    int64_t least = words[0], greatest = words[0];
    uint32_t falls = 0;
    for (uint32_t i = 1; i < length; i++) {
        least = words[i] < least ? words[i] : least;
        greatest = words[i] > greatest ? words[i] : greatest;
        falls += words[i] < words[i - 1];
    }
    if (falls == 0) return;
    const int all = 31 - __builtin_clz(length), wanted = wide ? all - 3 : all, most = wanted < AF_SORT_BITS ? wanted : AF_SORT_BITS;
    const uint64_t range = (uint64_t)greatest - (uint64_t)least;
    const int bits = 64 - __builtin_clzll(range), shift = bits > most ? bits - most : 0;
    const uint32_t buckets = (uint32_t)(range >> shift) + 1, few = wide ? AF_SORT_WIDE_FEW : AF_SORT_FEW;
    uint16_t ends[buckets];
    uint32_t place = 0;
    memset(ends, 0, sizeof ends);
    for (uint32_t i = 0; i < length; i++) ends[((uint64_t)words[i] - (uint64_t)least) >> shift]++;
    for (uint32_t i = 0; i < buckets; i++) {
        const uint32_t count = ends[i];
        ends[i] = (uint16_t)place;
        place += count;
    }
    for (uint32_t i = 0; i < length; i++) other[ends[((uint64_t)words[i] - (uint64_t)least) >> shift]++] = words[i];
    memcpy(words, other, length * sizeof *words);
    if (shift == 0) return;
    for (uint32_t i = 0, begin = 0; i < buckets; i++) {
        const uint32_t end = ends[i], count = end - begin;
        if (count > few)
            af_words_spread(words + begin, count, other + begin, wide);
        else
            af_words_few(words + begin, count, wide);
        begin = end;
    }
}

static int af_words_compare(const void *left, const void *right) {
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* At most AF_SORT_MOST words; `wide`: AVX-512 is to be used. */
static void af_words_sort(int64_t *words, uint32_t length, bool wide) {
    int64_t near[AF_SORT_STACK];
    if (length <= (wide ? AF_SORT_WIDE_FEW : AF_SORT_FEW)) {
        af_words_few(words, length, wide);
    } else if (length <= AF_SORT_STACK) {
        af_words_spread(words, length, near, wide);
    } else {
        int64_t *other = malloc(length * sizeof *other);
        if (other != NULL)
            af_words_spread(words, length, other, wide);
        else
            qsort(words, length, sizeof *words, af_words_compare);
        free(other);
    }
}

#endif
