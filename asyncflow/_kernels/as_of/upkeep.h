/* Between sweeps: rows that stay get places, places and keys are numbered without holes, and what is asked of the state. */
#ifndef ASYNCFLOW_AS_OF_UPKEEP_H
#define ASYNCFLOW_AS_OF_UPKEEP_H

#include "as_of/as_of.h"

/* At most so many fresh rows get a place, and no place that is given back is among them. */
static int64_t af_as_of_fresh_count(const af_as_of *join, int port) {
    const af_as_of_side *side = &join->sides[port];
    int64_t count = port == AF_AS_OF_RIGHT ? join->touched_count : 0;
    if (!side->has_fresh || !side->run_count) return count;
    const af_as_of_run *last = &side->runs[side->run_count - 1];
    for (int64_t i = last->end; i-- > last->begin && (side->scattered || last->items[i].ref < 0);) count += last->items[i].ref < 0;
    return count;
}

/* The fresh rows that stay get places: `rows` of the batch now stand at `places`; how many. */
static int64_t af_as_of_settle(af_as_of *join, int port, int64_t *rows, int64_t *places) {
    af_as_of_side *side = &join->sides[port];
    int64_t count = 0;
    if (side->has_fresh && side->run_count) {
        const af_as_of_run *last = &side->runs[side->run_count - 1];
        int64_t first = side->scattered ? last->begin : last->end;
        while (!side->scattered && first > last->begin && last->items[first - 1].ref < 0) first--;
        for (int64_t i = first; i < last->end; i++) {
            if (last->items[i].ref >= 0) continue;
            rows[count] = -2 - (int64_t)last->items[i].ref;
            places[count++] = last->items[i].ref = af_slot_take(&side->places);
        }
    }
    for (int64_t i = 0; port == AF_AS_OF_RIGHT && i < join->touched_count; i++) {
        af_as_of_row *row = &join->rows[join->touched[i]];
        if (row->key == AF_AS_OF_FREE || row->ref >= 0) continue;
        rows[count] = -2 - (int64_t)row->ref;
        places[count++] = row->ref = af_slot_take(&side->places);
    }
    if (port == AF_AS_OF_RIGHT) join->touched_count = 0;
    side->has_fresh = false;
    return count;
}

/* The places of the rows that left are given out again. */
static bool af_as_of_recycle(af_as_of_side *side) {
    for (int64_t i = side->gone_count - 1; i >= 0; i--)
        if (!af_slot_give(&side->places, side->gone[i])) return false;
    side->gone_count = 0;
    af_trim(&side->gone, &side->gone_capacity, 1 << 12, sizeof *side->gone);
    return true;
}

/* Places without holes: `kept[new]` is the old one.  Nothing is fresh or gone.  False: no memory. */
static bool af_as_of_compact(af_as_of *join, int port, int64_t *kept) {
    af_as_of_side *side = &join->sides[port];
    int32_t *names = malloc((size_t)(side->places.top + 1) * sizeof *names);
    if (names == NULL) return false;
    for (int64_t place = 0; place < side->places.top; place++) names[place] = AF_AS_OF_NONE;
    for (int64_t r = 0; r < side->run_count; r++)
        for (int64_t i = side->runs[r].begin; i < side->runs[r].end; i++) names[side->runs[r].items[i].ref] = 0;
    for (int64_t row = 0; port == AF_AS_OF_RIGHT && row < join->row_slots.top; row++)
        if (join->rows[row].key != AF_AS_OF_FREE) names[join->rows[row].ref] = 0;
    int32_t count = 0;
    for (int64_t place = 0; place < side->places.top; place++) {
        if (names[place] == AF_AS_OF_NONE) continue;
        kept[count] = place;
        names[place] = count++;
    }
    for (int64_t r = 0; r < side->run_count; r++)
        for (int64_t i = side->runs[r].begin; i < side->runs[r].end; i++) side->runs[r].items[i].ref = names[side->runs[r].items[i].ref];
    for (int64_t row = 0; port == AF_AS_OF_RIGHT && row < join->row_slots.top; row++)
        if (join->rows[row].key != AF_AS_OF_FREE) join->rows[row].ref = names[join->rows[row].ref];
    free(names);
    side->places.top = count;
    side->places.free_count = 0;
    af_trim(&side->places.free_slots, &side->places.free_capacity, 0, sizeof *side->places.free_slots);
    return true;
}

static int af_as_of_compare_rows(const void *one, const void *other) {
    const af_as_of_waiting *a = one, *b = other;
    return af_as_of_before(a->time, a->arrival, b->time, b->arrival) ? -1 : af_as_of_before(b->time, b->arrival, a->time, a->arrival);
}

/* The known rows anew, which come by (time, arrival): each is the last of its key. */
static bool af_as_of_known_anew(af_as_of *join, const af_as_of_waiting *items, const uint8_t *matched, int64_t count) {
    for (int64_t i = 0; i < join->key_count; i++) join->keys[i] = AF_NEW_KEY;
    join->row_slots.top = join->row_slots.free_count = join->known = 0;
    join->due_begin = join->due_end = join->heap_count = join->touched_count = 0;
    if (!af_grow(&join->rows, &join->row_capacity, count, sizeof *join->rows)) return false;
    for (int64_t i = 0; i < count; i++) {
        const int32_t row = af_as_of_add_row(join, &items[i]);
        if (row == AF_AS_OF_NONE) return false;
        join->rows[row].matched = matched[i] & 1;
        if (items[i].key == AF_AS_OF_NONE) continue;
        if (join->direction == AF_AS_OF_BACKWARD) join->keys[items[i].key].back = row;
        else af_as_of_known_ahead(join, row);
    }
    return true;
}

/* The table of known rows without holes. */
static bool af_as_of_compact_rows(af_as_of *join) {
    const int64_t count = join->known;
    af_as_of_waiting *items = malloc((size_t)(count + 1) * sizeof *items);
    uint8_t *matched = malloc((size_t)(count + 1));
    bool done = items != NULL && matched != NULL;
    if (done) {
        int64_t at = 0;
        for (int64_t i = 0; i < join->row_slots.top; i++) {
            const af_as_of_row *row = &join->rows[i];
            if (row->key != AF_AS_OF_FREE) items[at++] = (af_as_of_waiting){row->matched, row->time, row->arrival, row->ref, row->key};
        }
        qsort(items, (size_t)count, sizeof *items, af_as_of_compare_rows);
        for (int64_t i = 0; i < count; i++) matched[i] = (uint8_t)items[i].moment;
        done = af_as_of_known_anew(join, items, matched, count);
        af_trim(&join->rows, &join->row_capacity, count, sizeof *join->rows);
        af_trim(&join->row_slots.free_slots, &join->row_slots.free_capacity, 0, sizeof *join->row_slots.free_slots);
        af_trim(&join->dues, &join->due_capacity, join->due_end, sizeof *join->dues);
        af_trim(&join->due_heap, &join->heap_capacity, 0, sizeof *join->due_heap);
        af_trim(&join->touched, &join->touched_capacity, 0, sizeof *join->touched);
    }
    free(items);
    free(matched);
    return done;
}

/* The watermark at which a row is looked at next that may give a result; false: none is. */
static bool af_as_of_next_due(const af_as_of *join, int64_t *time) {
    bool found = false;
    for (int port = 0; port < 2; port++) {
        const af_as_of_side *side = &join->sides[port];
        const int64_t patience = port == AF_AS_OF_LEFT ? join->wait : join->reach;
        for (int64_t r = 0; (port == AF_AS_OF_LEFT || join->right_alone) && r < side->run_count; r++)
            for (int64_t i = side->runs[r].begin; i < side->runs[r].end; i++) {
                const int64_t due = af_as_of_shifted(side->runs[r].items[i].time, patience);
                if (!found || due < *time) *time = due;
                found = true;
                if (port == AF_AS_OF_LEFT) break; /* they are in order */
            }
        const int64_t first = af_as_of_straight_first(&side->straight);
        if (first == side->straight.count || (port == AF_AS_OF_RIGHT && !join->right_alone)) continue;
        const int64_t due = af_as_of_shifted(side->straight.times[first], patience);
        if (!found || due < *time) *time = due;
        found = true;
    }
    for (int64_t row = 0; join->right_alone && row < join->row_slots.top; row++) {
        if (join->rows[row].key == AF_AS_OF_FREE || join->rows[row].matched) continue;
        const int64_t due = af_as_of_shifted(join->rows[row].time, join->reach);
        if (!found || due < *time) *time = due;
        found = true;
    }
    return found;
}

/* Which keys rows are held of. */
static void af_as_of_live_keys(const af_as_of *join, uint8_t *live) {
    for (int port = 0; port < 2; port++) {
        const af_as_of_side *side = &join->sides[port];
        for (int64_t r = 0; r < side->run_count; r++)
            for (int64_t i = side->runs[r].begin; i < side->runs[r].end; i++)
                if (side->runs[r].items[i].key >= 0) live[side->runs[r].items[i].key] = 1;
        for (int64_t i = af_as_of_straight_first(&side->straight); i < side->straight.count; i++)
            if (side->straight.keys[i] >= 0) live[side->straight.keys[i]] = 1;
    }
    for (int64_t row = 0; row < join->row_slots.top; row++)
        if (join->rows[row].key >= 0) live[join->rows[row].key] = 1;
}

/* Key `kept[i]` becomes i; rows are held of no others. */
static bool af_as_of_keep_keys(af_as_of *join, const int32_t *kept, int64_t count) {
    int32_t *names = malloc((size_t)(join->key_count + 1) * sizeof *names);
    if (names == NULL) return false;
    for (int64_t i = 0; i < join->key_count; i++) names[i] = AF_AS_OF_NONE;
    for (int64_t i = 0; i < count; i++) names[kept[i]] = (int32_t)i;
    af_as_of_key *keys = malloc((size_t)(count + 1) * sizeof *keys);
    if (keys == NULL) {
        free(names);
        return false;
    }
    for (int64_t i = 0; i < count; i++) keys[i] = join->keys[kept[i]];
    if (count) memcpy(join->keys, keys, (size_t)count * sizeof *keys);
    free(keys);
    for (int port = 0; port < 2; port++) {
        af_as_of_side *side = &join->sides[port];
        for (int64_t r = 0; r < side->run_count; r++)
            for (int64_t i = side->runs[r].begin; i < side->runs[r].end; i++)
                if (side->runs[r].items[i].key >= 0) side->runs[r].items[i].key = names[side->runs[r].items[i].key];
    }
    for (int64_t row = 0; row < join->row_slots.top; row++)
        if (join->rows[row].key >= 0) join->rows[row].key = names[join->rows[row].key];
    free(names);
    join->key_count = count;
    af_trim(&join->keys, &join->key_capacity, 4 * count, sizeof *join->keys); /* they mostly come again, as many */
    return true;
}

#endif
