/* Which rows are the first of their key: the times of rows that went on, by group.
 *
 * A group's greatest time stands in an array by group, 16 bytes each: a row that comes in order is judged by it alone, and the entries of the
 * rows behind it are fetched meanwhile.  Smaller times that are still remembered are older entries: a list, the greatest first, that is
 * searched from there by rows out of order.  A search of more than 24 steps makes a tree of them (tree.h), until all of them are forgotten: O(log n) a
 * row in whatever order rows come.  16 bytes an older entry.
 *
 * A time below the stage's watermark - within is overwritten by the next of its group, and its older entries are given back with it.  A search gives
 * back the rest of a list that it meets (of a tree its root with what stands before the root), a sweep over all groups what is left. */
#ifndef ASYNCFLOW_DEDUP_H
#define ASYNCFLOW_DEDUP_H

#include "base/slots.h"

typedef struct {
    int64_t time;
    int32_t left, right; /* list: right is the next; -1: none */
} af_time;

typedef struct {
    int64_t time;  /* the greatest of the group */
    int32_t older; /* its other times: -1: none, from 0 on the first of a list, else -2 - the root of a tree */
    int32_t held;  /* 0: the group remembers nothing, and has nothing older */
} af_seen;

typedef struct {
    uint64_t within, seed;
    int64_t watermark; /* the stage's, as last given: never falls */
    af_seen *seen;     /* of each group */
    af_time *times;    /* the older entries */
    int64_t group_count, group_capacity, groups_held, time_capacity, used, older, swept; /* swept: older entries after the last sweep */
    int32_t free; /* the first older entry that is free, the next one by `right` */
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
    free(state->seen);
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
    state->older--;
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

/* Forgets a group's older times. */
AF_INLINE void af_older_give(af_dedup *state, int32_t *older) {
    if (AF_LIKELY(*older == -1)) return;
    if (*older < -1)
        af_tree_give(state, -2 - *older);
    else
        af_list_give(state, *older);
    *older = -1;
}

/* -- a row ---------------------------------------------------------------------------------------------------------- */

/* A new older entry; -1: no memory. */
AF_INLINE int32_t af_time_take(af_dedup *state, int64_t time) {
    int32_t at = state->free;
    if (at >= 0) {
        state->free = state->times[at].right;
    } else {
        if (!af_grow(&state->times, &state->time_capacity, state->used + 1, sizeof *state->times)) return -1;
        at = (int32_t)state->used++;
    }
    state->times[at] = (af_time){time, -1, -1};
    state->older++;
    return at;
}

/* 1: the row goes on, 0: it is a duplicate, -1: no memory.  Times before `limit` do not count for it, those before `gone` for none. */
static int af_tree_row(af_dedup *state, int32_t *older, int64_t time, int64_t limit, int64_t gone) {
    const int64_t from = af_within_before(state, time), upto = af_within_after(state, time), least = from > limit ? from : limit;
    int32_t root = -2 - *older;
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
    *older = root < 0 ? added : -2 - af_tree_with(state, root, added);
    return 1;
}

static void af_tree_plant(af_dedup *state, int32_t *older) {
    int32_t root = -1;
    for (int32_t at = *older, next; at >= 0; at = next) {
        next = state->times[at].right;
        root = af_tree_with(state, root, at);
    }
    *older = -2 - root;
}

/* A row that is before the greatest time of its group. */
AF_NOINLINE int af_older_row(af_dedup *state, int32_t *older, int64_t time, int64_t limit, int64_t gone) {
    enum { LIST_STEPS = 24 };
    int32_t *link = older, before = -1;
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
            af_tree_plant(state, older);
            break;
        }
        before = at;
        link = &state->times[at].right;
    }
    if (AF_UNLIKELY(*older < -1)) return af_tree_row(state, older, time, limit, gone);
    if (time < gone) return 1;
    const int32_t added = af_time_take(state, time); /* which may move the entries */
    if (added < 0) return -1;
    link = before >= 0 ? &state->times[before].right : older;
    state->times[added].right = *link;
    *link = added;
    return 1;
}

/* A greater time takes the place of the greatest, which becomes the first of the older ones.  False: no memory. */
AF_NOINLINE bool af_seen_push(af_dedup *state, af_seen *seen, int64_t time) {
    const int32_t added = af_time_take(state, seen->time);
    if (added < 0) return false;
    if (seen->older < -1) {
        seen->older = -2 - af_tree_with(state, -2 - seen->older, added);
    } else {
        state->times[added].right = seen->older;
        seen->older = added;
    }
    seen->time = time;
    return true;
}

AF_INLINE int af_dedup_row(af_dedup *state, af_seen *seen, int64_t time, int64_t limit, int64_t gone) {
    if (seen->held) {
        const int64_t known = seen->time;
        const uint64_t apart = known > time ? (uint64_t)known - (uint64_t)time : (uint64_t)time - (uint64_t)known;
        if (known >= limit && apart <= state->within) return 0;
        if (AF_UNLIKELY(known > time)) return af_older_row(state, &seen->older, time, limit, gone);
        /* All other times of the group are further away. */
        if (time < gone) return 1;
        if (known >= gone) return af_seen_push(state, seen, time) ? 1 : -1;
        af_older_give(state, &seen->older);
        seen->time = time;
        return 1;
    }
    if (time < gone) return 1;
    *seen = (af_seen){time, -1, 1};
    state->groups_held++;
    return 1;
}

/* -- a batch -------------------------------------------------------------------------------------------------------- */

/* Forgets what this watermark has passed. */
static void af_dedup_sweep(af_dedup *state, int64_t watermark) {
    const int64_t gone = af_within_before(state, watermark);
    if (watermark > state->watermark) state->watermark = watermark;
    for (int64_t group = 0; group < state->group_count; group++) {
        af_seen *seen = &state->seen[group];
        if (seen->held && seen->time < gone) {
            af_older_give(state, &seen->older);
            seen->held = 0;
            state->groups_held--;
        }
        if (!seen->held || seen->older == -1) continue;
        int32_t *link = &seen->older, passed;
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
    state->swept = state->older;
}

/* The groups that remember anything, ascending. */
static void af_dedup_live(const af_dedup *state, int32_t *groups) {
    int64_t count = 0;
    for (int64_t group = 0; group < state->group_count && count < state->groups_held; group++) {
        groups[count] = (int32_t)group;
        count += state->seen[group].held;
    }
}

static bool af_dedup_reserve(af_dedup *state, int64_t groups) {
    if (!af_grow(&state->seen, &state->group_capacity, groups, sizeof *state->seen)) return false;
    for (; state->group_count < groups; state->group_count++) state->seen[state->group_count] = (af_seen){0, -1, 0};
    return true;
}

/* Takes rows; whether each goes on.  `watermarks`: before each row; NULL: it is `before`, and follows the rows' times by `delay`.  `watermark`: the
 * stage's.  False: no memory. */
static bool af_dedup_add(af_dedup *state, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time,
                         const int64_t *watermarks, int64_t before, int64_t delay, int64_t watermark, uint8_t *fresh) {
    enum { AHEAD = 24 };
    const int64_t gone = af_within_before(state, watermark);
    if (state->older > 2 * state->swept + (state->group_count < 1024 ? 1024 : state->group_count)) af_dedup_sweep(state, watermark);
    if (watermark > state->watermark) state->watermark = watermark;
    if (!af_dedup_reserve(state, group_count)) return false;
    int64_t moved;
    for (int64_t row = 0; row < count; row++) {
        if (row + AHEAD < count) __builtin_prefetch(&state->seen[groups[row + AHEAD]], 1);
        const int64_t limit = af_within_before(state, watermarks != NULL ? watermarks[row] : before);
        const int found = af_dedup_row(state, &state->seen[groups[row]], time[row], limit, gone);
        if (found < 0) return false;
        fresh[row] = (uint8_t)found;
        if (!__builtin_sub_overflow(time[row], delay, &moved) && moved > before) before = moved;
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

/* Groups are renamed, groups[i] becomes i, and older entries move together.  Every group that remembers anything is among them (ascending).
 * False: no memory. */
static bool af_dedup_keep(af_dedup *state, const int32_t *groups, int64_t count) {
    const int64_t capacity = state->older < 16 ? 16 : state->older;
    af_time *times = malloc((size_t)capacity * sizeof *times);
    if (times == NULL) return false;
    int64_t used = 0, held = 0;
    for (int64_t i = 0; i < count; i++) {
        af_seen *seen = &state->seen[i];
        *seen = state->seen[groups[i]];
        held += seen->held;
        if (AF_LIKELY(seen->older == -1)) continue;
        const int64_t first = used;
        if (seen->older < -1) {
            af_tree_list(state, -2 - seen->older, times, &used);
        } else {
            for (int32_t at = seen->older; at >= 0; at = state->times[at].right, used++)
                times[used] = (af_time){state->times[at].time, -1, (int32_t)used + 1};
        }
        times[used - 1].right = -1;
        seen->older = (int32_t)first;
    }
    free(state->times);
    state->times = times;
    state->time_capacity = capacity;
    state->used = state->older = used;
    state->free = -1;
    state->groups_held = held;
    state->group_count = count;
    af_trim(&state->seen, &state->group_capacity, count, sizeof *state->seen);
    return true;
}

#endif
