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

/* The times that the watermark has not passed, by group; how many. */
static int64_t af_dedup_save(const af_dedup *state, int32_t *groups, int64_t *times) {
    const int64_t gone = af_within_before(state, state->watermark);
    int64_t count = 0;
    for (int64_t group = 0; group < state->group_count; group++) {
        const af_seen *seen = &state->seen[group]; /* a list is a tree whose nodes have nothing to their left */
        if (!seen->held || seen->time < gone) continue;
        count = af_time_save(state, seen->older < -1 ? -2 - seen->older : seen->older, gone, (int32_t)group, groups, times, count);
        groups[count] = (int32_t)group;
        times[count++] = seen->time;
    }
    return count;
}

/* Times by (group, time).  False: no memory. */
static bool af_dedup_load(af_dedup *state, const int32_t *groups, const int64_t *times, int64_t count, int64_t group_count) {
    if (!af_dedup_reserve(state, group_count)) return false;
    for (int64_t i = 0; i < count; i++) {
        af_seen *seen = &state->seen[groups[i]];
        if (seen->held) {
            if (!af_seen_push(state, seen, times[i])) return false;
            continue;
        }
        *seen = (af_seen){times[i], -1, 1};
        state->groups_held++;
    }
    state->swept = state->older;
    return true;
}

#endif
