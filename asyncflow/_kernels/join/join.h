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
 * Without a reach (as of, looking back for ever) the last row of a key drives the others out; late rows, which not every left row may see,
 * are looked through at the end of a sweep.
 *
 * Pairs and rows without a partner are given out by moment, and of one moment by arrival, left before right, none after all. */
#ifndef ASYNCFLOW_JOIN_H
#define ASYNCFLOW_JOIN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "join/chains.h"

enum { AF_AHEAD = 12 }; /* how many rows ahead memory is asked for */
enum { AF_FEW_MET = 16 }; /* pairs of a moment that are sorted in place */

static const int64_t AF_FIRST_TIME = INT64_MIN + 1, AF_LAST_TIME = INT64_MAX - 1;

/* time + by; what would not fit is the first or last instant there is. */
AF_INLINE int64_t af_shifted(int64_t time, int64_t by) {
    int64_t sum;
    if (__builtin_add_overflow(time, by, &sum)) return by < 0 ? AF_FIRST_TIME : AF_LAST_TIME;
    return sum < AF_FIRST_TIME ? AF_FIRST_TIME : sum > AF_LAST_TIME ? AF_LAST_TIME : sum;
}

static void af_join_init(af_join *join, af_join_mode mode, int64_t lower, int64_t upper, bool left_alone, bool right_alone, bool pairs,
                         bool firsts) {
    memset(join, 0, sizeof *join);
    join->mode = mode;
    join->pairs = pairs;
    join->firsts = firsts;
    join->clock = INT64_MIN;
    for (int port = 0; port < 2; port++) join->sides[port].due_first = join->sides[port].due_last = AF_NONE;
    join->sides[AF_LEFT].alone = left_alone;
    join->sides[AF_RIGHT].alone = right_alone;
    if (mode == AF_INTERVAL) {
        join->lower = lower;
        join->upper = upper;
        join->sides[AF_LEFT].reach = upper > 0 ? upper : 0;
        join->sides[AF_RIGHT].reach = lower < 0 ? -lower : 0;
        return;
    }
    join->tolerance = upper;
    join->wait = mode == AF_BACKWARD ? 0 : upper;
    join->sides[AF_RIGHT].reach = upper;
    if (mode == AF_NEAREST && __builtin_add_overflow(upper, upper, &join->sides[AF_RIGHT].reach)) join->sides[AF_RIGHT].reach = INT64_MAX;
}

static void af_join_free(af_join *join) {
    for (int port = 0; port < 2; port++) {
        af_join_side *side = &join->sides[port];
        free(side->rows);
        free(side->slots.free_slots);
        free(side->heap);
        free(side->gone);
        free(side->links);
        free(side->roots);
    }
    free(join->keys);
    free(join->numbers.buckets);
    free(join->numbers.names.free_slots);
    free(join->noted);
    free(join->met);
}

static uint64_t af_join_bytes(const af_join *join) {
    const int64_t keys = join->numbers.buckets == NULL ? join->key_count : join->numbers.count;
    uint64_t total = (uint64_t)keys * sizeof(af_join_key) + (uint64_t)join->noted_count * sizeof(int32_t);
    for (int port = 0; port < 2; port++) {
        const af_join_side *side = &join->sides[port];
        total += (uint64_t)side->live * sizeof(af_join_row) + (uint64_t)side->heap_count * sizeof(af_due_row);
        if (side->root_count) total += (uint64_t)side->slots.top * sizeof(af_links) + (uint64_t)side->root_count * sizeof(int32_t);
    }
    return total;
}

/* Room for keys up to `count`. */
static bool af_join_keys(af_join *join, int64_t count) {
    if (!af_grow(&join->keys, &join->key_capacity, count, sizeof *join->keys)) return false;
    for (; join->key_count < count; join->key_count++)
        join->keys[join->key_count] = AF_NEW_KEY;
    return true;
}

/* Takes rows in; their slots. */
static bool af_join_hold(af_join *join, int port, const int32_t *keys, const int64_t *times, const int64_t *seen, int64_t count,
                         int64_t *slots) {
    af_join_side *side = &join->sides[port];
    if (!af_grow(&side->rows, &side->row_capacity, side->slots.top + count, sizeof *side->rows)) return false;
    for (int64_t i = 0; i < count; i++) {
        const int32_t slot = af_slot_take(&side->slots);
        slots[i] = slot;
        side->rows[slot] = (af_join_row){
            .time = times[i], .seen = seen[i], .arrival = (uint64_t)side->arrived++, .key = keys[i], .next = AF_NONE, .prev = AF_NONE, .due = AF_NONE};
    }
    side->live += count;
    return true;
}

/* The same for keys that are numbers, which the join names; `valid` may be NULL.  Only of an interval join. */
static bool af_join_hold_numbers(af_join *join, int port, const int64_t *numbers, const uint8_t *valid, const int64_t *times,
                                 const int64_t *seen, int64_t count, int64_t *slots) {
    for (int64_t begin = 0; begin < count; begin += AF_NUMBER_BLOCK) {
        const int64_t block = count - begin < AF_NUMBER_BLOCK ? count - begin : AF_NUMBER_BLOCK;
        int32_t names[AF_NUMBER_BLOCK];
        if (!af_number_room(&join->numbers, &join->keys, &join->key_capacity)) return false;
        af_number_names(&join->numbers, join->keys, numbers + begin, valid == NULL ? NULL : valid + begin, block, names);
        join->key_count = join->numbers.names.top;
        if (!af_join_hold(join, port, names, times + begin, seen + begin, block, slots + begin)) return false;
    }
    return true;
}

/* The row leaves the state; its slot is given out again after the next `recycle`. */
static bool af_leave(af_join_side *side, int32_t slot) {
    af_join_row *row = &side->rows[slot];
    if (row->matched) side->matched++;
    else side->unmatched++;
    row->key = AF_FREE;
    side->live--;
    if (!af_grow(&side->gone, &side->gone_capacity, side->gone_count + 1, sizeof *side->gone)) return false;
    side->gone[side->gone_count++] = slot;
    return true;
}

/* --- what is due */

/* When the row is due. */
AF_INLINE int64_t af_due(const af_join_side *side, const af_join_row *row) {
    const int64_t expiry = af_shifted(row->time, side->reach);
    return row->seen > expiry ? row->seen : expiry;
}

static bool af_due_add(af_join_side *side, int32_t slot) {
    af_join_row *rows = side->rows;
    const int64_t time = af_due(side, &rows[slot]);
    if (AF_LIKELY(side->due_first == AF_NONE || af_due(side, &rows[side->due_last]) <= time)) {
        if (side->due_first == AF_NONE) side->due_first = slot;
        else rows[side->due_last].due = slot;
        side->due_last = slot;
        return true;
    }
    if (!af_grow(&side->heap, &side->heap_capacity, side->heap_count + 1, sizeof *side->heap)) return false;
    int64_t at = side->heap_count++;
    for (; at && side->heap[(at - 1) / 2].time > time; at = (at - 1) / 2) side->heap[at] = side->heap[(at - 1) / 2];
    side->heap[at] = (af_due_row){time, slot};
    return true;
}

/* When the row that is due first is so; none: false. */
AF_INLINE bool af_due_time(const af_join_side *side, int64_t *time) {
    const bool listed = side->due_first != AF_NONE;
    if (listed) *time = af_due(side, &side->rows[side->due_first]);
    if (AF_LIKELY(!side->heap_count)) return listed;
    if (!listed || side->heap[0].time < *time) *time = side->heap[0].time;
    return true;
}

static int32_t af_due_take(af_join_side *side) {
    if (!side->heap_count || (side->due_first != AF_NONE && af_due(side, &side->rows[side->due_first]) <= side->heap[0].time)) {
        const int32_t slot = side->due_first;
        side->due_first = side->rows[slot].due;
        return slot;
    }
    const int32_t slot = side->heap[0].slot;
    const af_due_row last = side->heap[--side->heap_count];
    const int64_t count = side->heap_count;
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && side->heap[child + 1].time < side->heap[child].time) child++;
        if (side->heap[child].time >= last.time) break;
        side->heap[at] = side->heap[child];
        at = child;
    }
    if (count) side->heap[at] = last;
    return slot;
}

/* --- results */

AF_INLINE int af_met_order(const af_met *a, const af_met *b) {
    if (a->left_arrival != b->left_arrival) return a->left_arrival < b->left_arrival ? -1 : 1;
    return a->right_arrival < b->right_arrival ? -1 : a->right_arrival > b->right_arrival;
}

static int af_met_compare(const void *a, const void *b) { return af_met_order(a, b); }

static bool af_give(af_join *join, int32_t left, int32_t right, int64_t release) {
    if (!af_grow(&join->met, &join->met_capacity, join->met_count + 1, sizeof *join->met)) return false;
    const af_join_row *one = left == AF_NONE ? NULL : &join->sides[AF_LEFT].rows[left];
    const af_join_row *other = right == AF_NONE ? NULL : &join->sides[AF_RIGHT].rows[right];
    const int64_t time = one == NULL ? other->time : other == NULL || one->time > other->time ? one->time : other->time;
    af_met *met = &join->met[join->met_count];
    *met = (af_met){release, time, one == NULL ? INT64_MAX : (int64_t)one->arrival, other == NULL ? INT64_MAX : (int64_t)other->arrival, left, right};
    if (join->met_count > join->group && af_met_order(met - 1, met) > 0) join->unordered = true;
    join->met_count++;
    return true;
}

static void af_end_group(af_join *join) {
    if (join->unordered) {
        af_met *met = join->met + join->group;
        const int64_t count = join->met_count - join->group;
        if (count > AF_FEW_MET) qsort(met, (size_t)count, sizeof *met, af_met_compare);
        else
            for (int64_t i = 1; i < count; i++) {
                const af_met own = met[i];
                int64_t at = i;
                for (; at && af_met_order(&met[at - 1], &own) > 0; at--) met[at] = met[at - 1];
                met[at] = own;
            }
    }
    join->group = join->met_count;
    join->unordered = false;
}

AF_INLINE bool af_meet(af_join *join, int32_t left, int32_t right, int64_t release) {
    af_join_row *one = &join->sides[AF_LEFT].rows[left], *other = &join->sides[AF_RIGHT].rows[right];
    bool done = true;
    if (join->pairs) done = af_give(join, left, right, release);
    else if (join->firsts && !one->matched) done = af_give(join, left, AF_NONE, release);
    one->matched = other->matched = 1;
    return done;
}

/* --- the sweep */

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

/* From now on the row is found. */
static bool af_enter(af_join *join, int port, int32_t slot) {
    af_join_side *side = &join->sides[port];
    const af_join_row *row = &side->rows[slot];
    if (row->key == AF_NONE) return side->reach < 0 ? af_leave(side, slot) : af_due_add(side, slot);
    if (!af_chain_insert(join, port, slot)) return false;
    if (side->reach >= 0) return af_due_add(side, slot);
    if (row->seen <= row->time) return af_drive_out(join, slot);
    if (join->keys[row->key].mark != AF_NONE) return true;
    if (!af_grow(&join->noted, &join->noted_capacity, join->noted_count + 1, sizeof *join->noted)) return false;
    join->noted[join->noted_count++] = row->key;
    join->keys[row->key].mark = 0;
    return true;
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
    if (AF_UNLIKELY(slot + 2 * AF_AHEAD >= side->slots.top)) return;
    __builtin_prefetch(&side->rows[slot + 2 * AF_AHEAD]);
    const int32_t key = side->rows[slot + AF_AHEAD].key;
    if (key >= 0) __builtin_prefetch(&join->keys[key]);
    if (join->numbers.buckets == NULL) return;
    const int32_t sooner = side->rows[slot + AF_AHEAD / 2].key;
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
    if (AF_UNLIKELY(ready->at + 3 * AF_AHEAD >= ready->count)) return;
    __builtin_prefetch(&side->rows[ready->slots[ready->at + 3 * AF_AHEAD]]);
    int32_t key = side->rows[ready->slots[ready->at + 2 * AF_AHEAD]].key;
    if (key >= 0) __builtin_prefetch(&join->keys[key]);
    key = side->rows[ready->slots[ready->at + AF_AHEAD]].key;
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

enum { AF_SWEPT, AF_MORE, AF_NO_MEMORY };

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
            if (join->met_count >= limit) return AF_MORE;
            instant = moment;
        }
        bool done;
        switch (next) {
            case RIGHT_COMES: done = af_arrive(join, AF_RIGHT, moment); break;
            case LEFT_COMES: done = af_arrive(join, AF_LEFT, moment); break;
            case LEFT_DUE: done = af_expire(join, AF_LEFT); break;
            default: done = af_expire(join, AF_RIGHT);
        }
        if (!done) return AF_NO_MEMORY;
    }
    af_end_group(join);
    if (!af_look_through(join)) return AF_NO_MEMORY;
    for (int64_t slot = 0; to_the_end && right->reach < 0 && slot < right->slots.top; slot++) {
        if (right->rows[slot].key == AF_FREE) continue;
        af_chain_remove(join, AF_RIGHT, (int32_t)slot);
        if (!af_leave(right, (int32_t)slot)) return AF_NO_MEMORY;
    }
    return AF_SWEPT;
}

/* --- order in the house */

/* The slots of the rows that left are given out again. */
static bool af_join_recycle(af_join_side *side) {
    for (int64_t i = side->gone_count - 1; i >= 0; i--)
        if (!af_slot_give(&side->slots, side->gone[i])) return false;
    side->gone_count = 0;
    return true;
}

AF_INLINE void af_rename(int32_t *slot, const int32_t *names) {
    if (*slot >= 0) *slot = names[*slot];
}

/* Slots without holes: `kept[new]` is the old one; nothing may be waiting for `recycle`.  false: no memory. */
static bool af_join_compact(af_join *join, int port, int64_t *kept) {
    af_join_side *side = &join->sides[port];
    int32_t *names = malloc((size_t)(side->slots.top + 1) * sizeof *names);
    if (names == NULL) return false;
    int64_t count = 0;
    for (int64_t slot = 0; slot < side->slots.top; slot++) {
        if (side->rows[slot].key == AF_FREE) continue;
        names[slot] = (int32_t)count;
        kept[count++] = slot;
    }
    for (int64_t i = 0; i < count; i++) {
        af_join_row row = side->rows[kept[i]];
        af_rename(&row.next, names);
        af_rename(&row.prev, names);
        af_rename(&row.due, names);
        side->rows[i] = row;
    }
    for (int64_t i = 0; i < side->heap_count; i++) af_rename(&side->heap[i].slot, names);
    af_rename(&side->due_first, names);
    if (side->due_first != AF_NONE) af_rename(&side->due_last, names);
    for (int64_t i = 0; i < join->key_count; i++) {
        af_rename(&join->keys[i].chains[port].head, names);
        af_rename(&join->keys[i].chains[port].tail, names);
        if (join->mode == AF_NEAREST && port == AF_RIGHT) af_rename(&join->keys[i].mark, names);
    }
    free(names);
    af_forget_trees(side);
    side->slots.top = count;
    side->slots.free_count = 0;
    af_trim(&side->links, &side->link_capacity, 0, sizeof *side->links);
    af_trim(&side->rows, &side->row_capacity, count, sizeof *side->rows);
    af_trim(&side->slots.free_slots, &side->slots.free_capacity, 0, sizeof *side->slots.free_slots);
    af_trim(&side->heap, &side->heap_capacity, side->heap_count, sizeof *side->heap);
    af_trim(&side->gone, &side->gone_capacity, 0, sizeof *side->gone);
    return true;
}

/* When the first row without a partner, of a side that gives such rows out, is due; false: none. */
static bool af_first_alone(const af_join_side *side, int64_t *time) {
    bool found = false;
    for (int64_t slot = 0; side->alone && slot < side->slots.top; slot++) {
        const af_join_row *row = &side->rows[slot];
        if (row->key == AF_FREE || row->matched) continue;
        const int64_t due = af_due(side, row);
        if (found && due >= *time) continue;
        *time = due;
        found = true;
    }
    return found;
}

/* Which keys rows are held of. */
static void af_join_live_keys(const af_join *join, uint8_t *live) {
    for (int port = 0; port < 2; port++)
        for (int64_t slot = 0; slot < join->sides[port].slots.top; slot++)
            if (join->sides[port].rows[slot].key >= 0) live[join->sides[port].rows[slot].key] = 1;
}

/* Key `kept[i]` becomes i; rows are held of no others. */
static bool af_join_keep_keys(af_join *join, const int32_t *kept, int64_t count) {
    int32_t *names = malloc((size_t)(join->key_count + 1) * sizeof *names);
    if (names == NULL) return false;
    for (int64_t i = 0; i < join->key_count; i++) names[i] = AF_NONE;
    for (int64_t i = 0; i < count; i++) {
        names[kept[i]] = (int32_t)i;
        join->keys[i] = join->keys[kept[i]];
    }
    for (int port = 0; port < 2; port++) {
        af_forget_trees(&join->sides[port]);
        for (int64_t slot = 0; slot < join->sides[port].slots.top; slot++) af_rename(&join->sides[port].rows[slot].key, names);
    }
    int64_t noted = 0;
    for (int64_t i = 0; i < join->noted_count; i++)
        if (names[join->noted[i]] != AF_NONE) join->noted[noted++] = names[join->noted[i]];
    join->noted_count = noted;
    join->key_count = count;
    af_trim(&join->keys, &join->key_capacity, 4 * count, sizeof *join->keys); /* they mostly come again, as many */
    free(names);
    return true;
}

/* Names without holes, of a join that gives them itself. */
static bool af_join_compact_numbers(af_join *join) {
    af_numbers *numbers = &join->numbers;
    int32_t *kept = malloc((size_t)(numbers->count + 1) * sizeof *kept);
    if (kept == NULL) return false;
    int64_t count = 0, bucket_count = AF_FIRST_BUCKETS;
    for (int64_t name = 0; name < numbers->names.top; name++)
        if (join->keys[name].rows) kept[count++] = (int32_t)name;
    while (bucket_count < 4 * count) bucket_count *= 2;
    const bool done = af_join_keep_keys(join, kept, count) && af_number_buckets(numbers, join->keys, count, bucket_count);
    numbers->names.top = count;
    numbers->names.free_count = 0;
    free(kept);
    return done;
}

/* Texts one after another: row i is `rows[i]` (without `rows`: i) of the source. */
static void af_copy_texts(const uint8_t *data, const int64_t *starts, const int32_t *lengths, const int64_t *rows, int64_t count,
                          uint8_t *out, const int64_t *places) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = rows == NULL ? i : rows[i];
        memcpy(out + places[i], data + starts[row], (size_t)lengths[row]);
    }
}

#endif
