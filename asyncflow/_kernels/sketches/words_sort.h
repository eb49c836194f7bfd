/* Words in ascending order.
 *
 * Words are spread by their distance from the least one over about as many buckets as there are words; buckets of more than a few are
 * spread again by their own least and greatest, the others sorted by insertion.  A round narrows a bucket's range at least 16 times, so
 * there are at most 16 rounds whatever the words; usual data take one or two, words in order none. */
#ifndef ASYNCFLOW_WORDS_SORT_H
#define ASYNCFLOW_WORDS_SORT_H

#include "base/cpu.h"

enum { AF_SORT_FEW = 16, AF_SORT_BITS = 11, AF_SORT_MOST = 1 << 15, AF_SORT_STACK = 128 };

AF_INLINE void af_words_insert(int64_t *words, uint32_t length) {
    for (uint32_t i = 1; i < length; i++) {
        const int64_t word = words[i];
        uint32_t at = i;
        for (; at > 0 && words[at - 1] > word; at--) words[at] = words[at - 1];
        words[at] = word;
    }
}

/* `other` has room for as many. */
static void af_words_spread(int64_t *words, uint32_t length, int64_t *other) {
    int64_t least = words[0], greatest = words[0];
    uint32_t falls = 0;
    for (uint32_t i = 1; i < length; i++) {
        least = words[i] < least ? words[i] : least;
        greatest = words[i] > greatest ? words[i] : greatest;
        falls += words[i] < words[i - 1];
    }
    if (falls == 0) return;
    const int wanted = 31 - __builtin_clz(length), most = wanted < AF_SORT_BITS ? wanted : AF_SORT_BITS;
    const uint64_t range = (uint64_t)greatest - (uint64_t)least;
    const int bits = 64 - __builtin_clzll(range), shift = bits > most ? bits - most : 0;
    const uint32_t buckets = (uint32_t)(range >> shift) + 1;
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
        if (count > AF_SORT_FEW)
            af_words_spread(words + begin, count, other + begin);
        else
            af_words_insert(words + begin, count);
        begin = end;
    }
}

static int af_words_compare(const void *left, const void *right) {
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* At most AF_SORT_MOST words. */
static void af_words_sort(int64_t *words, uint32_t length) {
    int64_t near[AF_SORT_STACK];
    if (length <= AF_SORT_FEW) {
        af_words_insert(words, length);
    } else if (length <= AF_SORT_STACK) {
        af_words_spread(words, length, near);
    } else {
        int64_t *other = malloc(length * sizeof *other);
        if (other != NULL)
            af_words_spread(words, length, other);
        else
            qsort(words, length, sizeof *words, af_words_compare);
        free(other);
    }
}

#endif
