/* The rows that a join holds: taken in, due, gone.
 *
 * A row that the sweep has met waits until it is due.  Rows mostly come to be due in the order in which they come, so they are in a list; one
 * that came out of order is in a heap beside it.  A row that leaves is counted as matched or unmatched; its slot is given out again after the
 * next `recycle`. */
#ifndef ASYNCFLOW_JOIN_ROWS_H
#define ASYNCFLOW_JOIN_ROWS_H

#include "join/chains.h"

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
            .time = times[i], .seen = seen[i], .arrival = (uint64_t)side->arrived++, .key = keys[i], .next = AF_NONE, .prev = AF_NONE, .due = AF_COMING};
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

#endif
