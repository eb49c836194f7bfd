/* Rows out: the rows of windows in their order, windows given back, groups renamed. */
#ifndef ASYNCFLOW_TOP_ROWS_OUT_H
#define ASYNCFLOW_TOP_ROWS_OUT_H

#include "top/rows_in.h"

/* -- sorting ----------------------------------------------------------------------------------------------------------- */

/* Sorts words by their upper half; `spare` has room for as many. */
static void af_best_sort_words(uint64_t *words, uint64_t *spare, int64_t count) {
    uint64_t any = 0, all = ~(uint64_t)0, *from = words, *to = spare;
    for (int64_t i = 0; i < count; i++) any |= words[i], all &= words[i];
    for (int shift = 32; shift < 64; shift += 8) {
        if (((any ^ all) >> shift & 0xFF) == 0) continue;
        int64_t ends[256] = {0}, total = 0;
        for (int64_t i = 0; i < count; i++) ends[from[i] >> shift & 0xFF]++;
        for (int digit = 0; digit < 256; digit++) {
            const int64_t here = ends[digit];
            ends[digit] = total;
            total += here;
        }
        for (int64_t i = 0; i < count; i++) to[ends[from[i] >> shift & 0xFF]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != words) memcpy(words, from, (size_t)count * sizeof *words);
}

/* Sorts the entries of a cell; `spare` has room for as many. */
static void af_best_sort_entries(const af_best *top, af_best_entry *entries, af_best_entry *spare, int64_t count) {
    if (count <= 16) {
        for (int64_t i = 1; i < count; i++) {
            const af_best_entry entry = entries[i];
            int64_t at = i;
            for (; at > 0 && af_best_after(top, &entries[at - 1], &entry); at--) entries[at] = entries[at - 1];
            entries[at] = entry;
        }
        return;
    }
    const int64_t half = count / 2;
    int64_t left = 0, right = half, out = 0;
    af_best_sort_entries(top, entries, spare, half);
    af_best_sort_entries(top, entries + half, spare, count - half);
    memcpy(spare, entries, (size_t)half * sizeof *entries);
    while (left < half && right < count)
        entries[out++] = af_best_after(top, &spare[left], &entries[right]) ? entries[right++] : spare[left++];
    memcpy(entries + out, spare + left, (size_t)(half - left) * sizeof *entries);
}

/* -- ranking ------------------------------------------------------------------------------------------------------------ */

typedef enum { AF_BEST_RANKED, AF_BEST_NO_MEMORY, AF_BEST_NO_RANK } af_best_ranked;

/* Windows up to `limit` come first among the windows: how many. */
static int64_t af_best_windows_upto(const af_best *top, int64_t limit) {
    return limit == INT64_MAX ? top->window_count : af_best_window_find(top, limit + 1);
}

/* The rows of the first `windows` windows, and of these windows the most cells and the most rows of a cell. */
static int64_t af_best_rows_of(const af_best *top, int64_t windows, int64_t *cells, int64_t *deepest) {
    int64_t rows = 0;
    *cells = *deepest = 0;
    for (int64_t i = 0; i < windows; i++) {
        const af_best_window *window = &top->windows[i];
        if (window->count > *cells) *cells = window->count;
        for (int64_t j = 0; j < window->count; j++) {
            const int64_t count = top->cells[window->cells[j]].count;
            rows += count;
            if (count > *deepest) *deepest = count;
        }
    }
    return rows;
}

/* The rows of the first `windows` windows by window, rank of the group, and order: places, numbers of windows, ranks from 1, arrivals. */
static af_best_ranked af_best_rank(af_best *top, int64_t windows, int64_t most_cells, int64_t deepest, const int32_t *ranks, int64_t groups,
                                 int32_t *places, int64_t *numbers, int64_t *rows, int64_t *arrivals) {
    enum { AHEAD = 8 };
    uint64_t *words = malloc((size_t)(2 * most_cells + 1) * sizeof *words);
    af_best_entry *entries = malloc((size_t)(2 * deepest + 1) * sizeof *entries);
    af_best_ranked result = words == NULL || entries == NULL ? AF_BEST_NO_MEMORY : AF_BEST_RANKED;
    int64_t out = 0;
    for (int64_t i = 0; i < windows && result == AF_BEST_RANKED; i++) {
        const af_best_window *window = &top->windows[i];
        for (int64_t j = 0; j < window->count && result == AF_BEST_RANKED; j++) {
            const int32_t cell = window->cells[j], group = top->cells[cell].root.group;
            if (group >= groups || ranks[group] < 0) result = AF_BEST_NO_RANK;
            else words[j] = (uint64_t)ranks[group] << 32 | (uint32_t)cell;
        }
        if (result != AF_BEST_RANKED) break;
        af_best_sort_words(words, words + most_cells, window->count);
        for (int64_t j = 0; j < window->count; j++) {
            if (j + AHEAD < window->count) __builtin_prefetch(&top->cells[(uint32_t)words[j + AHEAD]]);
            af_best_cell *cell = &top->cells[(uint32_t)words[j]];
            for (int64_t k = 0; k < cell->count; k++) entries[k] = *af_best_item(top, cell, k);
            af_best_sort_entries(top, entries, entries + deepest, cell->count);
            for (int64_t k = 0; k < cell->count; k++, out++) {
                places[out] = (int32_t)(entries[k].at >> 1);
                numbers[out] = window->number;
                rows[out] = k + 1;
                arrivals[out] = af_best_record_of(&top->rows, places[out])->arrival;
            }
        }
    }
    free(words);
    free(entries);
    return result;
}

/* -- giving back -------------------------------------------------------------------------------------------------------- */

/* Nothing is held any more; memory is kept for as many rows again.  false: no memory. */
static bool af_best_clear(af_best *top) {
    for (int64_t i = 0; i < top->window_count; i++) free(top->windows[i].cells);
    if (top->windowed) memset(top->table, 0, (size_t)(top->mask + 1) * sizeof *top->table);
    for (int32_t j = 0; j < top->rows.count; j++) {
        af_best_column *column = &top->rows.columns[j];
        af_best_spare(&column->bytes, &column->room, column->used);
        column->used = column->wasted = 0;
    }
    const int64_t cells = top->windowed ? top->cell_names.top : top->cell_count;
    af_best_spare(&top->rows.records, &top->rows.capacity, top->places.top);
    af_best_spare(&top->touched, &top->touched_capacity, top->places.top);
    af_best_spare(&top->places.free_slots, &top->places.free_capacity, top->places.top);
    af_best_spare(&top->cell_names.free_slots, &top->cell_names.free_capacity, cells);
    af_best_spare(&top->entries, &top->entry_capacity, top->entry_top);
    af_best_spare(&top->cells, &top->cell_capacity, cells);
    memset(top->free_blocks, 0, sizeof top->free_blocks);
    top->window_count = top->cell_count = top->entry_top = top->held = 0;
    top->led = false;
    top->lead_length = 0;
    top->cell_names.top = top->cell_names.free_count = 0;
    top->places.top = top->places.free_count = 0;
    return top->mask < 16 * (uint64_t)cells + 4096 || af_best_table_resize(top, AF_BEST_FIRST_TABLE);
}

/* The cell of a row's window and group is free, and its rows' places.  false: no memory. */
static bool af_best_cell_give(af_best *top, int32_t name) {
    af_best_cell *cell = &top->cells[name];
    for (int64_t k = 0; k < cell->count; k++) {
        const int32_t place = (int32_t)(af_best_item(top, cell, k)->at >> 1);
        af_best_place_clear(&top->rows, place);
        if (!af_slot_give(&top->places, place)) return false;
    }
    if (cell->count > 1) af_best_block_give(top, cell->block, af_best_class(cell->count - 1));
    top->held -= cell->count;
    cell->count = 0;
    top->cell_count--;
    return af_slot_give(&top->cell_names, name);
}

/* Gives back the first `windows` windows, not all.  false: no memory. */
static bool af_best_release_some(af_best *top, int64_t windows) {
    int64_t leaving = 0;
    for (int64_t i = 0; i < windows; i++) leaving += top->windows[i].count;
    const bool most = 2 * leaving > top->cell_count;
    for (int64_t i = 0; i < windows; i++) {
        const af_best_window *window = &top->windows[i];
        for (int64_t j = 0; j < window->count; j++) {
            const int32_t cell = window->cells[j];
            if (!most) af_best_slot_remove(top, (uint32_t)af_best_hash(top, window->number, top->cells[cell].root.group), cell);
            if (!af_best_cell_give(top, cell)) return false;
        }
        free(window->cells);
    }
    top->window_count -= windows;
    memmove(top->windows, top->windows + windows, (size_t)top->window_count * sizeof *top->windows);
    if (most) {
        memset(top->table, 0, (size_t)(top->mask + 1) * sizeof *top->table);
        for (int64_t i = 0; i < top->window_count; i++)
            for (int64_t j = 0; j < top->windows[i].count; j++) {
                const int32_t cell = top->windows[i].cells[j];
                const uint32_t hash = (uint32_t)af_best_hash(top, top->windows[i].number, top->cells[cell].root.group);
                af_best_slot_put(top->table, top->mask, (af_best_slot){hash, cell + 1});
            }
    }
    for (int32_t j = 0; j < top->rows.count; j++) {
        af_best_column *column = &top->rows.columns[j];
        if (column->wasted <= AF_BEST_FEW_BYTES || 2 * column->wasted <= column->used) continue;
        if (!af_best_texts_collect(&top->rows, column, top->places.top, 0)) return false;
    }
    return true;
}

AF_INLINE bool af_best_release(af_best *top, int64_t windows) {
    if (windows < top->window_count) return windows == 0 || af_best_release_some(top, windows);
    return af_best_clear(top);
}

/* -- groups ------------------------------------------------------------------------------------------------------------- */

static void af_best_mark_groups(const af_best *top, uint8_t *marks) {
    for (int64_t i = 0; i < top->window_count; i++)
        for (int64_t j = 0; j < top->windows[i].count; j++) marks[top->cells[top->windows[i].cells[j]].root.group] = 1;
}

/* One more than the greatest group that has rows. */
static int64_t af_best_groups_end(const af_best *top) {
    int64_t end = 0;
    for (int64_t i = 0; i < top->window_count; i++)
        for (int64_t j = 0; j < top->windows[i].count; j++) {
            const int64_t group = top->cells[top->windows[i].cells[j]].root.group;
            if (group >= end) end = group + 1;
        }
    return end;
}

/* Group g is names[g] from now on, and all memory is made new, without holes.  false: no memory. */
static bool af_best_rename(af_best *top, const int32_t *names) {
    uint64_t size = AF_BEST_FIRST_TABLE;
    while ((uint64_t)top->cell_count * 8 > size * 5) size *= 2;
    af_best_cell *cells = malloc((size_t)(top->cell_count + 1) * sizeof *cells);
    af_best_entry *entries = NULL;
    af_best_slot *table = calloc(size, sizeof *table);
    int32_t *old = malloc((size_t)(top->held + 1) * sizeof *old);
    int64_t entry_count = 0, cell_count = 0, rows = 0;
    for (int64_t i = 0; i < top->window_count; i++)
        for (int64_t j = 0; j < top->windows[i].count; j++) {
            const int64_t beside = top->cells[top->windows[i].cells[j]].count - 1;
            if (beside > 0) entry_count += af_best_class_size(top, af_best_class(beside));
        }
    if (entry_count < INT32_MAX) entries = malloc((size_t)(entry_count + 1) * sizeof *entries);
    if (cells == NULL || entries == NULL || table == NULL || old == NULL) {
        free(cells);
        free(entries);
        free(table);
        free(old);
        return false;
    }
    int64_t entry_top = 0;
    for (int64_t i = 0; i < top->window_count; i++)
        for (int64_t j = 0; j < top->windows[i].count; j++) {
            af_best_cell *from = &top->cells[top->windows[i].cells[j]], cell = *from;
            cell.root.group = names[cell.root.group];
            cell.block = (int32_t)entry_top;
            for (int64_t k = 0; k < cell.count; k++) {
                af_best_entry entry = *af_best_item(top, from, k);
                old[rows] = (int32_t)(entry.at >> 1);
                entry.at = (uint32_t)rows++ << 1 | (entry.at & 1);
                if (k) entries[entry_top + k - 1] = entry;
                else cell.root.at = entry.at;
            }
            if (cell.count > 1) entry_top += af_best_class_size(top, af_best_class(cell.count - 1));
            top->windows[i].cells[j] = (int32_t)cell_count;
            cells[cell_count++] = cell;
            af_best_slot_put(table, size - 1, (af_best_slot){(uint32_t)af_best_hash(top, cell.window, cell.root.group), (int32_t)cell_count});
        }
    free(top->cells);
    free(top->entries);
    free(top->table);
    top->cells = cells;
    top->cell_capacity = cell_count + 1;
    top->cell_names.top = cell_count;
    top->cell_names.free_count = top->places.free_count = 0;
    top->entries = entries;
    top->entry_top = entry_top;
    top->entry_capacity = entry_count + 1;
    memset(top->free_blocks, 0, sizeof top->free_blocks);
    top->table = table;
    top->mask = size - 1;
    top->places.top = rows;
    const bool done = af_best_rows_move(&top->rows, old, rows);
    free(old);
    af_trim(&top->touched, &top->touched_capacity, rows, sizeof *top->touched);
    af_trim(&top->places.free_slots, &top->places.free_capacity, 0, sizeof(int32_t));
    af_trim(&top->cell_names.free_slots, &top->cell_names.free_capacity, 0, sizeof(int32_t));
    return done;
}

#endif
