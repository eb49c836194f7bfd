/* What a dedup state remembers as arrays, and back into an empty state.  What is loaded has been checked (saved.py). */
#ifndef ASYNCFLOW_DEDUP_SAVED_H
#define ASYNCFLOW_DEDUP_SAVED_H

#include "dedup/dedup.h"

static int64_t af_time_save(const af_dedup *state, int32_t at, int64_t gone, int32_t group, int32_t *groups, int64_t *times, int64_t count) {
    for (; at >= 0; at = state->times[at].right) {
        if (state->times[at].left >= 0) count = af_time_save(state, state->times[at].left, gone, group, groups, times, count);
        if (state->times[at].time < gone) continue;
        groups[count] = group;
        times[count++] = state->times[at].time;
    }
    return count;
}

/* The entries that the watermark has not passed, by group; how many. */
static int64_t af_dedup_save(const af_dedup *state, int32_t *groups, int64_t *times) {
    const int64_t gone = af_within_before(state, state->watermark);
    int64_t count = 0;
    for (int64_t group = 0; group < state->group_count; group++) {
        const int32_t owned = state->owned[group]; /* a list is a tree whose nodes have nothing to their left */
        count = af_time_save(state, owned < -1 ? -2 - owned : owned, gone, (int32_t)group, groups, times, count);
    }
    return count;
}

/* Entries by (group, time), each group's the greatest last.  False: no memory. */
static bool af_dedup_load(af_dedup *state, const int32_t *groups, const int64_t *times, int64_t count, int64_t group_count) {
    if (!af_dedup_reserve(state, group_count)) return false;
    if (!af_grow(&state->times, &state->time_capacity, count, sizeof *state->times)) return false;
    for (int64_t i = 0; i < count; i++) {
        state->times[i] = (af_time){times[i], -1, state->owned[groups[i]]};
        state->owned[groups[i]] = (int32_t)i;
    }
    state->used = state->entries = state->swept = count;
    return true;
}

#endif
