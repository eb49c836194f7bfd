/* Columns of results of an as-of join: values and texts by reference, of rows at places and of rows of the batch that came last.
 *
 * References were checked: each is a place, or -2 - i for row i of the batch. */
#ifndef ASYNCFLOW_AS_OF_PICK_H
#define ASYNCFLOW_AS_OF_PICK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/cpu.h"

enum { AF_AS_OF_SHORT_TEXT = 32 };

/* Which of the two arrays a value is taken from is no branch: one array follows the other, often row by row. */
#define AF_AS_OF_PICK(type)                                                                             \
    do {                                                                                                \
        const type *of_place = (const type *)(const void *)placed, *of_row = (const type *)(const void *)fresh; \
        type *to = (type *)(void *)out;                                                                 \
        for (int64_t i = 0; i < count; i++) {                                                           \
            const int64_t ref = refs[i];                                                                \
            const type *from = ref >= 0 ? of_place : of_row;                                            \
            to[i] = from[ref >= 0 ? ref : -2 - ref];                                                    \
        }                                                                                               \
    } while (0)

/* Values of 1, 4 or 8 bytes. */
static void af_as_of_pick(const uint8_t *placed, const uint8_t *fresh, int width, const int64_t *refs, int64_t count, uint8_t *out) {
    if (width == 8) AF_AS_OF_PICK(int64_t);
    else if (width == 4) AF_AS_OF_PICK(int32_t);
    else AF_AS_OF_PICK(uint8_t);
}

typedef struct {
    const uint8_t *placed;
    int64_t placed_bytes;
    const int64_t *placed_starts;
    const int32_t *placed_lengths;
    const uint8_t *fresh;
    int64_t fresh_bytes;
    const int32_t *fresh_starts, *fresh_lengths;
} af_as_of_texts;

/* Where each text begins among those that are picked, its length, and the sum; above INT32_MAX: they are too many.  -1: a text lies
 * outside of its bytes. */
static int64_t af_as_of_measure(const af_as_of_texts *texts, const int64_t *refs, int64_t count, int32_t *begins, int32_t *lengths) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t ref = refs[i], row = ref >= 0 ? ref : -2 - ref;
        const int64_t length = ref >= 0 ? texts->placed_lengths[row] : texts->fresh_lengths[row];
        const int64_t start = ref >= 0 ? texts->placed_starts[row] : texts->fresh_starts[row];
        const int64_t room = ref >= 0 ? texts->placed_bytes : texts->fresh_bytes;
        if (AF_UNLIKELY((length != 0) & ((length < 0) | (start < 0) | (start > room - length)))) return -1;
        begins[i] = (int32_t)total;
        lengths[i] = (int32_t)length;
        total += length;
        if (AF_UNLIKELY(total > INT32_MAX)) return total;
    }
    return total;
}

/* The texts one after another; `total`: their bytes.  A short one is copied with what follows it, which the next is written over. */
static void af_as_of_pick_texts(const af_as_of_texts *texts, const int64_t *refs, int64_t count, const int32_t *lengths, uint8_t *out,
                                int64_t total) {
    const uint8_t *end = out + total;
    for (int64_t i = 0; i < count; i++) {
        const int64_t ref = refs[i], length = lengths[i];
        if (!length) continue;
        const uint8_t *from = ref >= 0 ? texts->placed : texts->fresh;
        const int64_t start = ref >= 0 ? texts->placed_starts[ref] : texts->fresh_starts[-2 - ref];
        const int64_t room = (ref >= 0 ? texts->placed_bytes : texts->fresh_bytes) - start;
        if (AF_LIKELY((length <= AF_AS_OF_SHORT_TEXT) & (room >= AF_AS_OF_SHORT_TEXT) & (end - out >= AF_AS_OF_SHORT_TEXT)))
            memcpy(out, from + start, AF_AS_OF_SHORT_TEXT);
        else
            memcpy(out, from + start, (size_t)length);
        out += length;
    }
}

#endif
