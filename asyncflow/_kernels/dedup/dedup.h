/* Which rows are the first of their key: the times of rows that went on, by group.
 *
 * A group's times are a list, the greatest first, that is searched from there: rows mostly come in order, and their answer is the first
 * entry.  A search of more than 24 steps makes a tree of them (tree.h), until all of them are forgotten: O(log n) a row in whatever order rows
 * come.  16 bytes an entry, 4 a group.
 *
 * Entries below the stage's watermark - within are given back when a search meets them (the rest of a list; of a tree its root with what
 * stands before the root), and by a sweep over all groups once entries have doubled. */
#ifndef ASYNCFLOW_DEDUP_H
#define ASYNCFLOW_DEDUP_H

#include "base/slots.h"

typedef struct {
    int64_t time;
    int32_t left, right; /* list: right is the next; -1: none */
} af_time;

typedef struct {
    uint64_t within, seed;
    int64_t watermark; /* the stage's, as last given: never falls */
    af_time *times;
    int32_t *owned; /* of each group: -1: nothing, from 0 on the first of a list, else -2 - the root of a tree */
    int64_t time_capacity, group_count, group_capacity, used, entries, swept; /* swept: entries after the last sweep */
    int32_t free; /* the first entry that is free, the next one by `right` */
} af_dedup;

#define AF_TREES af_dedup
#define AF_KEY_TYPE int64_t
#define AF_KEY(trees, at) ((trees)->times[at].time)
#define AF_LEFT_OF(trees, at) ((trees)->times[at].left)
#define AF_RIGHT_OF(trees, at) ((trees)->times[at].right)
#define AF_JOINED(trees, at) ((void)0)
#include "base/tree.h"

static void af_dedup_init(af_dedup *state, uint64_t within, uint64_t seed) {
    *state = (af_dedup){.within = within, .seed = seed, .watermark = INT64_MIN, .free = -1};
}

static void af_dedup_free(af_dedup *state) {
    free(state->times);
    free(state->owned);
}

/* time - within, and time + within; what would not fit is the first or last instant there is. */
AF_INLINE int64_t af_within_before(const af_dedup *state, int64_t time) {
    int64_t sum;
    return __builtin_sub_overflow(time, (int64_t)state->within, &sum) ? INT64_MIN : sum;
}

AF_INLINE int64_t af_within_after(const af_dedup *state, int64_t time) {
    int64_t sum;
    return __builtin_add_overflow(time, (int64_t)state->within, &sum) ? INT64_MAX : sum;
}

/* -- giving back ---------------------------------------------------------------------------------------------------- */

AF_INLINE void af_time_give(af_dedup *state, int32_t at) {
    state->times[at].right = state->free;
    state->free = at;
    state->entries--;
}

static void af_list_give(af_dedup *state, int32_t at) {
    while (at >= 0) {
        const int32_t next = state->times[at].right;
        af_time_give(state, at);
        at = next;
    }
}

static void af_tree_give(af_dedup *state, int32_t at) {
    while (at >= 0) {
        const int32_t right = state->times[at].right;
        af_tree_give(state, state->times[at].left);
        af_time_give(state, at);
        at = right;
    }
}

/* -- a row ---------------------------------------------------------------------------------------------------------- */

/* A new entry; -1: no memory. */
AF_INLINE int32_t af_time_take(af_dedup *state, int64_t time) {
    int32_t at = state->free;
    if (at >= 0) {
        state->free = state->times[at].right;
    } else {
        if (!af_grow(&state->times, &state->time_capacity, state->used + 1, sizeof *state->times)) return -1;
        at = (int32_t)state->used++;
    }
    state->times[at] = (af_time){time, -1, -1};
    state->entries++;
    return at;
}

/* 1: the row goes on, 0: it is a duplicate, -1: no memory.  Entries before `limit` do not count for it, those before `gone` for none. */
static int af_tree_row(af_dedup *state, int32_t *owned, int64_t time, int64_t limit, int64_t gone) {
    const int64_t from = af_within_before(state, time), upto = af_within_after(state, time), least = from > limit ? from : limit;
    int32_t root = -2 - *owned;
    for (int32_t at = root; at >= 0;) {
        const int64_t known = state->times[at].time;
        if (known >= least && known <= upto) return 0;
        at = known > upto ? state->times[at].left : state->times[at].right;
    }
    if (time < gone) return 1;
    while (root >= 0 && state->times[root].time < gone) {
        const int32_t rest = state->times[root].right;
        af_tree_give(state, state->times[root].left);
        af_time_give(state, root);
        root = rest;
    }
    const int32_t added = af_time_take(state, time);
    if (added < 0) return -1;
    *owned = root < 0 ? added : -2 - af_tree_with(state, root, added);
    return 1;
}

AF_NOINLINE void af_tree_plant(af_dedup *state, int32_t *owned) {
    int32_t root = -1;
    for (int32_t at = *owned, next; at >= 0; at = next) {
        next = state->times[at].right;
        root = af_tree_with(state, root, at);
    }
    *owned = -2 - root;
}

AF_INLINE int af_dedup_row(af_dedup *state, int32_t *owned, int64_t time, int64_t limit, int64_t gone) {
    enum { LIST_STEPS = 24 };
    int32_t *link = owned, before = -1;
    for (int steps = 0; *link >= 0; steps++) {
        const int32_t at = *link;
        const int64_t known = state->times[at].time;
        if (known < gone) {
            *link = -1;
            af_list_give(state, at);
            break;
        }
        const uint64_t apart = known > time ? (uint64_t)known - (uint64_t)time : (uint64_t)time - (uint64_t)known;
        if (known >= limit && apart <= state->within) return 0;
        if (known <= time) break;
        if (AF_UNLIKELY(steps == LIST_STEPS)) {
            af_tree_plant(state, owned);
            break;
        }
        before = at;
        link = &state->times[at].right;
    }
    if (AF_UNLIKELY(*owned < -1)) return af_tree_row(state, owned, time, limit, gone);
    if (time < gone) return 1;
    const int32_t added = af_time_take(state, time); /* which may move the entries */
    if (added < 0) return -1;
    link = before >= 0 ? &state->times[before].right : owned;
    state->times[added].right = *link;
    *link = added;
    return 1;
}

/* -- a batch -------------------------------------------------------------------------------------------------------- */

/* Forgets what this watermark has passed. */
static void af_dedup_sweep(af_dedup *state, int64_t watermark) {
    const int64_t gone = af_within_before(state, watermark);
    if (watermark > state->watermark) state->watermark = watermark;
    for (int64_t group = 0; group < state->group_count; group++) {
        int32_t *link = &state->owned[group], passed;
        if (*link < -1) {
            int32_t root;
            af_tree_cut(state, -2 - *link, gone, &passed, &root);
            af_tree_give(state, passed);
            *link = root < 0 ? -1 : -2 - root;
            continue;
        }
        while (*link >= 0 && state->times[*link].time >= gone) link = &state->times[*link].right;
        passed = *link;
        *link = -1;
        af_list_give(state, passed);
    }
    state->swept = state->entries;
}

static bool af_dedup_reserve(af_dedup *state, int64_t groups) {
    if (!af_grow(&state->owned, &state->group_capacity, groups, sizeof *state->owned)) return false;
    for (; state->group_count < groups; state->group_count++) state->owned[state->group_count] = -1;
    return true;
}

/* Takes rows; whether each goes on.  `watermarks`: before each row; `watermark`: the stage's.  False: no memory. */
static bool af_dedup_add(af_dedup *state, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time,
                         const int64_t *watermarks, int64_t watermark, uint8_t *fresh) {
    const int64_t gone = af_within_before(state, watermark);
    if (state->entries > 2 * state->swept + (state->group_count < 1024 ? 1024 : state->group_count)) af_dedup_sweep(state, watermark);
    if (watermark > state->watermark) state->watermark = watermark;
    if (!af_dedup_reserve(state, group_count)) return false;
    for (int64_t row = 0; row < count; row++) {
        const int found = af_dedup_row(state, &state->owned[groups[row]], time[row], af_within_before(state, watermarks[row]), gone);
        if (found < 0) return false;
        fresh[row] = (uint8_t)found;
    }
    return true;
}

/* Moves the entries of a tree that are not less than its least one to new places, the greatest first, in a list. */
static void af_tree_list(const af_dedup *state, int32_t at, af_time *times, int64_t *count) {
    for (; at >= 0; at = state->times[at].left) {
        af_tree_list(state, state->times[at].right, times, count);
        times[*count] = (af_time){state->times[at].time, -1, (int32_t)*count + 1};
        ++*count;
    }
}

/* Groups are renamed, groups[i] becomes i, and entries move together.  Every group that remembers anything is among them (ascending).  False:
 * no memory. */
static bool af_dedup_keep(af_dedup *state, const int32_t *groups, int64_t count) {
    const int64_t capacity = state->entries < 16 ? 16 : state->entries;
    af_time *times = malloc((size_t)capacity * sizeof *times);
    if (times == NULL) return false;
    int64_t used = 0;
    for (int64_t i = 0; i < count; i++) {
        const int32_t owned = groups[i] < state->group_count ? state->owned[groups[i]] : -1;
        const int64_t first = used;
        if (owned < -1) {
            af_tree_list(state, -2 - owned, times, &used);
        } else {
            for (int32_t at = owned; at >= 0; at = state->times[at].right, used++)
                times[used] = (af_time){state->times[at].time, -1, (int32_t)used + 1};
        }
        if (used > first) times[used - 1].right = -1;
        state->owned[i] = used > first ? (int32_t)first : -1;
    }
    free(state->times);
    state->times = times;
    state->time_capacity = capacity;
    state->used = used;
    state->free = -1;
    state->group_count = count;
    af_trim(&state->owned, &state->group_capacity, count, sizeof *state->owned);
    return true;
}

#endif
