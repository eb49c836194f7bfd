/* Open sessions and count windows as arrays, and back into an empty state.  What is loaded has been checked (saved.py): groups in range, every
 * session of a group with another last row, none that the watermark has passed. */
#ifndef ASYNCFLOW_SESSIONS_SAVED_H
#define ASYNCFLOW_SESSIONS_SAVED_H

#include "sessions/counted.h"
#include "sessions/sessions.h"

/* The open sessions, by slot. */
static void af_sessions_save(const af_sessions *state, int32_t *slots, int32_t *groups, int64_t *firsts, int64_t *lasts) {
    int64_t at = 0;
    for (int64_t slot = 1; slot < state->slots.top; slot++) {
        const af_session *session = &state->sessions[slot];
        if (session->group < 0) continue;
        slots[at] = (int32_t)slot;
        groups[at] = session->group;
        firsts[at] = session->first;
        lasts[at++] = session->last;
    }
}

/* Session i becomes slot i + 1.  `order`: those of each group with their last rows ascending.  False: no memory. */
static bool af_sessions_load(af_sessions *state, const int32_t *groups, const int64_t *firsts, const int64_t *lasts, const int64_t *order,
                             int64_t count, int64_t group_count) {
    if (!af_sessions_reserve(state, group_count) || !af_sessions_room(state, count + 1)) return false;
    for (int64_t i = 0; i < count; i++) state->sessions[i + 1] = (af_session){firsts[i], lasts[i], groups[i], {-1, -1}, 0};
    state->slots.top = count + 1;
    state->open = count;
    for (int64_t i = 0; i < count; i++) {
        const int32_t slot = (int32_t)order[i] + 1;
        af_session_link(state, slot, -1);
        if (!af_session_due_push(state, (af_session_due){af_plus(state->sessions[slot].last, state->gap), slot, 0})) return false;
    }
    return true;
}

/* The windows that are being filled, by group. */
static void af_counts_save(const af_count_windows *state, int32_t *slots, int32_t *groups, int64_t *rows, int64_t *firsts, int64_t *lasts) {
    int64_t at = 0;
    for (int64_t group = 0; group < state->group_count; group++) {
        const int32_t slot = state->current[group];
        if (slot < 0) continue;
        slots[at] = slot;
        groups[at] = (int32_t)group;
        rows[at] = state->windows[slot].rows;
        firsts[at] = state->windows[slot].first;
        lasts[at++] = state->windows[slot].last;
    }
}

/* Window i becomes slot i.  False: no memory. */
static bool af_counts_load(af_count_windows *state, const int32_t *groups, const int64_t *rows, const int64_t *firsts, const int64_t *lasts,
                           int64_t count, int64_t group_count) {
    if (!af_counts_reserve(state, group_count)) return false;
    if (!af_grow(&state->windows, &state->window_capacity, count, sizeof(af_counted))) return false;
    for (int64_t i = 0; i < count; i++) {
        state->windows[i] = (af_counted){rows[i], firsts[i], lasts[i], groups[i]};
        state->current[groups[i]] = (int32_t)i;
    }
    state->slots.top = state->open = count;
    return true;
}

#endif
