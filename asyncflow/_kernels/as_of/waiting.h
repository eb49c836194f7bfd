/* The rows of a side that the clock has not passed, in the order of (moment, arrival).
 *
 * They stand in a few sorted runs.  A batch that goes on in order is appended to the last run; any other is sorted, becomes a run, and is
 * merged with the runs before it that are less than twice as long: O(log n) a row, whatever the order.  What the clock has passed is a
 * prefix of each run.
 *
 * A batch that comes after all rows that wait, and each row of which counts from its time on, is left in the caller's arrays (`straight`)
 * until the queue is asked for more than its first rows: mostly the clock has passed it by then. */
#ifndef ASYNCFLOW_AS_OF_WAITING_H
#define ASYNCFLOW_AS_OF_WAITING_H

#include "as_of/state.h"

AF_INLINE bool af_as_of_waits_longer(const af_as_of_waiting *one, const af_as_of_waiting *other) {
    return af_as_of_before(other->moment, other->arrival, one->moment, one->arrival);
}

/* Merges two sorted stretches; the room begins nowhere within them. */
static void af_as_of_merge(const af_as_of_waiting *one, const af_as_of_waiting *one_end, const af_as_of_waiting *other,
                           const af_as_of_waiting *other_end, af_as_of_waiting *out) {
    while (one < one_end && other < other_end) *out++ = af_as_of_waits_longer(one, other) ? *other++ : *one++;
    while (one < one_end) *out++ = *one++;
    while (other < other_end) *out++ = *other++;
}

enum { AF_AS_OF_FEW_SORTED = 16 };

/* Sorts by (moment, arrival): short stretches in place, then merged; those in order already are left as they are.  False: no memory. */
static bool af_as_of_sort_waiting(af_as_of_waiting *items, int64_t count) {
    for (int64_t first = 0; first < count; first += AF_AS_OF_FEW_SORTED) {
        const int64_t stop = first + AF_AS_OF_FEW_SORTED < count ? first + AF_AS_OF_FEW_SORTED : count;
        for (int64_t i = first + 1; i < stop; i++) {
            const af_as_of_waiting own = items[i];
            int64_t at = i;
            for (; at > first && af_as_of_waits_longer(&items[at - 1], &own); at--) items[at] = items[at - 1];
            items[at] = own;
        }
    }
    if (count <= AF_AS_OF_FEW_SORTED) return true;
    af_as_of_waiting *room = malloc((size_t)count * sizeof *room);
    if (room == NULL) return false;
    for (int64_t width = AF_AS_OF_FEW_SORTED; width < count; width *= 2)
        for (int64_t first = 0; first + width < count; first += 2 * width) {
            af_as_of_waiting *middle = items + first + width;
            const int64_t stop = first + 2 * width < count ? first + 2 * width : count;
            if (!af_as_of_waits_longer(middle - 1, middle)) continue;
            memcpy(room, items + first, (size_t)width * sizeof *room);
            af_as_of_merge(room, room + width, middle, items + stop, items + first);
        }
    free(room);
    return true;
}

/* Room for `count` rows more at the end of a run. */
static bool af_as_of_room_in_run(af_as_of_run *run, int64_t count) {
    if (run->end + count <= run->capacity) return true;
    const int64_t held = run->end - run->begin;
    if (run->begin && held + count <= run->capacity - run->capacity / 4) {
        memmove(run->items, run->items + run->begin, (size_t)held * sizeof *run->items);
        run->begin = 0;
        run->end = held;
        return true;
    }
    return af_grow(&run->items, &run->capacity, run->end + count, sizeof *run->items);
}

/* The last two runs become one while the first of them is less than twice as long. */
static bool af_as_of_balance(af_as_of_side *side) {
    while (side->run_count > 1) {
        af_as_of_run *one = &side->runs[side->run_count - 2], *last = one + 1;
        const int64_t held = one->end - one->begin, added = last->end - last->begin;
        if (held >= 2 * added && side->run_count < AF_AS_OF_MOST_RUNS) return true;
        af_as_of_run whole = {NULL, 0, held + added, 0};
        if (!af_grow(&whole.items, &whole.capacity, held + added, sizeof *whole.items)) return false;
        af_as_of_merge(one->items + one->begin, one->items + one->end, last->items + last->begin, last->items + last->end, whole.items);
        free(one->items);
        free(last->items);
        *one = whole;
        side->run_count--;
    }
    return true;
}

/* The last `count` rows of the last run, which are not in order, become a run of their own. */
static bool af_as_of_split_off(af_as_of_side *side, int64_t count) {
    af_as_of_run *last = &side->runs[side->run_count - 1], *own = last + 1;
    side->scattered = true;
    if (last->end - last->begin == count) {
        if (!af_as_of_sort_waiting(last->items + last->begin, count)) return false;
        return af_as_of_balance(side);
    }
    *own = (af_as_of_run){NULL, 0, 0, 0};
    if (!af_grow(&own->items, &own->capacity, count, sizeof *own->items)) return false;
    side->run_count++;
    last->end -= count;
    own->end = count;
    memcpy(own->items, last->items + last->end, (size_t)count * sizeof *own->items);
    return af_as_of_sort_waiting(own->items, count) && af_as_of_balance(side);
}

AF_INLINE af_as_of_waiting af_as_of_straight_row(const af_as_of_straight *batch, int64_t row) {
    return (af_as_of_waiting){batch->times[row], batch->times[row], batch->arrival + row, af_as_of_fresh(row), batch->keys[row]};
}

/* The first row of a straight batch that the clock has not passed. */
AF_INLINE int64_t af_as_of_straight_first(const af_as_of_straight *batch) { return batch->at > batch->passed ? batch->at : batch->passed; }

/* The last run, with room for `count` rows more; NULL: no memory. */
static af_as_of_run *af_as_of_last_run(af_as_of_side *side, int64_t count) {
    if (!side->run_count) {
        side->runs[0] = (af_as_of_run){NULL, 0, 0, 0};
        side->run_count = 1;
    }
    af_as_of_run *run = &side->runs[side->run_count - 1];
    return af_as_of_room_in_run(run, count) ? run : NULL;
}

/* What waits of the straight batch goes into the last run; no sweep is under way.  False: no memory. */
static bool af_as_of_enqueue(af_as_of_side *side) {
    af_as_of_straight *batch = &side->straight;
    if (batch->at < batch->count) {
        af_as_of_run *run = af_as_of_last_run(side, batch->count - batch->at);
        if (run == NULL) return false;
        for (; batch->at < batch->count; batch->at++) run->items[run->end++] = af_as_of_straight_row(batch, batch->at);
    }
    *batch = (af_as_of_straight){0};
    return true;
}

/* Whether a batch comes after all rows that wait, and the moment of each row is its time; only joins of `one_each` have use for that. */
static bool af_as_of_goes_on(const af_as_of *join, const af_as_of_side *side, const int64_t *times, const int64_t *marks, int64_t before,
                             int64_t count) {
    if (!join->one_each) return false;
    if (times[0] < join->clock || (marks == NULL && times[0] < before)) return false; /* what is before a row in order is not above it */
    for (int64_t i = 0; i < side->run_count; i++) {
        const af_as_of_run *run = &side->runs[i];
        if (run->end > run->begin && run->items[run->end - 1].moment > times[0]) return false;
    }
    bool falls = false;
    for (int64_t i = 1; i < count; i++) falls |= times[i] < times[i - 1];
    for (int64_t i = 0; marks != NULL && i < count; i++) falls |= times[i] < marks[i];
    return !falls;
}

/* Takes a batch in, whose rows are fresh from now on.  Of row i the watermark before it is `marks[i]`, or without `marks` the greater of
 * `before` and the greatest time of the rows before it less `delay`; it is not below the clock.  `late[i]`, which is false before: the row
 * counts nowhere, and is not kept.  `partly`: how many of the others count in some results only.  `keys` and `times` stay as they are until
 * `af_as_of_enqueue`.  False: no memory. */
static bool af_as_of_hold(af_as_of *join, int port, const int32_t *keys, const int64_t *times, const int64_t *marks, int64_t before,
                          int64_t delay, int64_t count, uint8_t *late, int64_t *late_count, int64_t *partly) {
    af_as_of_side *side = &join->sides[port];
    if (!af_as_of_enqueue(side)) return false;
    if (af_as_of_goes_on(join, side, times, marks, before, count)) {
        side->straight = (af_as_of_straight){keys, times, 0, 0, count, side->arrived};
        side->arrived += count;
        side->waiting += count;
        side->has_fresh = true;
        side->scattered = false;
        *late_count = *partly = 0;
        return true;
    }
    af_as_of_run *run = af_as_of_last_run(side, count);
    if (run == NULL) return false;
    const int64_t patience = port == AF_AS_OF_LEFT ? join->wait : join->reach;
    int64_t least, greatest = INT64_MIN, added = 0, lates = 0, partlies = 0, arrival = side->arrived;
    const bool above = __builtin_add_overflow(before, delay, &least);
    int64_t newest = run->end > run->begin ? run->items[run->end - 1].moment : INT64_MIN;
    bool in_order = true;
    af_as_of_waiting *out = run->items + run->end;
    for (int64_t i = 0; i < count; i++) {
        const int64_t time = times[i];
        int64_t seen = marks != NULL ? marks[i] : above || greatest < least ? before : greatest - delay;
        if (AF_UNLIKELY(seen < join->clock)) seen = join->clock;
        if (time > greatest) greatest = time;
        int64_t moment = time;
        if (AF_UNLIKELY(seen > time)) {
            if (patience >= 0 && seen > af_as_of_shifted(time, patience)) {
                late[i] = 1;
                lates++;
                continue;
            }
            if (port == AF_AS_OF_RIGHT) {
                moment = seen;
                partlies++;
            }
        }
        in_order &= moment >= newest;
        newest = moment;
        out[added++] = (af_as_of_waiting){moment, time, arrival++, af_as_of_fresh(i), keys[i]};
    }
    *late_count = lates;
    *partly = partlies;
    run->end += added;
    side->arrived = arrival;
    side->waiting += added;
    side->has_fresh = added > 0;
    side->scattered = false;
    return in_order || af_as_of_split_off(side, added);
}

/* How many rows of a run are of moments before `clock`. */
static int64_t af_as_of_passed(const af_as_of_run *run, int64_t clock, int64_t wait) {
    if (clock == INT64_MAX) return run->end - run->begin;
    int64_t low = run->begin, high = run->end;
    if (low < high && af_as_of_shifted(run->items[high - 1].moment, wait) < clock) return high - low;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (af_as_of_shifted(run->items[middle].moment, wait) < clock) low = middle + 1;
        else high = middle;
    }
    return low - run->begin;
}

/* Up to which row the clock passes a straight batch. */
static int64_t af_as_of_straight_passed(const af_as_of_straight *batch, int64_t clock, int64_t wait) {
    int64_t low = af_as_of_straight_first(batch), high = batch->count;
    if (clock == INT64_MAX) return high;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (af_as_of_shifted(batch->times[middle], wait) < clock) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* How many rows of a side the clock passes, of those that wait. */
static int64_t af_as_of_passes(const af_as_of_side *side, int64_t clock, int64_t wait) {
    int64_t total = af_as_of_straight_passed(&side->straight, clock, wait) - af_as_of_straight_first(&side->straight);
    for (int64_t i = 0; i < side->run_count; i++) total += af_as_of_passed(&side->runs[i], clock, wait);
    return total;
}

/* The next row that is ready, in `room` where it stands in no queue; NULL: there is none. */
AF_INLINE const af_as_of_waiting *af_as_of_next_ready(const af_as_of_side *side, af_as_of_waiting *room) {
    if (AF_LIKELY(side->at < side->count)) return &side->ready[side->at];
    if (side->straight.at == side->straight.passed) return NULL;
    *room = af_as_of_straight_row(&side->straight, side->straight.at);
    return room;
}

AF_INLINE void af_as_of_ready_done(af_as_of_side *side) {
    if (side->at < side->count) side->at++;
    else side->straight.at++;
}

AF_INLINE int64_t af_as_of_ready_count(const af_as_of_side *side) {
    return side->count - side->at + side->straight.passed - side->straight.at;
}

/* The rows whose moments the clock has passed are ready. */
static bool af_as_of_take_ready(af_as_of_side *side, int64_t clock, int64_t wait) {
    int64_t from = 0, total = 0;
    side->at = side->count = 0;
    side->straight.passed = af_as_of_straight_passed(&side->straight, clock, wait);
    side->waiting -= side->straight.passed - side->straight.at;
    for (int64_t i = 0; i < side->run_count; i++) {
        const int64_t count = af_as_of_passed(&side->runs[i], clock, wait);
        if (count) from++;
        total += count;
    }
    if (!total) return true;
    if (from > 1 && !af_grow(&side->merged, &side->merged_capacity, total, sizeof *side->merged)) return false;
    for (int64_t i = 0; i < side->run_count; i++) {
        af_as_of_run *run = &side->runs[i];
        const int64_t count = af_as_of_passed(run, clock, wait);
        if (from > 1 && count) { /* one prefix after another */
            memcpy(side->merged + side->count, run->items + run->begin, (size_t)count * sizeof *run->items);
            side->count += count;
        } else if (count) {
            side->ready = run->items + run->begin;
            side->count = count;
        }
        run->begin += count;
    }
    side->waiting -= total;
    if (from == 1) return true;
    side->ready = side->merged;
    return af_as_of_sort_waiting(side->merged, side->count);
}

enum { AF_AS_OF_MUCH_ROOM = 1 << 18 };

/* Runs that are empty go, but for the last; room that is far too great is given back. */
static void af_as_of_tidy_runs(af_as_of_side *side) {
    int64_t kept = 0;
    for (int64_t i = 0; i < side->run_count; i++) {
        af_as_of_run *run = &side->runs[i];
        const int64_t held = run->end - run->begin;
        if (!held && (i < side->run_count - 1 || kept)) {
            free(run->items);
            continue;
        }
        if (!held || (run->capacity > AF_AS_OF_MUCH_ROOM && 4 * held < run->capacity)) {
            if (held) memmove(run->items, run->items + run->begin, (size_t)held * sizeof *run->items);
            run->begin = 0;
            run->end = held;
            if (run->capacity > AF_AS_OF_MUCH_ROOM) af_trim(&run->items, &run->capacity, 2 * held, sizeof *run->items);
        }
        side->runs[kept++] = *run;
    }
    side->run_count = kept;
    if (side->merged_capacity > AF_AS_OF_MUCH_ROOM) af_trim(&side->merged, &side->merged_capacity, 0, sizeof *side->merged);
}

#endif
