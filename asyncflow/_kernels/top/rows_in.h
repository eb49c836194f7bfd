/* Rows in.  Blocks of 64: words and cells are looked up ahead of their use, then rows are taken in the order in which they came. */
#ifndef ASYNCFLOW_TOP_ROWS_IN_H
#define ASYNCFLOW_TOP_ROWS_IN_H

#include "top/order.h"

/* `first`, `last`: the windows of each row; none where the first is after the last.  Both NULL: one window for all. */
typedef struct {
    const int32_t *groups;
    const int64_t *first, *last, *arrivals;
    const af_best_input *inputs;
    const af_best_input *order; /* the first order column; NULL: rows go by arrival */
    int64_t count, group_count;
} af_best_batch;

enum { AF_BEST_BLOCK = 64 };

typedef struct {
    int64_t window;
    uint64_t word;
    int32_t row, group;
    uint32_t class;
} af_best_pair; /* a row in one of its windows */

AF_INLINE void af_best_set(af_best_entry *entry, const af_best_entry *with) {
    entry->word = with->word;
    entry->at = with->at;
}

/* Puts an entry in the place of the root. */
static void af_best_sink(af_best *top, af_best_cell *cell, const af_best_entry *moved) {
    const int64_t count = cell->count;
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && af_best_after(top, af_best_item(top, cell, child + 1), af_best_item(top, cell, child))) child++;
        const af_best_entry *greater = af_best_item(top, cell, child);
        if (!af_best_after(top, greater, moved)) break;
        af_best_set(af_best_item(top, cell, at), greater);
    }
    af_best_set(af_best_item(top, cell, at), moved);
}

/* Room for one more entry beside the root.  false: no memory. */
static bool af_best_widen(af_best *top, af_best_cell *cell) {
    const int64_t held = cell->count - 1; /* beside the root */
    if (held < 0) return true;
    const int class = af_best_class(held + 1);
    if (held && af_best_class(held) == class) return true;
    const int32_t block = af_best_block_take(top, class);
    if (block < 0) return false;
    if (held) {
        memcpy(&top->entries[block], &top->entries[cell->block], (size_t)held * sizeof *top->entries);
        af_best_block_give(top, cell->block, class - 1);
    }
    cell->block = block;
    return true;
}

static void af_best_rise(af_best *top, af_best_cell *cell, const af_best_entry *added) {
    int64_t at = cell->count++;
    while (at) {
        const int64_t parent = (at - 1) / 2;
        if (!af_best_after(top, added, af_best_item(top, cell, parent))) break;
        af_best_set(af_best_item(top, cell, at), af_best_item(top, cell, parent));
        at = parent;
    }
    af_best_set(af_best_item(top, cell, at), added);
}

/* The place has this row of the batch from now on. */
AF_INLINE void af_best_note(af_best *top, int32_t place, int32_t row) {
    af_best_record *record = af_best_record_of(&top->rows, place);
    if (record->fresh < 0) top->touched[top->touched_count++].place = place;
    record->fresh = row;
}

/* A place for a row more; -1: no memory. */
static int32_t af_best_place_take(af_best *top) {
    const int64_t wanted = top->places.top + 1;
    if (!top->places.free_count) {
        if (wanted > (int64_t)1 << 30 || !af_grow(&top->rows.records, &top->rows.capacity, wanted, top->rows.width) ||
            !af_grow(&top->touched, &top->touched_capacity, wanted, sizeof *top->touched))
            return -1;
        af_best_record *record = af_best_record_of(&top->rows, top->places.top);
        memset(record, 0, top->rows.width);
        record->fresh = -1;
    }
    top->held++;
    return af_slot_take(&top->places);
}

AF_NOINLINE bool af_best_add_row(af_best *top, af_best_cell *cell, uint64_t word, uint32_t class, int32_t row) {
    if (!af_best_widen(top, cell)) return false;
    const int32_t place = af_best_place_take(top);
    if (place < 0) return false;
    af_best_note(top, place, row);
    const af_best_entry added = {word, (uint32_t)place << 1 | class, 0};
    af_best_rise(top, cell, &added);
    return true;
}

/* A row for a cell.  false: no memory. */
AF_INLINE bool af_best_row(af_best *top, af_best_cell *cell, uint64_t word, uint32_t class, int32_t row) {
    if (AF_UNLIKELY(cell->count < top->most)) return af_best_add_row(top, cell, word, class, row);
    if (word > cell->root.word) return true;
    if (AF_UNLIKELY(word == cell->root.word) && !af_best_before_equal(top, class, row, &cell->root)) return true;
    const int32_t place = (int32_t)(cell->root.at >> 1);
    const af_best_entry added = {word, (uint32_t)place << 1 | class, 0};
    af_best_note(top, place, row);
    if (top->most == 1) af_best_set(&cell->root, &added);
    else af_best_sink(top, cell, &added);
    return true;
}

/* Fetches what a row for this cell will want, if the row is kept. */
AF_INLINE void af_best_fetch(const af_best *top, const af_best_cell *cell, uint64_t word) {
    if (cell->count == top->most && word > cell->root.word) return;
    __builtin_prefetch(af_best_record_of(&top->rows, cell->root.at >> 1), 1);
    if (cell->count < 2) return;
    __builtin_prefetch(&top->entries[cell->block], 1);
    __builtin_prefetch(&top->entries[cell->block + (cell->count < 8 ? cell->count : 8) - 2], 1);
}

static bool af_best_pairs(af_best *top, const af_best_pair *pairs, uint32_t count) {
    uint32_t hashes[AF_BEST_BLOCK];
    for (uint32_t i = 0; i < count; i++) {
        hashes[i] = (uint32_t)af_best_hash(top, pairs[i].window, pairs[i].group);
        __builtin_prefetch(&top->table[hashes[i] & top->mask]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const int32_t cell = top->table[hashes[i] & top->mask].cell;
        if (cell) __builtin_prefetch(&top->cells[cell - 1], 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        const int32_t cell = top->table[hashes[i] & top->mask].cell;
        if (cell) af_best_fetch(top, &top->cells[cell - 1], pairs[i].word);
    }
    for (uint32_t i = 0; i < count; i++) {
        const af_best_pair *pair = &pairs[i];
        int32_t found = -1;
        for (uint64_t at = hashes[i] & top->mask; top->table[at].cell; at = (at + 1) & top->mask) {
            const int32_t cell = top->table[at].cell - 1;
            if (top->table[at].hash != hashes[i] || top->cells[cell].root.group != pair->group || top->cells[cell].window != pair->window) continue;
            found = cell;
            break;
        }
        if (found < 0) found = af_best_cell_new(top, pair->window, pair->group, hashes[i]);
        if (found < 0 || !af_best_row(top, &top->cells[found], pair->word, pair->class, pair->row)) return false;
    }
    return true;
}

/* Stores the columns of the rows that have a place now.  false: no memory. */
static bool af_best_store(af_best *top) {
    for (int64_t begin = 0; begin < top->touched_count; begin += AF_BEST_BLOCK) {
        const int64_t left = top->touched_count - begin;
        const uint32_t count = left < AF_BEST_BLOCK ? (uint32_t)left : AF_BEST_BLOCK;
        af_best_fresh *fresh = top->touched + begin;
        for (uint32_t i = 0; i < count; i++) {
            if (i + AF_BEST_AHEAD < left) __builtin_prefetch(af_best_record_of(&top->rows, fresh[i + AF_BEST_AHEAD].place), 1);
            af_best_record *record = af_best_record_of(&top->rows, fresh[i].place);
            fresh[i].row = record->fresh;
            record->fresh = -1;
            record->arrival = top->input_arrivals[fresh[i].row];
            memset(record->nulls, 0, 4 * (size_t)top->rows.null_words);
        }
        for (int32_t j = 0; j < top->rows.count; j++)
            if (!af_best_column_put(&top->rows, &top->rows.columns[j], &top->inputs[j], fresh, count, top->places.top)) return false;
    }
    top->touched_count = 0;
    return true;
}

/* Cells of groups up to `count`, of a state without windows. */
static bool af_best_groups(af_best *top, int64_t count) {
    if (!af_grow(&top->cells, &top->cell_capacity, count, sizeof *top->cells)) return false;
    if (count > top->cell_count) memset(top->cells + top->cell_count, 0, (size_t)(count - top->cell_count) * sizeof *top->cells);
    if (count > top->cell_count) top->cell_count = count;
    return true;
}

/* Takes rows.  false: no memory, and the state is of no further use. */
static bool af_best_add(af_best *top, const af_best_batch *batch) {
    top->inputs = batch->inputs;
    top->input_arrivals = batch->arrivals;
    if (!top->windowed && !af_best_groups(top, batch->group_count)) return false;
    if (top->order_count && top->order[0].kind == AF_BEST_TEXT) af_best_lead(top, batch->order, batch->count);
    af_best_pair pairs[AF_BEST_BLOCK];
    uint32_t pair_count = 0;
    for (int64_t begin = 0; begin < batch->count; begin += AF_BEST_BLOCK) {
        const uint32_t block = batch->count - begin < AF_BEST_BLOCK ? (uint32_t)(batch->count - begin) : AF_BEST_BLOCK;
        const int32_t *groups = batch->groups + begin;
        uint64_t words[AF_BEST_BLOCK];
        uint8_t classes[AF_BEST_BLOCK];
        if (batch->order != NULL) {
            af_best_words(top, batch->order, begin, block, words, classes);
        } else {
            memset(words, 0, sizeof words);
            memset(classes, 0, sizeof classes);
        }
        if (!top->windowed) {
            for (uint32_t i = 0; i < block; i++) __builtin_prefetch(&top->cells[groups[i]], 1);
            for (uint32_t i = 0; i < block; i++) af_best_fetch(top, &top->cells[groups[i]], words[i]);
            for (uint32_t i = 0; i < block; i++) {
                af_best_cell *cell = &top->cells[groups[i]];
                if (AF_UNLIKELY(cell->count == 0) && !af_best_cell_begin(top, groups[i], 0, groups[i])) return false;
                if (!af_best_row(top, cell, words[i], classes[i], (int32_t)(begin + i))) return false;
            }
            continue;
        }
        for (uint32_t i = 0; i < block; i++) {
            const int64_t first = batch->first[begin + i], last = batch->last[begin + i];
            for (int64_t window = first; window <= last; window++) {
                pairs[pair_count++] = (af_best_pair){window, words[i], (int32_t)(begin + i), groups[i], classes[i]};
                if (pair_count == AF_BEST_BLOCK) {
                    if (!af_best_pairs(top, pairs, pair_count)) return false;
                    pair_count = 0;
                }
                if (window == INT64_MAX) break;
            }
        }
    }
    return af_best_pairs(top, pairs, pair_count) && af_best_store(top);
}

#endif
