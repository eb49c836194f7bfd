/* Windows of so many rows: each group fills one slot at a time, row after row.
 *
 * A slot keeps how many rows it has and the times of its first and last one.  When it is full it is listed, in the order in which slots
 * fill, and the group's next row takes another; slots that were listed are given out again from the next batch on, so that their owner
 * can read them in between. */
#ifndef ASYNCFLOW_COUNTED_H
#define ASYNCFLOW_COUNTED_H

#include <string.h>

#include "base/slots.h"

typedef struct {
    int64_t rows, first, last;
    int32_t group;
} af_counted;

typedef struct {
    int32_t slot;
    int64_t row;
} af_filled;

typedef struct {
    int64_t size;
    af_counted *windows;
    int64_t window_capacity;
    af_slots slots;
    int32_t *current; /* of each group; -1: none */
    int64_t group_count, group_capacity;
    af_filled *filled; /* of the batch */
    int64_t filled_count, filled_capacity;
    int64_t open, closed;
} af_count_windows;

static void af_counts_free(af_count_windows *state) {
    free(state->windows);
    free(state->slots.free_slots);
    free(state->current);
    free(state->filled);
    memset(state, 0, sizeof *state);
}

/* Gives the slots back that were listed last; false: no memory. */
static bool af_counts_reuse(af_count_windows *state) {
    for (int64_t i = 0; i < state->filled_count; i++)
        if (!af_slot_give(&state->slots, state->filled[i].slot)) return false;
    state->filled_count = 0;
    return true;
}

/* Lists a slot as done with. */
static bool af_counts_list(af_count_windows *state, int32_t slot, int64_t row) {
    if (!af_grow(&state->filled, &state->filled_capacity, state->filled_count + 1, sizeof(af_filled))) return false;
    state->filled[state->filled_count++] = (af_filled){slot, row};
    state->current[state->windows[slot].group] = -1;
    state->open--;
    state->closed++;
    return true;
}

static bool af_counts_reserve(af_count_windows *state, int64_t groups) {
    if (!af_grow(&state->current, &state->group_capacity, groups, sizeof(int32_t))) return false;
    for (; state->group_count < groups; state->group_count++) state->current[state->group_count] = -1;
    return true;
}

/* The slot of each row; slots that are full now in `filled`.  `time` NULL: rows have none.  False: no memory. */
static bool af_counts_assign(af_count_windows *state, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time, int32_t *slots) {
    if (!af_counts_reuse(state) || !af_counts_reserve(state, group_count)) return false;
    for (int64_t row = 0; row < count; row++) {
        const int32_t group = groups[row];
        const int64_t now = time != NULL ? time[row] : 0;
        int32_t slot = state->current[group];
        if (slot < 0) {
            slot = state->current[group] = af_slot_take(&state->slots);
            if (!af_grow(&state->windows, &state->window_capacity, state->slots.top, sizeof(af_counted))) return false;
            state->windows[slot] = (af_counted){0, now, now, group};
            state->open++;
        }
        slots[row] = slot;
        af_counted *window = &state->windows[slot];
        window->last = now;
        if (++window->rows == state->size && !af_counts_list(state, slot, row)) return false;
    }
    return true;
}

/* Lists the windows that are not full, by group. */
static bool af_counts_rest(af_count_windows *state) {
    if (!af_counts_reuse(state)) return false;
    for (int64_t group = 0; group < state->group_count; group++)
        if (state->current[group] >= 0 && !af_counts_list(state, state->current[group], -1)) return false;
    return true;
}

static void af_counts_rename(af_count_windows *state, const int32_t *groups, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        state->current[i] = groups[i] < state->group_count ? state->current[groups[i]] : -1;
        if (state->current[i] >= 0) state->windows[state->current[i]].group = (int32_t)i;
    }
    state->group_count = count;
    af_trim(&state->current, &state->group_capacity, count, sizeof(int32_t));
}

/* Slots are numbered anew, without those that are free: `kept` gets the old ones.  Nothing is listed any more. */
static int64_t af_counts_compact(af_count_windows *state, int32_t *kept) {
    int64_t count = 0;
    state->filled_count = 0;
    for (int64_t slot = 0; slot < state->slots.top; slot++) {
        const af_counted window = state->windows[slot];
        if (window.group >= state->group_count || state->current[window.group] != slot) continue;
        kept[count] = (int32_t)slot;
        state->windows[count++] = window;
    }
    for (int64_t slot = 0; slot < count; slot++) state->current[state->windows[slot].group] = (int32_t)slot;
    state->slots.top = count;
    state->slots.free_count = 0;
    af_trim(&state->windows, &state->window_capacity, count, sizeof(af_counted));
    af_trim(&state->slots.free_slots, &state->slots.free_capacity, 0, sizeof(int32_t));
    af_trim(&state->filled, &state->filled_capacity, 0, sizeof(af_filled));
    return count;
}

#endif
