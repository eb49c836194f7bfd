/* The rows of a join as arrays, and back into a join that had no row.  What is loaded has been checked (saved.py).
 *
 * Chains, the list of rows due and the names of numbers are made anew: rows come by key, time and arrival, so each is the last of its chain. */
#ifndef ASYNCFLOW_JOIN_SAVED_H
#define ASYNCFLOW_JOIN_SAVED_H

#include "join/upkeep.h"

/* Columns of a side's rows.  A row without a key has the key AF_NONE and the number 0. */
typedef struct {
    int32_t *slots, *keys;
    int64_t *numbers, *times, *seen, *arrivals;
    uint8_t *matched, *ahead;
} af_join_columns;

/* The rows of a side, by slot. */
static void af_join_save(const af_join *join, int port, const af_join_columns *columns) {
    const af_join_side *side = &join->sides[port];
    const bool numbered = join->numbers.buckets != NULL;
    int64_t at = 0;
    for (int64_t slot = 0; slot < side->slots.top; slot++) {
        const af_join_row *row = &side->rows[slot];
        if (row->key == AF_FREE) continue;
        columns->slots[at] = (int32_t)slot;
        columns->keys[at] = row->key;
        columns->numbers[at] = numbered && row->key >= 0 ? join->keys[row->key].number : 0;
        columns->times[at] = row->time;
        columns->seen[at] = row->seen;
        columns->arrivals[at] = (int64_t)row->arrival;
        columns->matched[at] = row->matched;
        columns->ahead[at++] = row->due == AF_COMING;
    }
}

/* Rows that were just taken in, slot i the i-th, are as they were saved; `dues`: when each that has come is due.  False: no memory. */
static bool af_join_load(af_join *join, int port, const int64_t *arrivals, const uint8_t *matched, const uint8_t *ahead, int64_t count,
                         int64_t *dues) {
    af_join_side *side = &join->sides[port];
    for (int32_t slot = 0; slot < count; slot++) {
        af_join_row *row = &side->rows[slot];
        row->arrival = (uint64_t)arrivals[slot];
        row->matched = matched[slot] & 1;
        dues[slot] = INT64_MAX;
        if (ahead[slot]) continue;
        row->due = AF_NONE;
        dues[slot] = af_due(side, row);
        if (row->key == AF_NONE) continue;
        if (!af_chain_insert(join, port, slot)) return false;
        if (side->reach < 0 && row->prev != AF_NONE && !af_look_later(join, row->key)) return false;
    }
    return true;
}

/* Rows come to be due in this order. */
static bool af_join_load_due(af_join_side *side, const int64_t *order, int64_t count) {
    for (int64_t i = 0; side->reach >= 0 && i < count; i++)
        if (side->rows[order[i]].due != AF_COMING && !af_due_add(side, (int32_t)order[i])) return false;
    return true;
}

#endif
