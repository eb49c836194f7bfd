/* The rows of an as-of join as arrays, and back into a join that had no row.  What is loaded has been checked (saved.py).
 *
 * All links of keys, the queues and the order in which rows are due are made anew. */
#ifndef ASYNCFLOW_AS_OF_SAVED_H
#define ASYNCFLOW_AS_OF_SAVED_H

#include "as_of/upkeep.h"

/* Columns of a side's rows.  A row without a key has the key AF_AS_OF_NONE.  `ahead`: the clock has not passed the row; the moment of one
 * that it has passed is its time. */
typedef struct {
    int32_t *places, *keys;
    int64_t *times, *moments, *arrivals;
    uint8_t *matched, *ahead;
} af_as_of_columns;

AF_INLINE int64_t af_as_of_row_count(const af_as_of *join, int port) {
    return join->sides[port].waiting + (port == AF_AS_OF_RIGHT ? join->known : 0);
}

/* The rows of a side; none is fresh. */
static void af_as_of_save(const af_as_of *join, int port, const af_as_of_columns *columns) {
    const af_as_of_side *side = &join->sides[port];
    int64_t at = 0;
    for (int64_t r = 0; r < side->run_count; r++)
        for (int64_t i = side->runs[r].begin; i < side->runs[r].end; i++, at++) {
            const af_as_of_waiting *row = &side->runs[r].items[i];
            columns->places[at] = row->ref;
            columns->keys[at] = row->key;
            columns->times[at] = row->time;
            columns->moments[at] = row->moment;
            columns->arrivals[at] = row->arrival;
            columns->matched[at] = 0;
            columns->ahead[at] = 1;
        }
    for (int64_t i = 0; port == AF_AS_OF_RIGHT && i < join->row_slots.top; i++) {
        const af_as_of_row *row = &join->rows[i];
        if (row->key == AF_AS_OF_FREE) continue;
        columns->places[at] = row->ref;
        columns->keys[at] = row->key;
        columns->times[at] = columns->moments[at] = row->time;
        columns->arrivals[at] = row->arrival;
        columns->matched[at] = row->matched;
        columns->ahead[at++] = 0;
    }
}

/* Row i stands at place i.  False: no memory. */
static bool af_as_of_load(af_as_of *join, int port, const af_as_of_columns *columns, int64_t count) {
    af_as_of_side *side = &join->sides[port];
    int64_t ahead = 0, known = 0;
    for (int64_t i = 0; i < count; i++) ahead += columns->ahead[i];
    side->runs[0] = (af_as_of_run){NULL, 0, 0, 0};
    side->run_count = 1;
    af_as_of_run *run = &side->runs[0];
    af_as_of_waiting *items = malloc((size_t)(count + 1) * sizeof *items);
    uint8_t *matched = malloc((size_t)(count + 1));
    bool done = items != NULL && matched != NULL && af_grow(&run->items, &run->capacity, ahead, sizeof *run->items);
    for (int64_t i = 0; done && i < count; i++) {
        const af_as_of_waiting row = {columns->moments[i], columns->times[i], columns->arrivals[i], (int32_t)i, columns->keys[i]};
        if (columns->ahead[i]) run->items[run->end++] = row;
        else items[known++] = row;
    }
    done = done && af_as_of_sort_waiting(run->items, run->end);
    done = done && af_as_of_sort_waiting(items, known); /* the moment of a known row is its time */
    for (int64_t i = 0; done && i < known; i++) matched[i] = columns->matched[items[i].ref];
    if (port == AF_AS_OF_RIGHT) done = done && af_as_of_known_anew(join, items, matched, known);
    free(items);
    free(matched);
    side->waiting = ahead;
    side->places.top = count;
    return done;
}

#endif
