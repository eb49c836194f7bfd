/* Panes by number: which of them a row goes into.
 *
 * Panes are an array in the order of their numbers; a sub-pane stands behind its pane, by its first window.  A new one that is the last is
 * appended.  Others are put aside in order, up to 512 of them, and merged in at the end of the batch or when there is no room: so times
 * that fall or come in any order cost a move of the array for many new panes, not for each. */
#ifndef ASYNCFLOW_WINDOW_PANES_H
#define ASYNCFLOW_WINDOW_PANES_H

#include "window/cells.h"

enum { AF_RECENT = 256, AF_FRESH = 512 };

typedef struct {
    uint64_t step, half;
    uint64_t age;  /* only entries of the state's age count */
    af_pane *pane;      /* NULL: late for all its windows */
} af_recent;

/* The window that is being given out. */
typedef struct {
    bool active, owned; /* owned: the pane is nobody else's */
    af_wide window;
    af_pane *pane;
    int32_t *groups; /* those that the window holds, in order */
    int64_t count, position, capacity;
} af_window_out;

typedef struct {
    af_store store;
    int sized;
    int64_t size;
    uint64_t every, tail; /* tail: size modulo every; with one, each step has two panes, cut there */
    int64_t offset;
    int steps;    /* panes to a step: 1 or 2 */
    af_wide span; /* panes to a window */
    uint64_t reciprocal, shift; /* steps since a fixed time: step of time t: ((t + 2^63) + shift) / every - bias */
    af_wide bias;
    af_pane **panes; /* by number, then first; [head, end) */
    size_t head, end, capacity;
    af_pane *fresh[AF_FRESH]; /* of the batch: those that come before the last pane and are not among the others yet, in order */
    size_t fresh_count;
    int64_t advanced, arrivals;
    af_wide closed; /* windows up to this one are closed; AF_NO_FIRST: none */
    int64_t windows_closed, open_windows;
    int open_changed;
    af_pane *head_pane; /* see window/emit.h: the panes from head_block on, merged up to head_upto */
    af_wide head_block, head_upto, flipped_block;
    af_recent recent[AF_RECENT];
    uint64_t age;
    af_window_out out;
} af_state;

AF_INLINE af_wide af_floor_div(af_wide value, af_wide by) {
    af_wide quotient = value / by;
    return quotient - (value % by != 0 && value < 0);
}

AF_INLINE int64_t af_clamp(af_wide value) { return value < INT64_MIN ? INT64_MIN : value > INT64_MAX ? INT64_MAX : (int64_t)value; }

/* The first window that a watermark leaves open; `next`: the watermark that closes it. */
static af_wide af_first_open(const af_state *state, int64_t watermark, af_wide *next) {
    *next = AF_WIDE_MAX;
    if (watermark == INT64_MAX) return AF_WIDE_MAX;
    if (!state->sized) return AF_NO_FIRST;
    af_wide first = af_floor_div((af_wide)watermark - state->offset - state->size, state->every) + 1;
    *next = (af_wide)state->offset + first * (af_wide)state->every + state->size;
    return first;
}

AF_INLINE bool af_pane_before(const af_pane *pane, af_wide number, af_wide first) {
    return pane->number < number || (pane->number == number && pane->first < first);
}

/* Where (number, first) is or would be in [low, high). */
AF_INLINE size_t af_place_among(af_pane *const *panes, size_t low, size_t high, af_wide number, af_wide first) {
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (af_pane_before(panes[middle], number, first))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t af_pane_place(const af_state *state, af_wide number, af_wide first) {
    return af_place_among(state->panes, state->head, state->end, number, first);
}

/* Room for so many panes behind the last. */
static bool af_panes_reserve(af_state *state, size_t more) {
    const size_t count = state->end - state->head;
    if (state->end + more <= state->capacity) return true;
    if (state->head > state->capacity / 2 && count + more <= state->capacity) {
        memmove(state->panes, state->panes + state->head, count * sizeof *state->panes);
        state->head = 0;
        state->end = count;
        return true;
    }
    size_t capacity = state->capacity ? state->capacity * 2 : 16;
    while (capacity < state->end + more) capacity *= 2;
    af_pane **panes = realloc(state->panes, capacity * sizeof *panes);
    if (panes == NULL) return false;
    state->panes = panes;
    state->capacity = capacity;
    return true;
}

/* Merges those in that were put aside. */
static bool af_panes_settle(af_state *state) {
    if (AF_LIKELY(state->fresh_count == 0)) return true;
    if (!af_panes_reserve(state, state->fresh_count)) return false;
    af_pane **panes = state->panes;
    size_t from = state->end, to = state->end + state->fresh_count;
    state->end = to;
    while (state->fresh_count) {
        af_pane *pane = state->fresh[--state->fresh_count];
        const size_t at = af_place_among(panes, state->head, from, pane->number, pane->first);
        to -= from - at;
        memmove(panes + to, panes + at, (from - at) * sizeof *panes);
        panes[--to] = pane;
        from = at;
    }
    return true;
}

AF_INLINE bool af_is_pane(const af_pane *pane, af_wide number, af_wide first) { return pane->number == number && pane->first == first; }

/* The pane (or sub-pane) for rows of this number while `open` is the first open window: 0 late, 1 found, -1 no memory. */
AF_NOINLINE int af_resolve(af_state *state, af_wide number, af_wide open, int64_t group_count, af_pane **found) {
    const af_wide low = -af_floor_div(state->span - 1 - number, state->steps), high = af_floor_div(number, state->steps);
    *found = NULL;
    if (state->sized && open > high) return 0;
    const af_wide first = state->sized && open > low ? open : AF_NO_FIRST;
    const size_t at = af_pane_place(state, number, first), place = af_place_among(state->fresh, 0, state->fresh_count, number, first);
    af_pane *pane = NULL;
    if (at < state->end && af_is_pane(state->panes[at], number, first)) pane = state->panes[at];
    if (place < state->fresh_count && af_is_pane(state->fresh[place], number, first)) pane = state->fresh[place];
    if (pane == NULL) {
        const bool last = at == state->end;
        if (last && !af_panes_reserve(state, 1)) return -1;
        pane = af_pane_new(&state->store);
        if (pane == NULL) return -1;
        pane->number = number;
        pane->first = first;
        pane->low = first == AF_NO_FIRST ? low : first;
        pane->high = high;
        state->open_changed = 1;
        if (last) {
            state->panes[state->end++] = pane;
        } else {
            memmove(state->fresh + place + 1, state->fresh + place, (state->fresh_count - place) * sizeof *state->fresh);
            state->fresh[place] = pane;
            if (++state->fresh_count == AF_FRESH && !af_panes_settle(state)) return -1;
        }
    }
    if (!af_pane_reserve(&state->store, pane, group_count)) return -1;
    *found = pane;
    return 1;
}

#endif
