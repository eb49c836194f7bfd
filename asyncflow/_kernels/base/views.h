/* Checks of arguments that C would believe: texts lie inside their bytes, ids are below a bound.  Each check is one pass without
 * branches. */
#ifndef ASYNCFLOW_VIEWS_H
#define ASYNCFLOW_VIEWS_H

#include <stdbool.h>
#include <stdint.h>

enum { AF_VIEWS_INSIDE, AF_VIEWS_EMPTY_OUTSIDE, AF_VIEWS_OUTSIDE };

/* Text i is data[starts[i] .. starts[i] + lengths[i]); `size`: bytes of the data.  Returns whether all texts lie inside, all but
 * some empty texts, or not all. */
static int af_views(const int32_t *starts, const int32_t *lengths, int64_t count, int64_t size) {
    const uint32_t end = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
    uint32_t signs = 0, furthest = 0; /* where no sign is set no sum overflows */
    for (int64_t i = 0; i < count; i++) {
        const uint32_t start = (uint32_t)starts[i], length = (uint32_t)lengths[i], stop = start + length;
        signs |= start | length;
        furthest = stop > furthest ? stop : furthest;
    }
    if (!(signs >> 31) && furthest <= end) return AF_VIEWS_INSIDE;
    for (int64_t i = 0; i < count; i++)
        if (lengths[i] < 0 || (lengths[i] > 0 && (starts[i] < 0 || (int64_t)starts[i] + lengths[i] > size))) return AF_VIEWS_OUTSIDE;
    return AF_VIEWS_EMPTY_OUTSIDE;
}

/* All of 0 .. bound - 1. */
static bool af_ids_below(const int32_t *ids, int64_t count, int64_t bound) {
    const uint32_t end = bound > INT32_MAX ? (uint32_t)INT32_MAX + 1 : bound < 0 ? 0 : (uint32_t)bound;
    uint32_t greatest = 0; /* a negative id is a great one */
    for (int64_t i = 0; i < count; i++) greatest = (uint32_t)ids[i] > greatest ? (uint32_t)ids[i] : greatest;
    return count == 0 || greatest < end;
}

/* All of 0 .. bound - 1, each greater than the one before. */
static bool af_ids_rise(const int32_t *ids, int64_t count, int64_t bound) {
    int64_t last = -1;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] <= last) return false;
        last = ids[i];
    }
    return last < bound;
}

#endif
