/* The right rows that the clock has passed: found by left rows of their key, and gone when no left row to come can find them.
 *
 * Looking back, a left row can find only the last row of its key, by (time, arrival), of those known by then; so one row of a key is kept,
 * and the next takes its place.  Where right rows without a partner are given out (`one_each` is false) all are kept until they are due.
 *
 * Looking ahead, left rows come in the order of their times, so a row that lies before one of them lies before all that follow.  It is
 * taken from its list or heap then, and nearest remembers the last such row as `back`.  What a left row finds is the first of the list or
 * of the heap: O(1) for rows that come in order, O(log n) for others.  The heap is a skew heap [Sleator, Tarjan: Self-Adjusting Heaps,
 * 1986], merged from the top down.
 *
 * A row is due `reach` after its time.  A due row whose key has a later row in its place is looked at again when that one is due. */
#ifndef ASYNCFLOW_AS_OF_KNOWN_H
#define ASYNCFLOW_AS_OF_KNOWN_H

#include "as_of/waiting.h"

AF_INLINE bool af_as_of_row_before(const af_as_of_row *one, const af_as_of_row *other) {
    return af_as_of_before(one->time, one->arrival, other->time, other->arrival);
}

AF_INLINE bool af_as_of_sooner(const af_as_of_due *one, const af_as_of_due *other) {
    return af_as_of_before(one->time, one->arrival, other->time, other->arrival);
}

static int32_t af_as_of_heaps_merged(af_as_of_row *rows, int32_t one, int32_t other) {
    int32_t top = AF_AS_OF_NONE, *at = &top;
    while (one != AF_AS_OF_NONE && other != AF_AS_OF_NONE) {
        if (af_as_of_row_before(&rows[other], &rows[one])) {
            const int32_t swapped = one;
            one = other;
            other = swapped;
        }
        *at = one; /* the side that grows becomes the other side */
        const int32_t below = rows[one].other;
        rows[one].other = rows[one].next;
        at = &rows[one].next;
        one = below;
    }
    *at = one == AF_AS_OF_NONE ? other : one;
    return top;
}

AF_INLINE void af_as_of_pop_late(af_as_of *join, af_as_of_key *key) {
    const af_as_of_row *row = &join->rows[key->late];
    key->late = af_as_of_heaps_merged(join->rows, row->next, row->other);
}

static bool af_as_of_due_in_heap(af_as_of *join, af_as_of_due due) {
    if (!af_grow(&join->due_heap, &join->heap_capacity, join->heap_count + 1, sizeof *join->due_heap)) return false;
    af_as_of_due *heap = join->due_heap;
    int64_t at = join->heap_count++;
    for (; at && af_as_of_sooner(&due, &heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = due;
    return true;
}

static bool af_as_of_due_add(af_as_of *join, int32_t row) {
    const af_as_of_due due = {join->rows[row].time, join->rows[row].arrival, row};
    if (join->due_end > join->due_begin) {
        if (AF_UNLIKELY(af_as_of_sooner(&due, &join->dues[join->due_end - 1]))) return af_as_of_due_in_heap(join, due);
    }
    if (join->due_end == join->due_capacity && join->due_begin > join->due_capacity / 2) {
        memmove(join->dues, join->dues + join->due_begin, (size_t)(join->due_end - join->due_begin) * sizeof due);
        join->due_end -= join->due_begin;
        join->due_begin = 0;
    }
    if (!af_grow(&join->dues, &join->due_capacity, join->due_end + 1, sizeof due)) return false;
    join->dues[join->due_end++] = due;
    return true;
}

/* The row that is looked at first; NULL: none is. */
AF_INLINE const af_as_of_due *af_as_of_due_first(const af_as_of *join) {
    const af_as_of_due *listed = join->due_begin < join->due_end ? &join->dues[join->due_begin] : NULL;
    if (AF_LIKELY(!join->heap_count)) return listed;
    const af_as_of_due *heap = join->due_heap;
    return listed == NULL || af_as_of_sooner(heap, listed) ? heap : listed;
}

static void af_as_of_due_pop(af_as_of *join, const af_as_of_due *first) {
    if (first != join->due_heap) {
        if (++join->due_begin == join->due_end) join->due_begin = join->due_end = 0;
        return;
    }
    af_as_of_due *heap = join->due_heap;
    const af_as_of_due last = heap[--join->heap_count];
    const int64_t count = join->heap_count;
    int64_t at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && af_as_of_sooner(&heap[child + 1], &heap[child])) child++;
        if (!af_as_of_sooner(&heap[child], &last)) break;
        heap[at] = heap[child];
        at = child;
    }
    if (count) heap[at] = last;
}

AF_INLINE void af_as_of_count_right(af_as_of *join, bool matched) {
    join->sides[AF_AS_OF_RIGHT].matched += matched; /* nobody can foresee which: no branch */
    join->sides[AF_AS_OF_RIGHT].unmatched += !matched;
}

AF_INLINE bool af_as_of_touch(af_as_of *join, int32_t row) {
    if (!af_grow(&join->touched, &join->touched_capacity, join->touched_count + 1, sizeof row)) return false;
    join->touched[join->touched_count++] = row;
    return true;
}

/* The table has a row more; AF_AS_OF_NONE: no memory. */
static int32_t af_as_of_add_row(af_as_of *join, const af_as_of_waiting *from) {
    const int64_t top = join->row_slots.top + !join->row_slots.free_count;
    if (!af_grow(&join->rows, &join->row_capacity, top, sizeof *join->rows)) return AF_AS_OF_NONE;
    const int32_t row = af_slot_take(&join->row_slots);
    join->rows[row] = (af_as_of_row){from->time, from->arrival, from->key, from->ref, AF_AS_OF_NONE, AF_AS_OF_NONE, false, false};
    join->known++;
    if (join->reach >= 0 && !af_as_of_due_add(join, row)) return AF_AS_OF_NONE;
    if (from->ref < 0 && !af_as_of_touch(join, row)) return AF_AS_OF_NONE;
    return row;
}

/* Looking back: the row of the key is this one, if it is the later one. */
static bool af_as_of_known_back(af_as_of *join, const af_as_of_waiting *from) {
    af_as_of_key *key = &join->keys[from->key];
    if (AF_UNLIKELY(key->back == AF_AS_OF_NONE)) return (key->back = af_as_of_add_row(join, from)) != AF_AS_OF_NONE;
    af_as_of_row *row = &join->rows[key->back];
    if (AF_UNLIKELY(af_as_of_before(from->time, from->arrival, row->time, row->arrival))) {
        join->sides[AF_AS_OF_RIGHT].unmatched++;
        return af_as_of_give_up(&join->sides[AF_AS_OF_RIGHT], from->ref);
    }
    af_as_of_count_right(join, row->matched);
    const bool stood = row->ref >= 0;
    if (stood && !af_as_of_give_up(&join->sides[AF_AS_OF_RIGHT], row->ref)) return false;
    row->time = from->time;
    row->arrival = from->arrival;
    row->ref = from->ref;
    row->matched = false;
    return !stood || from->ref >= 0 || af_as_of_touch(join, key->back);
}

/* Looking ahead: into the list of the key, or into its heap. */
AF_INLINE void af_as_of_known_ahead(af_as_of *join, int32_t row) {
    af_as_of_row *own = &join->rows[row];
    af_as_of_key *key = &join->keys[own->key];
    own->late = key->head != AF_AS_OF_NONE && af_as_of_row_before(own, &join->rows[key->tail]);
    if (AF_UNLIKELY(own->late)) {
        key->late = af_as_of_heaps_merged(join->rows, key->late, row);
        return;
    }
    if (key->head == AF_AS_OF_NONE) key->head = row;
    else join->rows[key->tail].next = row;
    key->tail = row;
}

/* A row whose moment has come.  False: no memory. */
AF_INLINE bool af_as_of_known(af_as_of *join, const af_as_of_waiting *from) {
    if (AF_UNLIKELY(from->key == AF_AS_OF_NONE) && !join->right_alone) {
        join->sides[AF_AS_OF_RIGHT].unmatched++;
        return af_as_of_give_up(&join->sides[AF_AS_OF_RIGHT], from->ref);
    }
    if (join->one_each) return af_as_of_known_back(join, from);
    const int32_t row = af_as_of_add_row(join, from);
    if (row == AF_AS_OF_NONE || from->key == AF_AS_OF_NONE) return row != AF_AS_OF_NONE;
    if (join->direction != AF_AS_OF_BACKWARD) {
        af_as_of_known_ahead(join, row);
        return true;
    }
    af_as_of_key *key = &join->keys[from->key];
    if (key->back == AF_AS_OF_NONE || af_as_of_row_before(&join->rows[key->back], &join->rows[row])) key->back = row;
    return true;
}

/* The first row of a key that looks ahead; AF_AS_OF_NONE: none. */
AF_INLINE int32_t af_as_of_first_ahead(const af_as_of *join, const af_as_of_key *key) {
    if (AF_LIKELY(key->late == AF_AS_OF_NONE)) return key->head;
    return key->head == AF_AS_OF_NONE || af_as_of_row_before(&join->rows[key->late], &join->rows[key->head]) ? key->late : key->head;
}

AF_INLINE void af_as_of_pop_ahead(af_as_of *join, af_as_of_key *key, int32_t row) {
    if (row == key->head) key->head = join->rows[row].next;
    else af_as_of_pop_late(join, key);
}

/* The row that a left row of this key and time finds, of the rows that are known; AF_AS_OF_NONE: none. */
AF_INLINE int32_t af_as_of_find(af_as_of *join, af_as_of_direction direction, af_as_of_key *key, int64_t time) {
    const af_as_of_row *rows = join->rows;
    const int64_t tolerance = join->tolerance;
    if (direction == AF_AS_OF_BACKWARD) {
        const int32_t back = key->back;
        return back == AF_AS_OF_NONE || tolerance < 0 || rows[back].time >= af_as_of_shifted(time, -tolerance) ? back : AF_AS_OF_NONE;
    }
    int32_t ahead;
    for (; (ahead = af_as_of_first_ahead(join, key)) != AF_AS_OF_NONE; af_as_of_pop_ahead(join, key, ahead)) {
        if (direction == AF_AS_OF_FORWARD ? rows[ahead].time >= time : rows[ahead].time > time) break;
        if (direction == AF_AS_OF_FORWARD) continue;
        if (key->back == AF_AS_OF_NONE || af_as_of_row_before(&rows[key->back], &rows[ahead])) key->back = ahead;
    }
    if (ahead != AF_AS_OF_NONE && rows[ahead].time > af_as_of_shifted(time, tolerance)) ahead = AF_AS_OF_NONE;
    if (direction == AF_AS_OF_FORWARD) return ahead;
    int32_t back = key->back;
    if (back != AF_AS_OF_NONE && rows[back].time < af_as_of_shifted(time, -tolerance)) back = AF_AS_OF_NONE;
    if (back == AF_AS_OF_NONE || ahead == AF_AS_OF_NONE) return back == AF_AS_OF_NONE ? ahead : back;
    return (uint64_t)rows[ahead].time - (uint64_t)time < (uint64_t)time - (uint64_t)rows[back].time ? ahead : back;
}

/* The row leaves: no left row to come can find it. */
static bool af_as_of_leave(af_as_of *join, int32_t row) {
    af_as_of_row *own = &join->rows[row];
    if (own->key != AF_AS_OF_NONE) {
        af_as_of_key *key = &join->keys[own->key];
        if (key->back == row) key->back = AF_AS_OF_NONE;
        if (key->head == row) key->head = own->next;
        else if (key->late == row) af_as_of_pop_late(join, key);
    }
    af_as_of_count_right(join, own->matched);
    if (!af_as_of_give_up(&join->sides[AF_AS_OF_RIGHT], own->ref)) return false;
    own->key = AF_AS_OF_FREE;
    own->ref = 0;
    join->known--;
    return af_slot_give(&join->row_slots, row);
}

#endif
