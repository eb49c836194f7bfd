/* The sweep of an interval join through time, from the last clock to this one.
 *
 * When a row comes: at its time, or at the watermark before it where that is later; and where the bounds say that its partners lie `delay` or
 * more after it, at `delay` after its time at the earliest.  So of a pair the row that comes later finds the other one, at the release of the
 * pair; of two that come at one moment it is the left one.
 *
 * Rows come in blocks of 64, of both sides in the order in which they come.  Each row takes its bucket's newest row of the other side and makes
 * itself the newest of its own: a row finds just those that came before it.  Then all rows of the block follow their chains at once, one step
 * of each after the other, so that memory is waited for together.  A chain runs from the newest to the oldest row, and a row that came in time
 * is found in the order of the times; so the search ends at the first such row that is older than the interval.  Its cost is that of the pairs,
 * of late rows on the way, and of rows of other keys in the bucket (half a row, on average).
 *
 * A pair counts unless the watermark before one row lies beyond the other's expiry.
 *
 * A row is due at its expiry, or at the watermark before it where that is later.  Rows in time are due in the order of the log: its base passes
 * them.  Late rows are due no later than their place in the log says, and in a heap besides; the base waits for them, and passes what left. */
#ifndef ASYNCFLOW_INTERVAL_SWEEP_H
#define ASYNCFLOW_INTERVAL_SWEEP_H

#include "interval/ahead.h"
#include "interval/results.h"

static bool af_log_late_add(af_log_side *side, uint32_t number) {
    if (!af_grow(&side->late, &side->late_room, side->late_count + 1, sizeof *side->late)) return false;
    const int64_t due = af_log_due(side, af_log_row_of(side, number));
    int64_t at = side->late_count++;
    for (; at && side->late[(at - 1) / 2].due > due; at = (at - 1) / 2) side->late[at] = side->late[(at - 1) / 2];
    side->late[at] = (af_log_late){due, number};
    return true;
}

static uint32_t af_log_late_take(af_log_side *side) {
    const uint32_t number = side->late[0].number;
    const af_log_late last = side->late[--side->late_count];
    const int64_t count = side->late_count;
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && side->late[child + 1].due < side->late[child].due) child++;
        if (side->late[child].due >= last.due) break;
        side->late[at] = side->late[child];
        at = child;
    }
    if (count) side->late[at] = last;
    return number;
}

AF_INLINE bool af_log_has_left(const af_log_row *row) { return row->seen == INT64_MAX; }

AF_INLINE bool af_log_leave(af_interval *join, int port, af_log_row *row, int64_t release) {
    af_log_side *side = &join->sides[port];
    if (row->matched) side->matched++;
    else {
        side->unmatched++;
        if (side->alone && !af_log_give_alone(join, port, row, release)) return false;
    }
    side->live--;
    af_log_place_free(side, row);
    return true;
}

/* When the next row of the log is due; false: none is.  The base passes rows that have left. */
AF_INLINE bool af_log_next_due(af_log_side *side, int64_t *due) {
    while (side->base != side->top && af_log_has_left(af_log_row_of(side, side->base))) side->base++;
    bool found = false;
    if (side->base != side->top && af_log_row_of(side, side->base)->seen == AF_LOG_IN_TIME) {
        *due = af_log_expiry(side, af_log_row_of(side, side->base));
        found = true;
    }
    if (AF_UNLIKELY(side->late_count) && (!found || side->late[0].due < *due)) {
        *due = side->late[0].due;
        found = true;
    }
    return found;
}

/* The row leaves that `af_log_next_due` found. */
static bool af_log_leave_next(af_interval *join, int port, int64_t due) {
    af_log_side *side = &join->sides[port];
    if (AF_UNLIKELY(side->late_count) && side->late[0].due == due) {
        af_log_row *row = af_log_row_of(side, af_log_late_take(side));
        const bool done = af_log_leave(join, port, row, due);
        row->seen = INT64_MAX;
        return done;
    }
    return af_log_leave(join, port, af_log_row_of(side, side->base++), due);
}

/* Rows of a side leave that are due before this moment, where none is late and none is given out alone. */
AF_INLINE void af_log_expire_in_time(af_log_side *side, int64_t moment) {
    uint32_t base = side->base;
    const uint32_t top = side->top;
    int64_t matched = 0;
    for (; base != top; base++) {
        const af_log_row *row = af_log_row_of(side, base);
        if (!af_log_has_left(row)) {
            if (af_log_expiry(side, row) >= moment) break;
            matched += row->matched;
            side->live--;
            side->unmatched++;
            af_log_place_free(side, row);
        }
    }
    side->matched += matched;
    side->unmatched -= matched;
    side->base = base;
}

/* Rows that are due before this moment leave; to_the_end: all. */
static bool af_log_expire(af_interval *join, int64_t moment, bool to_the_end) {
    if (AF_LIKELY(!join->sides[0].late_count && !join->sides[1].late_count && !join->sides[0].alone && !join->sides[1].alone && !to_the_end)) {
        for (int port = 0; port < 2; port++) af_log_expire_in_time(&join->sides[port], moment);
        return true;
    }
    for (;;) {
        int64_t dues[2] = {INT64_MAX, INT64_MAX};
        const bool left = af_log_next_due(&join->sides[AF_LOG_LEFT], &dues[AF_LOG_LEFT]);
        const bool right = af_log_next_due(&join->sides[AF_LOG_RIGHT], &dues[AF_LOG_RIGHT]);
        if (!left && !right) return true;
        const int port = left && (!right || dues[AF_LOG_LEFT] <= dues[AF_LOG_RIGHT]) ? AF_LOG_LEFT : AF_LOG_RIGHT;
        if (dues[port] >= moment && !to_the_end) return true;
        /* As many of this side as are due before those of the other one. */
        const int64_t other = port == AF_LOG_LEFT ? right ? dues[AF_LOG_RIGHT] : INT64_MAX : left ? dues[AF_LOG_LEFT] : INT64_MAX;
        int64_t due = dues[port];
        do {
            if (!af_log_leave_next(join, port, due)) return false;
        } while (af_log_next_due(&join->sides[port], &due) && (due < moment || to_the_end) && due <= other);
    }
}

typedef struct {
    uint32_t number, next; /* its own, and the next one of the other side to be looked at */
    int64_t key, low, high;
    bool late;
} af_log_comer;

/* When the next row comes, and of which side; false: none does. */
AF_INLINE bool af_log_next_comer(const af_interval *join, int *port, int64_t *comes) {
    const af_log_side *left = &join->sides[AF_LOG_LEFT], *right = &join->sides[AF_LOG_RIGHT];
    const bool lefts = left->ready_at < left->ready_count, rights = right->ready_at < right->ready_count;
    if (!lefts && !rights) return false;
    *port = rights && (!lefts || right->ready[right->ready_at].comes <= left->ready[left->ready_at].comes) ? AF_LOG_RIGHT : AF_LOG_LEFT;
    const af_log_side *side = &join->sides[*port];
    *comes = side->ready[side->ready_at].comes;
    return true;
}

AF_INLINE bool af_log_hit_room(af_interval *join) {
    return af_grow(&join->hits, &join->hit_room, join->hit_count + AF_LOG_BLOCK, sizeof *join->hits);
}

AF_INLINE bool af_log_counts(const af_interval *join, int port, const af_log_row *own, const af_log_row *other) {
    if (AF_LIKELY(own->seen == AF_LOG_IN_TIME && other->seen == AF_LOG_IN_TIME)) return true;
    return other->seen <= af_log_expiry(&join->sides[port], own) && own->seen <= af_log_expiry(&join->sides[1 - port], other);
}

/* The rows of the block look for those of the other side. */
static bool af_log_look(af_interval *join, af_log_comer *comers, const uint8_t *ports, uint8_t *active, int count) {
    join->hit_count = 0;
    while (count) {
        if (!af_log_hit_room(join)) return false;
        af_log_hit *hits = join->hits;
        int64_t hit_count = join->hit_count;
        int still = 0;
        for (int k = 0; k < count; k++) { /* no branch on what is found: it would mostly be foretold wrongly */
            const int who = active[k], port = ports[who];
            af_log_comer *comer = &comers[who];
            const af_log_side *others = &join->sides[1 - port];
            const af_log_row *other = af_log_row_of(others, comer->next);
            const int64_t time = other->time;
            const bool other_late = other->seen != AF_LOG_IN_TIME;
            bool meets = (other->key == comer->key) & (time >= comer->low) & (time <= comer->high);
            if (AF_UNLIKELY(other_late | comer->late))
                meets = meets && af_log_counts(join, port, af_log_row_of(&join->sides[port], comer->number), other);
            hits[hit_count].who = (uint32_t)who;
            hits[hit_count].number = comer->next;
            hit_count += meets;
            const uint32_t before = other->before;
            __builtin_prefetch(af_log_row_of(others, before));
            comer->next = before;
            active[still] = (uint8_t)who;
            still += ((time >= comer->low) | other_late) & af_log_alive(others, before);
        }
        join->hit_count = hit_count;
        count = still;
    }
    return true;
}

/* What the rows of the block have found, by the row, the oldest first. */
static bool af_log_give_hits(af_interval *join, const af_log_comer *comers, const uint8_t *ports, const int64_t *comes, int count) {
    int64_t places[AF_LOG_BLOCK + 1] = {0};
    const int64_t hit_count = join->hit_count;
    if (!hit_count) return true;
    if (!af_grow(&join->hits, &join->hit_room, 2 * hit_count, sizeof *join->hits) || !af_log_met_room(join, hit_count)) return false;
    af_log_hit *hits = join->hits, *sorted = hits + hit_count;
    for (int64_t i = 0; i < hit_count; i++) places[hits[i].who + 1]++;
    for (int k = 0; k < count; k++) places[k + 1] += places[k];
    for (int64_t i = hit_count; i--;) sorted[places[hits[i].who]++] = hits[i];
    for (int64_t i = 0; i < hit_count; i++) {
        const int who = (int)sorted[i].who, port = ports[who];
        af_log_row *own = af_log_row_of(&join->sides[port], comers[who].number), *other = af_log_row_of(&join->sides[1 - port], sorted[i].number);
        af_log_row *left = port == AF_LOG_LEFT ? own : other, *right = port == AF_LOG_LEFT ? other : own;
        const uint32_t place = af_log_offset(left, join->sides[AF_LOG_LEFT].places->swept_from);
        if (AF_LIKELY(join->pairs))
            af_log_give(join, comes[who], left->time > right->time ? left->time : right->time, place,
                        af_log_offset(right, join->sides[AF_LOG_RIGHT].places->swept_from));
        else if (join->firsts && !left->matched)
            af_log_give(join, comes[who], left->time, place, AF_LOG_NOBODY);
        own->matched = other->matched = 1;
    }
    return true;
}

AF_INLINE const af_log_ahead *af_log_ready(const af_log_side *side, int64_t at) { return side->ready == NULL ? NULL : side->ready + at; }

/* The next rows come, at most so many. */
static bool af_log_block(af_interval *join) {
    af_log_comer comers[AF_LOG_BLOCK];
    af_log_bucket *buckets[AF_LOG_BLOCK];
    const af_log_ahead *rows[AF_LOG_BLOCK];
    int64_t comes[AF_LOG_BLOCK];
    uint8_t ports[AF_LOG_BLOCK], active[AF_LOG_BLOCK];
    int count = 0, looking = 0;
    if (!af_log_room(join, AF_LOG_LEFT) || !af_log_room(join, AF_LOG_RIGHT)) return false;
    af_log_side *lefts = &join->sides[AF_LOG_LEFT], *rights = &join->sides[AF_LOG_RIGHT];
    const af_log_ahead *left = af_log_ready(lefts, lefts->ready_at), *left_end = af_log_ready(lefts, lefts->ready_count);
    const af_log_ahead *right = af_log_ready(rights, rights->ready_at), *right_end = af_log_ready(rights, rights->ready_count);
    while (count < AF_LOG_BLOCK && left != left_end && right != right_end) { /* no branch on which it is */
        const bool port = right->comes <= left->comes;
        rows[count] = port ? right : left;
        ports[count++] = port;
        right += port;
        left += !port;
    }
    for (; count < AF_LOG_BLOCK && left != left_end; ports[count++] = AF_LOG_LEFT) rows[count] = left++;
    for (; count < AF_LOG_BLOCK && right != right_end; ports[count++] = AF_LOG_RIGHT) rows[count] = right++;
    lefts->ready_at = lefts->ready_count - (left_end - left);
    rights->ready_at = rights->ready_count - (right_end - right);
    for (int k = 0; k < count; k++) {
        comes[k] = rows[k]->comes;
        buckets[k] = af_log_bucket_of(join, rows[k]->row.key);
        __builtin_prefetch(buckets[k], 1);
    }
    for (int k = 0; k < count; k++) {
        af_log_side *side = &join->sides[ports[k]], *others = &join->sides[1 - ports[k]];
        const uint32_t number = side->top++;
        af_log_row *row = af_log_row_of(side, number);
        *row = rows[k]->row;
        const bool late = row->seen != AF_LOG_IN_TIME;
        if (AF_UNLIKELY(late) && !af_log_late_add(side, number)) return false;
        if (AF_UNLIKELY(!row->keyed)) continue;
        const uint32_t next = buckets[k]->newest[1 - ports[k]];
        row->before = buckets[k]->newest[ports[k]];
        buckets[k]->newest[ports[k]] = number;
        __builtin_prefetch(af_log_row_of(others, next));
        comers[k] = (af_log_comer){number, next, row->key, af_log_shifted(row->time, side->low), af_log_shifted(row->time, side->high), late};
        active[looking] = (uint8_t)k;
        looking += af_log_alive(others, next);
    }
    return af_log_look(join, comers, ports, active, looking) && af_log_give_hits(join, comers, ports, comes, count);
}

enum { AF_LOG_SWEPT, AF_LOG_MORE, AF_LOG_NO_MEMORY };

/* Goes on to the clock, or until `limit` results are there and the last instant of them is over.  Those that are there stay in front. */
static int af_log_sweep(af_interval *join, int64_t clock, int64_t limit) {
    const bool to_the_end = clock == INT64_MAX;
    if (!join->sweeping) {
        join->clock = clock;
        for (int port = 0; port < 2; port++)
            if (!af_log_ready_now(&join->sides[port], clock)) return AF_LOG_NO_MEMORY;
        join->sweeping = true;
    }
    join->met_count -= join->met_from;
    if (join->met_from && join->met_count) memmove(join->met, join->met + join->met_from, (size_t)join->met_count * sizeof *join->met);
    join->met_from = 0;
    join->instant = join->met_count;
    join->unordered = false;
    for (;;) {
        int port;
        int64_t next = clock;
        const bool comes = af_log_next_comer(join, &port, &next);
        if (!af_log_expire(join, next, to_the_end && !comes) || !af_log_order_met(join, next, to_the_end && !comes)) return AF_LOG_NO_MEMORY;
        if (!comes) break;
        if (join->met_count && join->met_count >= limit && join->met[join->met_count - 1].release < next) {
            join->moment = next;
            return AF_LOG_MORE;
        }
        join->unordered |= join->sides[AF_LOG_LEFT].alone || join->sides[AF_LOG_RIGHT].alone; /* rows that are due in the block go among its pairs */
        if (!af_log_block(join)) return AF_LOG_NO_MEMORY;
    }
    for (int port = 0; port < 2; port++) af_log_runs_trim(&join->sides[port]);
    if (!af_log_trim(join)) return AF_LOG_NO_MEMORY;
    join->sweeping = false;
    join->moment = INT64_MAX;
    return AF_LOG_SWEPT;
}

#endif
