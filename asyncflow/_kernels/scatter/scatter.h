/* Rows to parts: a stable counting sort by bits of the key's hash, and columns gathered part by part.
 *
 * The positions are sorted first, then each column is gathered by them: a block's column is in the second cache, its reads follow as many
 * rising sequences as there are parts, and its writes are one sequence. */
#ifndef ASYNCFLOW_SCATTER_H
#define ASYNCFLOW_SCATTER_H

#include <stdbool.h>
#include <stdint.h>

enum { AF_MOST_PARTS = 64, AF_PART_SHIFT = 44 };

/* Fills `rows` with the positions of the rows part by part, and `ends` with where each part ends. */
static void af_scatter_rows(const uint64_t *hashes, int64_t count, int64_t parts, int32_t *rows, int64_t *ends) {
    const uint64_t mask = (uint64_t)parts - 1;
    int64_t place[AF_MOST_PARTS] = {0}, sum = 0;
    for (int64_t i = 0; i < count; i++) place[hashes[i] >> AF_PART_SHIFT & mask]++;
    for (int64_t part = 0; part < parts; part++) {
        const int64_t of_part = place[part];
        place[part] = sum;
        sum += of_part;
        ends[part] = sum;
    }
    for (int64_t i = 0; i < count; i++) rows[place[hashes[i] >> AF_PART_SHIFT & mask]++] = (int32_t)i;
}

/* An array of `width` bytes a row (1, 4 or 8). */
static void af_gather(const void *from, int width, const int32_t *rows, int64_t count, void *to) {
    if (width == 8)
        for (int64_t i = 0; i < count; i++) ((uint64_t *)to)[i] = ((const uint64_t *)from)[rows[i]];
    else if (width == 4)
        for (int64_t i = 0; i < count; i++) ((uint32_t *)to)[i] = ((const uint32_t *)from)[rows[i]];
    else
        for (int64_t i = 0; i < count; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[rows[i]];
}

/* Fills `marks` with the watermark before each row of a source: `before` at first, then no less than the greatest time so far less `delay`. */
static void af_running_watermarks(const int64_t *time, int64_t count, int64_t before, int64_t delay, int64_t *marks) {
    int64_t greatest;
    const bool beyond = __builtin_add_overflow(before, delay, &greatest); /* of no time the watermark would be greater */
    for (int64_t i = 0; i < count; i++) {
        marks[i] = beyond ? before : greatest - delay;
        greatest = time[i] > greatest ? time[i] : greatest;
    }
}

#endif
