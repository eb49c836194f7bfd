/* The sessions of a group: which of them a row reaches.
 *
 * Few are a list, the latest first, that is searched from there: rows mostly come in order, and a step costs a load.  A search of more than
 * 24 steps makes the group's sessions a tree (tree.h), in the order of their last rows, until the last of them is gone: O(log n) for each
 * session that is found, in whatever order rows come.
 *
 * No two sessions of a group have the same last row, and no growing session leaves the order: what a row would carry it past is either
 * closed for the row, and then so is the session itself, or reached, and then the two are merged.
 *
 * While the watermarks of rows never fall, open sessions of a group are more than a gap apart, so a list's search ends at the first that
 * ends before the row.  Rows of several sources may bring lower watermarks, for which sessions are open that were closed for others: such
 * sessions may lie within each other.  From then on the whole of a list is searched; a tree also uses the earliest first row below each
 * node. */
#ifndef ASYNCFLOW_SESSION_SETS_H
#define ASYNCFLOW_SESSION_SETS_H

#include "base/cpu.h"
#include "base/slots.h"

typedef struct {
    int64_t first, last;
    int32_t group;    /* -1: the slot has no session */
    int32_t links[2]; /* list: the next later and earlier one; tree: left and right; -1: none */
    uint32_t turn;    /* generation: how often the slot was given back */
} af_session;

typedef struct {
    int64_t end;
    int32_t slot;
    uint32_t turn;
} af_session_due;

typedef struct {
    af_session_due *items;
    int64_t count, capacity;
} af_due_bucket;

enum { AF_BUCKETS = 65, AF_FEW_DUE = 1024 };

typedef struct {
    int64_t row;
    int32_t into, source;
} af_joined;

typedef struct {
    int64_t start, end, last;
    int32_t slot, group;
} af_closing;

typedef struct {
    int64_t first, last;
    int32_t slot;
} af_reached;

typedef struct {
    int64_t gap, advanced, greatest_mark;
    bool mixed; /* a row came with a lower watermark than one before it */
    af_session *sessions;
    int64_t session_capacity;
    af_slots slots;
    int64_t *leasts; /* of each session in a tree: the earliest first row of this one and those below it; NULL: there was no tree yet */
    int32_t *owned;  /* of each group: -1: no session, from 0 on the latest of a list, else -2 - the root of a tree */
    uint64_t seed;
    int64_t group_count, group_capacity;
    af_due_bucket due[AF_BUCKETS];
    af_joined *joined; /* of the batch */
    int64_t joined_count, joined_capacity;
    af_reached *reached; /* of the row, in the order in which they began */
    int64_t reached_count, reached_capacity;
    int64_t open, closed;
    af_closing *closing; /* sessions given out last */
    int64_t closing_count, closing_capacity;
} af_sessions;

AF_INLINE int64_t af_plus(int64_t time, int64_t length) {
    int64_t sum;
    return __builtin_add_overflow(time, length, &sum) ? INT64_MAX : sum;
}

AF_INLINE int64_t af_minus(int64_t time, int64_t length) {
    int64_t difference;
    return __builtin_sub_overflow(time, length, &difference) ? INT64_MIN : difference;
}

enum { AF_LATER, AF_EARLIER };
enum { AF_BARE = -2 }; /* a tree without nodes, while slots are renumbered: no root is slot 0 */

AF_INLINE void af_session_joined(af_sessions *state, int32_t at) {
    const af_session *session = &state->sessions[at];
    int64_t least = session->first;
    for (int i = 0; i < 2; i++)
        if (session->links[i] >= 0 && state->leasts[session->links[i]] < least) least = state->leasts[session->links[i]];
    state->leasts[at] = least;
}

#define AF_TREES af_sessions
#define AF_KEY_TYPE int64_t
#define AF_KEY(trees, at) ((trees)->sessions[at].last)
#define AF_LEFT_OF(trees, at) ((trees)->sessions[at].links[0])
#define AF_RIGHT_OF(trees, at) ((trees)->sessions[at].links[1])
#define AF_JOINED(trees, at) af_session_joined(trees, at)
#include "base/tree.h"

/* Room for so many sessions. */
AF_INLINE bool af_sessions_room(af_sessions *state, int64_t count) {
    const int64_t before = state->session_capacity;
    int64_t room = before;
    if (!af_grow(&state->sessions, &state->session_capacity, count, sizeof *state->sessions)) return false;
    if (state->leasts == NULL || state->session_capacity == before) return true;
    return af_resize(&state->leasts, &room, state->session_capacity, sizeof *state->leasts);
}

static void af_sessions_trim(af_sessions *state, int64_t count) {
    int64_t room = state->session_capacity;
    af_trim(&state->sessions, &state->session_capacity, count, sizeof *state->sessions);
    if (state->leasts != NULL && room != state->session_capacity)
        af_resize(&state->leasts, &room, state->session_capacity, sizeof *state->leasts);
}

AF_INLINE bool af_in_tree(int32_t owned) { return owned < -1; }

AF_INLINE int32_t af_root_of(int32_t owned) { return -2 - owned; }

/* Puts a session among those of its group: into the tree, or into the list before `later` (-1: as the latest). */
AF_INLINE void af_session_link(af_sessions *state, int32_t slot, int32_t later) {
    af_session *sessions = state->sessions, *session = &sessions[slot];
    int32_t *owned = &state->owned[session->group];
    if (AF_UNLIKELY(af_in_tree(*owned))) {
        *owned = -2 - af_tree_with(state, af_root_of(*owned), slot);
        return;
    }
    const int32_t earlier = later < 0 ? *owned : sessions[later].links[AF_EARLIER];
    session->links[AF_LATER] = later;
    session->links[AF_EARLIER] = earlier;
    if (earlier >= 0) sessions[earlier].links[AF_LATER] = slot;
    if (later >= 0)
        sessions[later].links[AF_EARLIER] = slot;
    else
        *owned = slot;
}

AF_INLINE void af_session_unlink(af_sessions *state, int32_t slot) {
    af_session *sessions = state->sessions, *session = &sessions[slot];
    int32_t *owned = &state->owned[session->group];
    if (AF_UNLIKELY(af_in_tree(*owned))) {
        const int32_t root = af_tree_without(state, af_root_of(*owned), slot);
        *owned = root < 0 ? -1 : -2 - root;
        return;
    }
    const int32_t later = session->links[AF_LATER], earlier = session->links[AF_EARLIER];
    if (later >= 0)
        sessions[later].links[AF_EARLIER] = earlier;
    else
        *owned = earlier;
    if (earlier >= 0) sessions[earlier].links[AF_LATER] = later;
}

/* Gives a session other first and last rows; `merged`: it reaches over others, which are gone. */
AF_INLINE void af_session_widen(af_sessions *state, int32_t slot, int64_t first, int64_t last, bool merged) {
    af_session *session = &state->sessions[slot];
    const bool moves = AF_UNLIKELY(af_in_tree(state->owned[session->group])) && (merged || first != session->first);
    if (moves) af_session_unlink(state, slot);
    session->first = first;
    session->last = last;
    if (moves) af_session_link(state, slot, -1);
}

/* From a list to a tree; false: no memory. */
AF_NOINLINE bool af_sessions_plant(af_sessions *state, int32_t group) {
    int64_t room = 0;
    if (state->leasts == NULL && !af_resize(&state->leasts, &room, state->session_capacity, sizeof *state->leasts)) return false;
    int32_t root = -1;
    for (int32_t slot = state->owned[group], earlier; slot >= 0; slot = earlier) {
        earlier = state->sessions[slot].links[AF_EARLIER];
        root = af_tree_with(state, root, slot);
    }
    state->owned[group] = -2 - root;
    return true;
}

/* The one that began first, of those the one that ends first: no two of a group have the same last row. */
static int af_reached_compare(const void *left, const void *right) {
    const af_reached *a = left, *b = right;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    return (a->last > b->last) - (a->last < b->last);
}

AF_INLINE bool af_reached_add(af_sessions *state, int32_t slot) {
    if (!af_grow(&state->reached, &state->reached_capacity, state->reached_count + 1, sizeof *state->reached)) return false;
    state->reached[state->reached_count++] = (af_reached){state->sessions[slot].first, state->sessions[slot].last, slot};
    return true;
}

/* Lists the sessions of a tree that are open for a row of this time and watermark and reached by it; false: no memory. */
static bool af_tree_reach(af_sessions *state, int32_t at, int64_t time, int64_t mark) {
    if (at < 0 || af_minus(state->leasts[at], state->gap) > time) return true;
    const af_session *session = &state->sessions[at];
    const int64_t end = af_plus(session->last, state->gap);
    if (end > mark && end >= time) {
        if (!af_tree_reach(state, session->links[0], time, mark)) return false;
        if (af_minus(session->first, state->gap) <= time && !af_reached_add(state, at)) return false;
    }
    return af_tree_reach(state, session->links[1], time, mark);
}

/* The same for a group.  `later`: the one that a new session at this time comes before in a list. */
AF_INLINE bool af_sessions_reach(af_sessions *state, int32_t group, int64_t time, int64_t mark, int32_t *later) {
    enum { LIST_STEPS = 24 };
    int steps = 0;
    state->reached_count = 0;
    for (int32_t slot = state->owned[group]; slot >= 0; slot = state->sessions[slot].links[AF_EARLIER]) {
        const af_session *session = &state->sessions[slot];
        if (AF_UNLIKELY(++steps > LIST_STEPS)) {
            if (!af_sessions_plant(state, group)) return false;
            break;
        }
        const int64_t end = af_plus(session->last, state->gap);
        if (end <= mark) continue;
        if (time > end) {
            if (!state->mixed) break;
        } else if (time < af_minus(session->first, state->gap)) {
            *later = slot;
        } else if (!af_reached_add(state, slot)) {
            return false;
        }
    }
    if (AF_UNLIKELY(af_in_tree(state->owned[group]))) {
        state->reached_count = 0;
        if (!af_tree_reach(state, af_root_of(state->owned[group]), time, mark)) return false;
    }
    const int64_t count = state->reached_count;
    if (count > LIST_STEPS) qsort(state->reached, (size_t)count, sizeof *state->reached, af_reached_compare);
    for (int64_t i = 1; i < count && count <= LIST_STEPS; i++) {
        const af_reached own = state->reached[i];
        int64_t at = i;
        for (; at > 0 && af_reached_compare(&own, &state->reached[at - 1]) < 0; at--) state->reached[at] = state->reached[at - 1];
        state->reached[at] = own;
    }
    return true;
}

/* Slots have moved down, each to its new name. */
static void af_sessions_renumber(af_sessions *state, const int32_t *names, int64_t count) {
    for (int64_t group = 0; group < state->group_count; group++) {
        int32_t *owned = &state->owned[group];
        *owned = af_in_tree(*owned) ? AF_BARE : *owned >= 0 ? names[*owned] : -1;
    }
    for (int64_t slot = 1; slot < count; slot++) {
        af_session *session = &state->sessions[slot];
        int32_t *owned = &state->owned[session->group];
        if (af_in_tree(*owned)) {
            *owned = -2 - af_tree_with(state, *owned == AF_BARE ? -1 : af_root_of(*owned), (int32_t)slot);
            continue;
        }
        for (int i = 0; i < 2; i++)
            if (session->links[i] >= 0) session->links[i] = names[session->links[i]];
    }
}

#endif
