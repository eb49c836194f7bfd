/* Joins by event time: the rows of two inputs that wait for each other, and the sweep that lets them meet.
 *
 * What is kept.  A row is a slot of its side (40 bytes): its time, the watermark before it, the number of its arrival, its key, and its
 * neighbours in the chain of its key, which is in the order of (time, arrival) (join/chains.h).  A row that the clock has passed is in its
 * chain until it is due: its time and `reach`, and the watermark before it, lie behind the clock.  Rows mostly come to be due in the order
 * in which they come, so they are in a list; one that came out of order is in a heap beside it.
 *
 * The sweep goes through time from the last clock to this one.  At each moment come first the right rows whose moment it is, then the left
 * ones, then what is due.  The moment of a row is its time, in an interval join the watermark before it where that is later; as of, the
 * left rows wait.  A row that comes searches the chain of its key on the other side, and is found by those that come later; so a pair is
 * found once, at the later of its moments.  As everything older has left, the search begins at the head of a chain and ends behind the last
 * row it meets: its cost is that of the pairs found.  As of looking back begins at the tail; the nearest to either side of a mark that
 * moves on with the left rows of the key.
 *
 * A pair of an interval join counts unless the watermark before one row lies beyond the other row's time and reach.  As of, a right row is
 * found where the watermark before it does not lie beyond the moment.
 *
 * Without a reach (as of, looking back without a limit) a row drives the earlier rows of its key out.  Late rows, which not every left row
 * may see, drive nothing out as they come: their keys are noted, and looked through at the end of a sweep.
 *
 * Pairs and rows without a partner are given out by moment, and of one moment by arrival, left before right, none after all. */
#ifndef ASYNCFLOW_JOIN_H
#define ASYNCFLOW_JOIN_H

#include "join/results.h"

enum { AF_JOIN_AHEAD = 12 }; /* how many rows ahead memory is asked for */

/* A row of an interval join meets those of the other side that came before it, of times in [low, high]. */
static bool af_search(af_join *join, int port, int32_t slot, int64_t low, int64_t high, int64_t release) {
    const af_join_row *own = &join->sides[port].rows[slot], *rows = join->sides[1 - port].rows;
    const int64_t expiry = af_shifted(own->time, join->sides[port].reach), reach = join->sides[1 - port].reach;
    for (int32_t at = join->keys[own->key].chains[1 - port].head; at != AF_NONE; at = rows[at].next) {
        if (rows[at].time > high) break;
        if (rows[at].time < low || rows[at].seen > expiry || own->seen > af_shifted(rows[at].time, reach)) continue;
        if (!(port == AF_LEFT ? af_meet(join, slot, at, release) : af_meet(join, at, slot, release))) return false;
    }
    return true;
}

/* The right row that is nearest to a left one, of those that it may see. */
static int32_t af_nearest(af_join *join, const af_join_row *left, int64_t release) {
    const af_join_row *rows = join->sides[AF_RIGHT].rows;
    af_join_key *key = &join->keys[left->key];
    const af_chain *chain = &key->chains[AF_RIGHT];
    const int64_t time = left->time;
    const int64_t low = join->tolerance < 0 ? INT64_MIN : af_shifted(time, -join->tolerance), high = af_shifted(time, join->tolerance);
    int32_t back = AF_NONE, ahead = AF_NONE;
    if (join->mode == AF_BACKWARD) {
        back = af_chain_back(join, AF_RIGHT, left->key, chain->tail, time, release);
    } else if (join->mode == AF_FORWARD) {
        ahead = af_chain_ahead(join, AF_RIGHT, left->key, chain->head, time, release);
    } else {
        const int64_t past = time < INT64_MAX ? time + 1 : time;
        if (af_chain_root(&join->sides[AF_RIGHT], left->key) < 0) { /* a tree needs no mark */
            ahead = key->mark == AF_NONE ? chain->head : rows[key->mark].next;
            for (; ahead != AF_NONE && rows[ahead].time <= time; ahead = rows[ahead].next) key->mark = ahead;
        }
        ahead = af_chain_ahead(join, AF_RIGHT, left->key, ahead, past, release);
        back = af_chain_back(join, AF_RIGHT, left->key, key->mark, time, release);
    }
    if (back != AF_NONE && rows[back].time < low) back = AF_NONE;
    if (ahead != AF_NONE && rows[ahead].time > high) ahead = AF_NONE;
    if (back == AF_NONE || ahead == AF_NONE) return back == AF_NONE ? ahead : back;
    return (uint64_t)rows[ahead].time - (uint64_t)time < (uint64_t)time - (uint64_t)rows[back].time ? ahead : back;
}

/* A left row that has waited long enough. */
static bool af_answer(af_join *join, int32_t slot, int64_t release) {
    af_join_side *side = &join->sides[AF_LEFT];
    const af_join_row *left = &side->rows[slot];
    const int32_t found = left->key == AF_NONE ? AF_NONE : af_nearest(join, left, release);
    bool done = true;
    if (found != AF_NONE) done = af_meet(join, slot, found, release);
    else if (side->alone) done = af_give(join, slot, AF_NONE, release);
    return done && af_leave(side, slot);
}

/* The rows of a chain before this one leave. */
static bool af_drive_out(af_join *join, int32_t slot) {
    af_join_side *side = &join->sides[AF_RIGHT];
    for (int32_t before = side->rows[slot].prev; before != AF_NONE; before = side->rows[slot].prev) {
        af_chain_remove(join, AF_RIGHT, before);
        if (!af_leave(side, before)) return false;
    }
    return true;
}

/* Without a reach: the rows of the key are looked through at the end of a sweep. */
static bool af_look_later(af_join *join, int32_t key) {
    if (join->keys[key].mark != AF_NONE) return true;
    if (!af_grow(&join->noted, &join->noted_capacity, join->noted_count + 1, sizeof *join->noted)) return false;
    join->noted[join->noted_count++] = key;
    join->keys[key].mark = 0;
    return true;
}

/* From now on the row is found. */
static bool af_enter(af_join *join, int port, int32_t slot) {
    af_join_side *side = &join->sides[port];
    const af_join_row *row = &side->rows[slot];
    if (row->key == AF_NONE) return side->reach < 0 ? af_leave(side, slot) : af_due_add(side, slot);
    if (!af_chain_insert(join, port, slot)) return false;
    if (side->reach >= 0) return af_due_add(side, slot);
    if (row->seen <= row->time) return af_drive_out(join, slot);
    return af_look_later(join, row->key);
}

/* What stands before a row that every left row to come may see leaves. */
static bool af_look_through(af_join *join) {
    int64_t kept = 0;
    for (int64_t i = 0; i < join->noted_count; i++) {
        af_join_key *key = &join->keys[join->noted[i]];
        const af_chain *chain = &key->chains[AF_RIGHT];
        const int32_t at = af_chain_back(join, AF_RIGHT, join->noted[i], chain->tail, INT64_MAX, join->clock);
        if (at != AF_NONE && !af_drive_out(join, at)) return false;
        if (chain->head != chain->tail) join->noted[kept++] = join->noted[i];
        else key->mark = AF_NONE;
    }
    join->noted_count = kept;
    return true;
}

/* Rows mostly leave in the order of their slots: the memory of those that may be next. */
AF_INLINE void af_ask_due(const af_join *join, const af_join_side *side, int64_t slot) {
    if (AF_UNLIKELY(slot + 2 * AF_JOIN_AHEAD >= side->slots.top)) return;
    __builtin_prefetch(&side->rows[slot + 2 * AF_JOIN_AHEAD]);
    const int32_t key = side->rows[slot + AF_JOIN_AHEAD].key;
    if (key >= 0) __builtin_prefetch(&join->keys[key]);
    if (join->numbers.buckets == NULL) return;
    const int32_t sooner = side->rows[slot + AF_JOIN_AHEAD / 2].key;
    if (sooner >= 0 && join->keys[sooner].rows == 1) __builtin_prefetch(af_number_bucket(&join->numbers, join->keys[sooner].number));
}

static bool af_expire(af_join *join, int port) {
    af_join_side *side = &join->sides[port];
    const int32_t slot = af_due_take(side);
    af_ask_due(join, side, slot);
    const af_join_row *row = &side->rows[slot];
    if (side->alone && !row->matched) {
        const int64_t release = af_due(side, row);
        if (!(port == AF_LEFT ? af_give(join, slot, AF_NONE, release) : af_give(join, AF_NONE, slot, release))) return false;
    }
    if (row->key != AF_NONE) {
        af_chain_remove(join, port, slot);
        if (join->numbers.buckets != NULL && !af_number_leave(&join->numbers, join->keys, row->key)) return false;
    }
    return af_leave(side, slot);
}

/* Memory that the rows behind this one will want: their own, then that of their keys, then the heads of the chains they search. */
AF_INLINE void af_ask(const af_join *join, int port) {
    const af_join_side *side = &join->sides[port], *other = &join->sides[1 - port];
    const af_ready *ready = &side->ready;
    if (AF_UNLIKELY(ready->at + 3 * AF_JOIN_AHEAD >= ready->count)) return;
    __builtin_prefetch(&side->rows[ready->slots[ready->at + 3 * AF_JOIN_AHEAD]]);
    int32_t key = side->rows[ready->slots[ready->at + 2 * AF_JOIN_AHEAD]].key;
    if (key >= 0) __builtin_prefetch(&join->keys[key]);
    key = side->rows[ready->slots[ready->at + AF_JOIN_AHEAD]].key;
    if (key < 0) return;
    const af_chain *chain = &join->keys[key].chains[1 - port];
    const int32_t slot = join->mode == AF_BACKWARD ? chain->tail : chain->head, before = join->keys[key].chains[port].tail;
    if (slot != AF_NONE) __builtin_prefetch(&other->rows[slot]);
    if (before != AF_NONE) __builtin_prefetch(&side->rows[before]);
}

static bool af_arrive(af_join *join, int port, int64_t release) {
    af_ready *ready = &join->sides[port].ready;
    af_ask(join, port);
    const int32_t slot = (int32_t)ready->slots[ready->at++];
    if (AF_UNLIKELY(join->sides[port].rows[slot].due != AF_COMING)) return true; /* no row that is to come: given twice */
    join->sides[port].rows[slot].due = AF_NONE;
    if (join->mode != AF_INTERVAL) return port == AF_LEFT ? af_answer(join, slot, release) : af_enter(join, port, slot);
    const af_join_row *row = &join->sides[port].rows[slot];
    const int64_t time = row->time;
    if (row->key != AF_NONE) {
        const int64_t low = af_shifted(time, port == AF_LEFT ? join->lower : -join->upper);
        const int64_t high = af_shifted(time, port == AF_LEFT ? join->upper : -join->lower);
        if (!af_search(join, port, slot, low, high, release)) return false;
    }
    return af_enter(join, port, slot);
}

enum { AF_JOIN_SWEPT, AF_JOIN_MORE, AF_JOIN_NO_MEMORY };

/* Goes on to the clock, or until `limit` results are there and their moment is over. */
static int af_join_sweep(af_join *join, int64_t limit) {
    af_join_side *left = &join->sides[AF_LEFT], *right = &join->sides[AF_RIGHT];
    const bool to_the_end = join->clock == INT64_MAX;
    int64_t instant = INT64_MIN;
    join->met_count = join->group = 0;
    join->unordered = false;
    for (;;) {
        enum { RIGHT_COMES, LEFT_COMES, LEFT_DUE, RIGHT_DUE, NOTHING } next = NOTHING;
        int64_t moment = INT64_MAX, time;
        if (right->ready.at < right->ready.count) {
            moment = right->ready.times[right->ready.at];
            next = RIGHT_COMES;
        }
        if (left->ready.at < left->ready.count) {
            time = left->ready.times[left->ready.at];
            if (join->wait) time = af_shifted(time, join->wait);
            if (time < moment || next == NOTHING) {
                moment = time;
                next = LEFT_COMES;
            }
        }
        if (left->reach >= 0 && af_due_time(left, &time) && (time < moment || next == NOTHING)) {
            moment = time;
            next = LEFT_DUE;
        }
        if (right->reach >= 0 && af_due_time(right, &time) && (time < moment || next == NOTHING)) {
            moment = time;
            next = RIGHT_DUE;
        }
        if (next == NOTHING || (moment >= join->clock && !to_the_end)) break;
        if (moment > instant) {
            af_end_group(join);
            if (join->met_count >= limit) return AF_JOIN_MORE;
            instant = moment;
        }
        bool done;
        switch (next) {
            case RIGHT_COMES: done = af_arrive(join, AF_RIGHT, moment); break;
            case LEFT_COMES: done = af_arrive(join, AF_LEFT, moment); break;
            case LEFT_DUE: done = af_expire(join, AF_LEFT); break;
            default: done = af_expire(join, AF_RIGHT);
        }
        if (!done) return AF_JOIN_NO_MEMORY;
    }
    af_end_group(join);
    if (!af_look_through(join)) return AF_JOIN_NO_MEMORY;
    for (int64_t slot = 0; to_the_end && right->reach < 0 && slot < right->slots.top; slot++) {
        if (right->rows[slot].key == AF_FREE || right->rows[slot].due == AF_COMING) continue;
        af_chain_remove(join, AF_RIGHT, (int32_t)slot);
        if (!af_leave(right, (int32_t)slot)) return AF_JOIN_NO_MEMORY;
    }
    return AF_JOIN_SWEPT;
}

#endif
