/* Sessions: rows to slots, and slots that grow together.
 *
 * What is kept.  A session is a slot: the times of its first and last row, its group, and two links to other sessions of the group (32 bytes).
 * Its end is last + gap.  Slot 0 is reserved for late rows.  Each session has one entry among those due, at an end that it has had; the entry
 * of a session that has grown since is put back when it comes up, so a session costs a step for each gap of its life, not for each row.
 * Stale entries, of sessions merged away, are recognised by the slot's generation number (`turn`).  Entries are in buckets by the highest bit in which their end differs from
 * the watermark (a radix heap: Ahuja, Mehlhorn, Orlin, Tarjan, Faster algorithms for the shortest path problem, 1990): as the watermark moves
 * on, whole buckets are due, and of one the entries move to lower buckets, in the order of memory.
 *
 * A row.  With the watermark before it, sessions that end by that watermark are closed for it (they stay until `close`).  It joins the open
 * sessions that it reaches (|dt| <= gap to their first or last row, or within): several are merged into the one that began first.  Where it
 * reaches none it is late if its own session [t, t + gap) ends by the watermark, else it opens one.  sessions/sets.h finds them. */
#ifndef ASYNCFLOW_SESSIONS_H
#define ASYNCFLOW_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sessions/sets.h"

/* False: no memory. */
static bool af_sessions_init(af_sessions *state, int64_t gap, uint64_t seed) {
    state->gap = gap;
    state->seed = seed;
    state->advanced = state->greatest_mark = INT64_MIN;
    state->slots.top = 1;
    if (!af_grow(&state->sessions, &state->session_capacity, 1, sizeof *state->sessions)) return false;
    state->sessions[0] = (af_session){0, 0, -1, {-1, -1}, 0};
    return true;
}

static void af_sessions_free(af_sessions *state) {
    free(state->sessions);
    free(state->slots.free_slots);
    free(state->leasts);
    free(state->owned);
    for (int i = 0; i < AF_BUCKETS; i++) free(state->due[i].items);
    free(state->joined);
    free(state->reached);
    free(state->closing);
    memset(state, 0, sizeof *state);
}

/* -- what is due ---------------------------------------------------------------------------------------------------- */

/* Ends are after the watermark, so this is how long the two are the same from the highest bit on. */
AF_INLINE int af_due_bucket_of(int64_t watermark, int64_t end) {
    const uint64_t different = (uint64_t)watermark ^ (uint64_t)end;
    return different ? 64 - __builtin_clzll(different) : 0;
}

AF_INLINE bool af_session_due_add(af_due_bucket *bucket, af_session_due entry) {
    if (!af_grow(&bucket->items, &bucket->capacity, bucket->count + 1, sizeof entry)) return false;
    bucket->items[bucket->count++] = entry;
    return true;
}

AF_INLINE bool af_session_due_push(af_sessions *state, af_session_due entry) {
    return af_session_due_add(&state->due[af_due_bucket_of(state->advanced, entry.end)], entry);
}

/* Forgets a bucket's entries, and its room where that is much. */
static void af_due_bucket_empty(af_due_bucket *bucket) {
    bucket->count = 0;
    if (bucket->capacity <= AF_FEW_DUE) return;
    free(bucket->items);
    bucket->items = NULL;
    bucket->capacity = 0;
}

/* -- sessions of a group -------------------------------------------------------------------------------------------- */

/* A new session, linked before `later` (af_session_link); its slot, or -1: no memory. */
static int32_t af_session_open(af_sessions *state, int32_t group, int64_t time, int32_t later) {
    const int64_t top = state->slots.top;
    const int32_t slot = af_slot_take(&state->slots);
    if (!af_sessions_room(state, state->slots.top)) return -1;
    af_session *session = &state->sessions[slot];
    if (slot >= top) session->turn = 0;
    session->first = session->last = time;
    session->group = group;
    af_session_link(state, slot, later);
    state->open++;
    return af_session_due_push(state, (af_session_due){af_plus(time, state->gap), slot, session->turn}) ? slot : -1;
}

/* Takes a session out of those of its group and gives its slot back; false: no memory. */
static bool af_session_drop(af_sessions *state, int32_t slot) {
    af_session_unlink(state, slot);
    af_session *session = &state->sessions[slot];
    session->group = -1;
    session->turn++;
    state->open--;
    return af_slot_give(&state->slots, slot);
}

static bool af_sessions_reserve(af_sessions *state, int64_t groups) {
    if (!af_grow(&state->owned, &state->group_capacity, groups, sizeof *state->owned)) return false;
    for (; state->group_count < groups; state->group_count++) state->owned[state->group_count] = -1;
    return true;
}

/* Puts a row into its session: the slot, 0 where it is late, -1: no memory. */
AF_NOINLINE int32_t af_session_row(af_sessions *state, int64_t row, int32_t group, int64_t time, int64_t mark) {
    int32_t later = -1;
    if (!af_sessions_reach(state, group, time, mark, &later)) return -1;
    const int64_t count = state->reached_count;
    if (count == 0) return af_plus(time, state->gap) <= mark ? 0 : af_session_open(state, group, time, later);
    const int32_t into = state->reached[0].slot;
    af_session *session = &state->sessions[into];
    int64_t last = time > session->last ? time : session->last;
    for (int64_t i = 1; i < count; i++) {
        const int32_t source = state->reached[i].slot;
        if (state->sessions[source].last > last) last = state->sessions[source].last;
        if (!af_grow(&state->joined, &state->joined_capacity, state->joined_count + 1, sizeof *state->joined)) return -1;
        state->joined[state->joined_count++] = (af_joined){row, into, source};
        if (!af_session_drop(state, source)) return -1;
    }
    af_session_widen(state, into, time < session->first ? time : session->first, last, count > 1);
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
        if (row + FAR < count) __builtin_prefetch(&state->owned[groups[row + FAR]]);
        if (row + NEAR < count) {
            const int32_t ahead = state->owned[groups[row + NEAR]];
            if (ahead >= 0) __builtin_prefetch(&state->sessions[ahead], 1);
        }
        const int32_t group = groups[row], latest = state->owned[group];
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
    if (a->group != b->group) return a->group < b->group ? -1 : 1;
    return (a->last > b->last) - (a->last < b->last); /* their ends may be the same, at the end of time */
}

/* Sorts what is listed by end, start, group and last row: many by digits of the end first.  False: no memory. */
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
    const int upto = af_due_bucket_of(state->advanced, watermark);
    af_due_bucket moving = {0};
    int64_t wanted = 0;
    for (int i = 0; i <= upto; i++) wanted += state->due[i].count;
    state->advanced = watermark;
    if (wanted == 0) return true;
    if (!af_grow(&moving.items, &moving.capacity, wanted, sizeof(af_session_due))) return false;
    for (int i = 0; i <= upto; i++) {
        if (state->due[i].count) memcpy(moving.items + moving.count, state->due[i].items, (size_t)state->due[i].count * sizeof(af_session_due));
        moving.count += state->due[i].count;
        af_due_bucket_empty(&state->due[i]);
    }
    bool done = true;
    for (int64_t i = 0; done && i < moving.count; i++) {
        if (i + AHEAD < moving.count) __builtin_prefetch(&state->sessions[moving.items[i + AHEAD].slot]);
        af_session_due entry = moving.items[i];
        if (entry.end <= watermark) {
            const af_session *session = &state->sessions[entry.slot];
            if (session->turn != entry.turn) continue;
            entry.end = af_plus(session->last, state->gap);
            if (entry.end <= watermark) {
                done = af_grow(&state->closing, &state->closing_capacity, state->closing_count + 1, sizeof(af_closing));
                if (done) state->closing[state->closing_count++] = (af_closing){session->first, entry.end, session->last, entry.slot, session->group};
                continue;
            }
        }
        done = af_session_due_push(state, entry);
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
        af_due_bucket *bucket = &state->due[i];
        int64_t stay = 0;
        for (int64_t j = 0; j < bucket->count; j++) {
            const af_session_due entry = bucket->items[j];
            const int32_t slot = names[entry.slot]; /* it has moved down by now, and its turn with it */
            if (slot >= 0 && state->sessions[slot].turn == entry.turn) bucket->items[stay++] = (af_session_due){entry.end, slot, entry.turn};
        }
        bucket->count = stay;
    }
    af_sessions_renumber(state, names, count);
    free(names);
    state->slots.top = count;
    state->slots.free_count = 0;
    af_sessions_trim(state, count);
    af_trim(&state->slots.free_slots, &state->slots.free_capacity, 0, sizeof(int32_t));
    return true;
}

/* Groups are renamed: groups[i] becomes i; every group with a session is among them (ascending).  False: no memory. */
static bool af_sessions_rename(af_sessions *state, const int32_t *groups, int64_t count) {
    int32_t *names = malloc((size_t)(state->group_count + 1) * sizeof *names);
    if (names == NULL) return false;
    for (int64_t i = 0; i < count; i++) {
        const bool known = groups[i] < state->group_count;
        if (known) names[groups[i]] = (int32_t)i;
        state->owned[i] = known ? state->owned[groups[i]] : -1;
    }
    for (int64_t slot = 1; slot < state->slots.top; slot++)
        if (state->sessions[slot].group >= 0) state->sessions[slot].group = names[state->sessions[slot].group];
    free(names);
    state->group_count = count;
    af_trim(&state->owned, &state->group_capacity, count, sizeof *state->owned);
    return true;
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
    for (int i = 0; i < AF_BUCKETS; i++) due += (uint64_t)state->due[i].capacity * sizeof(af_session_due);
    return (uint64_t)state->session_capacity * (sizeof(af_session) + (state->leasts != NULL ? 8 : 0)) + due +
           (uint64_t)(state->group_capacity + state->slots.free_capacity) * 4 + (uint64_t)state->closing_capacity * sizeof(af_closing) +
           (uint64_t)state->joined_capacity * sizeof(af_joined);
}

#endif
