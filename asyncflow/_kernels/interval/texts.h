/* Values and texts by place, out of the rings of rows that wait; texts one after another, into and out of their bytes. */
#ifndef ASYNCFLOW_INTERVAL_TEXTS_H
#define ASYNCFLOW_INTERVAL_TEXTS_H

#include "base/cpu.h"

enum { AF_LOG_PLACES_AHEAD = 16, AF_LOG_TEXT_AHEAD = 16, AF_LOG_SHORT_TEXT = 16 };

/* The items of these places, of a ring of mask + 1. */
static void af_log_ring_take(const int64_t *ring, uint64_t mask, const int64_t *places, int64_t count, int64_t *out) {
    int64_t i = 0;
    for (; i + AF_LOG_PLACES_AHEAD < count; i++) {
        __builtin_prefetch(&ring[(uint64_t)places[i + AF_LOG_PLACES_AHEAD] & mask]);
        out[i] = ring[(uint64_t)places[i] & mask];
    }
    for (; i < count; i++) out[i] = ring[(uint64_t)places[i] & mask];
}

/* Where these places' texts start, from `origin`, and their lengths: a text ends where that of the next place starts.  False: a length that
 * no text has. */
static bool af_log_ring_spans(const int64_t *ring, uint64_t mask, const int64_t *places, int64_t count, int64_t origin, int64_t *starts, int32_t *lengths) {
    uint64_t wrong = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i + AF_LOG_PLACES_AHEAD < count) __builtin_prefetch(&ring[(uint64_t)places[i + AF_LOG_PLACES_AHEAD] & mask]);
        const uint64_t start = (uint64_t)ring[(uint64_t)places[i] & mask], end = (uint64_t)ring[((uint64_t)places[i] + 1) & mask];
        starts[i] = (int64_t)(start - (uint64_t)origin);
        lengths[i] = (int32_t)(end - start);
        wrong |= (end - start) >> 31;
    }
    return !wrong;
}

/* A text, as two words where both sides have room for them. */
AF_INLINE void af_log_copy_text(uint8_t *to, const uint8_t *from, int32_t length, bool room) {
    if (AF_LIKELY(room && length <= AF_LOG_SHORT_TEXT)) {
        const uint64_t first = af_load64(from), second = af_load64(from + 8);
        memcpy(to, &first, 8);
        memcpy(to + 8, &second, 8);
    } else {
        memcpy(to, from, (size_t)length);
    }
}

/* How many bytes these texts have; -1: one lies outside of the data. */
static int64_t af_log_texts_size(const int64_t *starts, const int32_t *narrow, const int32_t *lengths, int64_t count, int64_t size) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t start = starts == NULL ? narrow[i] : starts[i];
        if (!lengths[i]) continue; /* may start anywhere */
        if (lengths[i] < 0 || start < 0 || start > size - lengths[i]) return -1;
        total += lengths[i];
    }
    return total;
}

/* Copies them; they have been measured.  `room`: of `out`. */
static void af_log_texts_copy(const uint8_t *data, int64_t size, const int64_t *starts, const int32_t *narrow, const int32_t *lengths, int64_t count,
                          uint8_t *out, int64_t room, int64_t at, int64_t *wide_places, int32_t *places) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t start = starts == NULL ? narrow[i] : starts[i];
        if (starts != NULL && i + AF_LOG_TEXT_AHEAD < count) __builtin_prefetch(data + starts[i + AF_LOG_TEXT_AHEAD]);
        if (wide_places != NULL) wide_places[i] = at;
        else places[i] = (int32_t)at;
        if (!lengths[i]) continue;
        af_log_copy_text(out + at, data + start, lengths[i], start + AF_LOG_SHORT_TEXT <= size && at + AF_LOG_SHORT_TEXT <= room);
        at += lengths[i];
    }
}

#endif
