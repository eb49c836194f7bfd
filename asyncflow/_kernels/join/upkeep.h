/* Between sweeps: slots and keys given out again or numbered without holes, and what is asked of the state. */
#ifndef ASYNCFLOW_JOIN_UPKEEP_H
#define ASYNCFLOW_JOIN_UPKEEP_H

#include "join/join.h"

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
