/* Sessions: rows to slots, and slots that grow together.
 *
 * What is kept.  A session is a slot: the times of its first and last row, its group, and its neighbours in the list of the group's sessions,
 * latest first (32 bytes; mostly a list of one).  Its end is last + gap.  Slot 0 is nobody's: it takes the late rows.  Each has
 * one entry among those that are due, at an end that the session has had; one that has grown since is put back when its entry comes up, so
 * a session costs a step for each gap of its life, not for each row.  An entry of a slot that was merged away is told by its turn.
 * Entries are in buckets by the highest bit in which their end differs from the watermark (a radix heap: Ahuja, Mehlhorn, Orlin, Tarjan,
 * Faster algorithms for the shortest path problem, 1990): as the watermark moves on, whole buckets are due, and of one the entries move to
 * lower buckets, in the order of memory.
 *
 * A row.  With the watermark before it, sessions that end by that watermark are closed for it (they stay until `close`).  It joins the open
 * sessions that it reaches (|dt| <= gap to their first or last row, or within): several are merged into the one that began first.  Where it
 * reaches none it is late if its own session [t, t + gap) ends by the watermark, else it opens one.
 *
 * While the watermarks of rows never fall, open sessions of a group are more than a gap apart, so the search ends at the first that ends
 * before the row, and a row within or after the latest session needs no search.  Rows of several sources may bring lower watermarks; from
 * then on the whole list is searched. */
#ifndef ASYNCFLOW_SESSIONS_H
#define ASYNCFLOW_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "slots.h"

typedef struct {
    int64_t first, last;
    int32_t group;          /* -1: nobody's */
    int32_t later, earlier; /* neighbours in the group's list; -1: none */
    uint32_t turn;          /* how often the slot was given back */
} af_session;

typedef struct {
    int64_t end;
    int32_t slot;
    uint32_t turn;
} af_due;

typedef struct {
    af_due *items;
    int64_t count, capacity;
} af_bucket;

enum { AF_BUCKETS = 65, AF_FEW_DUE = 1024 };

typedef struct {
    int64_t row;
    int32_t into, source;
} af_joined;

typedef struct {
    int64_t start, end;
    int32_t slot, group;
} af_closing;

typedef struct {
    int64_t gap, advanced, greatest_mark;
    bool mixed; /* a row came with a lower watermark than one before it */
    af_session *sessions;
    int64_t session_capacity;
    af_slots slots;
    int32_t *latest; /* of each group; -1: none */
    int64_t group_count, group_capacity;
    af_bucket due[AF_BUCKETS];
    af_joined *joined; /* of the batch */
    int64_t joined_count, joined_capacity;
    int32_t *reached; /* of the row */
    int64_t reached_capacity;
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

/* False: no memory. */
static bool af_sessions_init(af_sessions *state, int64_t gap) {
    state->gap = gap;
    state->advanced = state->greatest_mark = INT64_MIN;
    state->slots.top = 1;
    if (!af_grow(&state->sessions, &state->session_capacity, 1, sizeof *state->sessions)) return false;
    state->sessions[0] = (af_session){0, 0, -1, -1, -1, 0};
    return true;
}

static void af_sessions_free(af_sessions *state) {
    free(state->sessions);
    free(state->slots.free_slots);
    free(state->latest);
    for (int i = 0; i < AF_BUCKETS; i++) free(state->due[i].items);
    free(state->joined);
    free(state->reached);
    free(state->closing);
    memset(state, 0, sizeof *state);
}

/* -- what is due ---------------------------------------------------------------------------------------------------- */

/* Ends are after the watermark, so this is how long the two are the same from the highest bit on. */
AF_INLINE int af_bucket_of(int64_t watermark, int64_t end) {
    const uint64_t different = (uint64_t)watermark ^ (uint64_t)end;
    return different ? 64 - __builtin_clzll(different) : 0;
}

AF_INLINE bool af_due_add(af_bucket *bucket, af_due entry) {
    if (!af_grow(&bucket->items, &bucket->capacity, bucket->count + 1, sizeof entry)) return false;
    bucket->items[bucket->count++] = entry;
    return true;
}

AF_INLINE bool af_due_push(af_sessions *state, af_due entry) {
    return af_due_add(&state->due[af_bucket_of(state->advanced, entry.end)], entry);
}

/* Forgets a bucket's entries, and its room where that is much. */
static void af_bucket_empty(af_bucket *bucket) {
    bucket->count = 0;
    if (bucket->capacity <= AF_FEW_DUE) return;
    free(bucket->items);
    bucket->items = NULL;
    bucket->capacity = 0;
}

/* -- sessions of a group -------------------------------------------------------------------------------------------- */

/* A new session behind `later` in the list of its group (-1: at its head); its slot, or -1: no memory. */
static int32_t af_session_open(af_sessions *state, int32_t group, int64_t time, int32_t later) {
    const int64_t top = state->slots.top;
    const int32_t slot = af_slot_take(&state->slots);
    if (!af_grow(&state->sessions, &state->session_capacity, state->slots.top, sizeof *state->sessions)) return -1;
    af_session *session = &state->sessions[slot];
    if (slot >= top) session->turn = 0;
    session->first = session->last = time;
    session->group = group;
    session->later = later;
    session->earlier = later < 0 ? state->latest[group] : state->sessions[later].earlier;
    if (session->earlier >= 0) state->sessions[session->earlier].later = slot;
    if (later >= 0)
        state->sessions[later].earlier = slot;
    else
        state->latest[group] = slot;
    state->open++;
    return af_due_push(state, (af_due){af_plus(time, state->gap), slot, session->turn}) ? slot : -1;
}

/* Takes a session out of its group's list and gives its slot back; false: no memory. */
static bool af_session_drop(af_sessions *state, int32_t slot) {
    af_session *session = &state->sessions[slot];
    if (session->later >= 0)
        state->sessions[session->later].earlier = session->earlier;
    else
        state->latest[session->group] = session->earlier;
    if (session->earlier >= 0) state->sessions[session->earlier].later = session->later;
    session->group = -1;
    session->turn++;
    state->open--;
    return af_slot_give(&state->slots, slot);
}

static bool af_sessions_reserve(af_sessions *state, int64_t groups) {
    if (!af_grow(&state->latest, &state->group_capacity, groups, sizeof *state->latest)) return false;
    for (; state->group_count < groups; state->group_count++) state->latest[state->group_count] = -1;
    return true;
}

AF_INLINE bool af_began_before(const af_sessions *state, int32_t left, int32_t right) {
    const af_session *a = &state->sessions[left], *b = &state->sessions[right];
    return a->first < b->first || (a->first == b->first && left < right);
}

/* Puts a row into its session: the slot, 0 where it is late, -1: no memory. */
static int32_t af_session_row(af_sessions *state, int64_t row, int32_t group, int64_t time, int64_t mark) {
    const int64_t gap = state->gap;
    int64_t count = 0;
    int32_t later = -1;
    for (int32_t slot = state->latest[group]; slot >= 0; slot = state->sessions[slot].earlier) {
        const af_session *session = &state->sessions[slot];
        if (af_plus(session->last, gap) <= mark) continue;
        if (time > af_plus(session->last, gap)) {
            if (!state->mixed) break;
        } else if (time < af_minus(session->first, gap)) {
            later = slot;
        } else {
            if (!af_grow(&state->reached, &state->reached_capacity, count + 1, sizeof slot)) return -1;
            int64_t at = count++;
            for (; at > 0 && af_began_before(state, slot, state->reached[at - 1]); at--) state->reached[at] = state->reached[at - 1];
            state->reached[at] = slot;
        }
    }
    if (count == 0) return af_plus(time, gap) <= mark ? 0 : af_session_open(state, group, time, later);
    const int32_t into = state->reached[0];
    af_session *session = &state->sessions[into];
    for (int64_t i = 1; i < count; i++) {
        const int32_t source = state->reached[i];
        if (state->sessions[source].last > session->last) session->last = state->sessions[source].last;
        if (!af_grow(&state->joined, &state->joined_capacity, state->joined_count + 1, sizeof *state->joined)) return -1;
        state->joined[state->joined_count++] = (af_joined){row, into, source};
        if (!af_session_drop(state, source)) return -1;
    }
    if (time < session->first) session->first = time;
    if (time > session->last) session->last = time;
    return into;
}

/* -- a batch -------------------------------------------------------------------------------------------------------- */

/* The slot of each row; positions of late rows, whose slot is 0; merges in `joined`.  False: no memory. */
static bool af_sessions_assign(af_sessions *state, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time,
                               const int64_t *watermarks, int64_t before, int64_t delay, int32_t *slots, int64_t *late,
                               int64_t *late_count) {
    enum { NEAR = 8, FAR = 16 };
    const int64_t gap = state->gap;
    int64_t running = before > state->advanced ? before : state->advanced, late_rows = 0;
    state->joined_count = 0;
    if (!af_sessions_reserve(state, group_count)) return false;
    for (int64_t row = 0; row < count; row++) {
        if (row + FAR < count) __builtin_prefetch(&state->latest[groups[row + FAR]]);
        if (row + NEAR < count) {
            const int32_t ahead = state->latest[groups[row + NEAR]];
            if (ahead >= 0) __builtin_prefetch(&state->sessions[ahead], 1);
        }
        const int32_t group = groups[row], latest = state->latest[group];
        const int64_t now = time[row];
        int64_t mark = running;
        if (watermarks != NULL) mark = watermarks[row] > state->advanced ? watermarks[row] : state->advanced;
        if (mark > state->greatest_mark) state->greatest_mark = mark;
        if (AF_UNLIKELY(mark < state->greatest_mark)) state->mixed = true;
        const int64_t moved = af_minus(now, delay);
        running = moved > running ? moved : running;
        if (AF_LIKELY(latest >= 0 && !state->mixed)) {
            af_session *session = &state->sessions[latest];
            const int64_t end = af_plus(session->last, gap);
            if (AF_LIKELY(end > mark && now >= session->first && now <= end)) {
                session->last = now > session->last ? now : session->last;
                slots[row] = latest;
                continue;
            }
        }
        const int32_t slot = af_session_row(state, row, group, now, mark);
        if (slot < 0) return false;
        slots[row] = slot;
        if (slot == 0) late[late_rows++] = row;
    }
    *late_count = late_rows;
    return true;
}

/* -- closing -------------------------------------------------------------------------------------------------------- */

static int af_closing_compare(const void *left, const void *right) {
    const af_closing *a = left, *b = right;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    if (a->start != b->start) return a->start < b->start ? -1 : 1;
    return (a->group > b->group) - (a->group < b->group);
}

/* Sorts what is listed by end, start and group: many by digits of the end first.  False: no memory. */
static bool af_closing_sort(af_sessions *state) {
    enum { DIGIT = 11, MANY = 512 };
    const int64_t count = state->closing_count;
    af_closing *from = state->closing, *to;
    if (count < MANY) {
        if (count > 1) qsort(from, (size_t)count, sizeof *from, af_closing_compare);
        return true;
    }
    af_closing *other = malloc((size_t)count * sizeof *other);
    if (other == NULL) return false;
    uint64_t least = (uint64_t)from[0].end, greatest = least;
    for (int64_t i = 1; i < count; i++) {
        if (from[i].end < (int64_t)least) least = (uint64_t)from[i].end;
        if (from[i].end > (int64_t)greatest) greatest = (uint64_t)from[i].end;
    }
    to = other;
    for (int shift = 0; shift < 64 && (greatest - least) >> shift; shift += DIGIT) {
        int64_t places[1 << DIGIT] = {0}, place = 0;
        for (int64_t i = 0; i < count; i++) places[((uint64_t)from[i].end - least) >> shift & ((1 << DIGIT) - 1)]++;
        for (int digit = 0; digit < 1 << DIGIT; digit++) {
            const int64_t size = places[digit];
            places[digit] = place;
            place += size;
        }
        for (int64_t i = 0; i < count; i++) to[places[((uint64_t)from[i].end - least) >> shift & ((1 << DIGIT) - 1)]++] = from[i];
        af_closing *sorted = to;
        to = from;
        from = sorted;
    }
    for (int64_t first = 0, next = 0; first < count; first = next) {
        while (next < count && from[next].end == from[first].end) next++;
        if (next - first > 1) qsort(from + first, (size_t)(next - first), sizeof *from, af_closing_compare);
    }
    if (from != state->closing) memcpy(state->closing, from, (size_t)count * sizeof *from);
    free(other);
    return true;
}

/* Takes note of the watermark and lists the sessions that end by it, by end, start and group; false: no memory. */
static bool af_sessions_close(af_sessions *state, int64_t watermark) {
    enum { AHEAD = 8 };
    if (state->closing_count < state->closing_capacity / 4) af_trim(&state->closing, &state->closing_capacity, state->closing_count, sizeof(af_closing));
    state->closing_count = 0;
    if (watermark <= state->advanced) return true;
    /* Entries of the buckets before the last of these are due; those of the last one may be, or are nearer now. */
    const int upto = af_bucket_of(state->advanced, watermark);
    af_bucket moving = {0};
    int64_t wanted = 0;
    for (int i = 0; i <= upto; i++) wanted += state->due[i].count;
    state->advanced = watermark;
    if (wanted == 0) return true;
    if (!af_grow(&moving.items, &moving.capacity, wanted, sizeof(af_due))) return false;
    for (int i = 0; i <= upto; i++) {
        if (state->due[i].count) memcpy(moving.items + moving.count, state->due[i].items, (size_t)state->due[i].count * sizeof(af_due));
        moving.count += state->due[i].count;
        af_bucket_empty(&state->due[i]);
    }
    bool done = true;
    for (int64_t i = 0; done && i < moving.count; i++) {
        if (i + AHEAD < moving.count) __builtin_prefetch(&state->sessions[moving.items[i + AHEAD].slot]);
        af_due entry = moving.items[i];
        if (entry.end <= watermark) {
            const af_session *session = &state->sessions[entry.slot];
            if (session->turn != entry.turn) continue;
            entry.end = af_plus(session->last, state->gap);
            if (entry.end <= watermark) {
                done = af_grow(&state->closing, &state->closing_capacity, state->closing_count + 1, sizeof(af_closing));
                if (done) state->closing[state->closing_count++] = (af_closing){session->first, entry.end, entry.slot, session->group};
                continue;
            }
        }
        done = af_due_push(state, entry);
    }
    free(moving.items);
    return done && af_closing_sort(state);
}

/* Gives the listed sessions back. */
static bool af_sessions_closed(af_sessions *state) {
    for (int64_t i = 0; i < state->closing_count; i++)
        if (!af_session_drop(state, state->closing[i].slot)) return false;
    state->closed += state->closing_count;
    return true;
}

/* Slots are numbered anew, without those that are free: `kept` gets the old ones (slot 0, then the open ones).  False: no memory. */
static bool af_sessions_compact(af_sessions *state, int32_t *kept) {
    int32_t *names = malloc((size_t)state->slots.top * sizeof *names);
    if (names == NULL) return false;
    int64_t count = 0;
    for (int64_t slot = 0; slot < state->slots.top; slot++) {
        names[slot] = -1;
        if (slot && state->sessions[slot].group < 0) continue;
        kept[count] = (int32_t)slot;
        names[slot] = (int32_t)count;
        state->sessions[count++] = state->sessions[slot];
    }
    for (int i = 0; i < AF_BUCKETS; i++) {
        af_bucket *bucket = &state->due[i];
        int64_t stay = 0;
        for (int64_t j = 0; j < bucket->count; j++) {
            const af_due entry = bucket->items[j];
            const int32_t slot = names[entry.slot]; /* it has moved down by now, and its turn with it */
            if (slot >= 0 && state->sessions[slot].turn == entry.turn) bucket->items[stay++] = (af_due){entry.end, slot, entry.turn};
        }
        bucket->count = stay;
    }
    for (int64_t slot = 0; slot < count; slot++) {
        af_session *session = &state->sessions[slot];
        if (session->later >= 0) session->later = names[session->later];
        if (session->earlier >= 0) session->earlier = names[session->earlier];
    }
    for (int64_t group = 0; group < state->group_count; group++)
        if (state->latest[group] >= 0) state->latest[group] = names[state->latest[group]];
    free(names);
    state->slots.top = count;
    state->slots.free_count = 0;
    af_trim(&state->sessions, &state->session_capacity, count, sizeof *state->sessions);
    af_trim(&state->slots.free_slots, &state->slots.free_capacity, 0, sizeof(int32_t));
    return true;
}

/* Groups are renamed: groups[i] becomes i; every group with a session is among them (ascending). */
static void af_sessions_rename(af_sessions *state, const int32_t *groups, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        state->latest[i] = groups[i] < state->group_count ? state->latest[groups[i]] : -1;
        for (int32_t slot = state->latest[i]; slot >= 0; slot = state->sessions[slot].earlier) state->sessions[slot].group = (int32_t)i;
    }
    state->group_count = count;
    af_trim(&state->latest, &state->group_capacity, count, sizeof *state->latest);
}

/* The end of the session that ends first; false: there is none. */
static bool af_sessions_next_end(const af_sessions *state, int64_t *end) {
    bool found = false;
    for (int64_t slot = 1; slot < state->slots.top; slot++) {
        const af_session *session = &state->sessions[slot];
        if (session->group < 0) continue;
        const int64_t own = af_plus(session->last, state->gap);
        if (!found || own < *end) *end = own;
        found = true;
    }
    return found;
}

static uint64_t af_sessions_bytes(const af_sessions *state) {
    uint64_t due = 0;
    for (int i = 0; i < AF_BUCKETS; i++) due += (uint64_t)state->due[i].capacity * sizeof(af_due);
    return (uint64_t)state->session_capacity * sizeof(af_session) + due +
           (uint64_t)(state->group_capacity + state->slots.free_capacity) * 4 + (uint64_t)state->closing_capacity * sizeof(af_closing) +
           (uint64_t)state->joined_capacity * sizeof(af_joined);
}

#endif
