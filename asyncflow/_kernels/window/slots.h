/* Slots: the cells of a window over everything, used one by one.
 *
 * Where there is one pane for all rows (size None), a group id may stand for anything that its owner keeps count of: a session, a window
 * that may be corrected.  Such a cell is read while it goes on filling, folded into another by the same merge as that of panes, and
 * emptied, so that its id can stand for the next thing.  Texts, sketches and sets belong to the cell and go with it; of two sets the smaller is
 * put into the larger (a union does not depend on which), so a value is moved at most log2(values) times. */
#ifndef ASYNCFLOW_WINDOW_SLOTS_H
#define ASYNCFLOW_WINDOW_SLOTS_H

#include "window/emit.h"

/* A slot's cell, or NULL where no row of its page has come. */
AF_INLINE uint8_t *af_slot_cell(const af_state *state, uint32_t slot) {
    const af_pane *pane = state->head < state->end ? state->panes[state->head] : NULL;
    if (pane == NULL || slot >> AF_PAGE_SHIFT >= pane->page_count || pane->pages[slot >> AF_PAGE_SHIFT] == NULL) return NULL;
    return pane->pages[slot >> AF_PAGE_SHIFT] + (size_t)(slot % AF_PAGE_CELLS) * state->store.cell_bytes;
}

/* Appends what these slots hold to `result` (an empty one: the results of no rows), up to one with which its texts come to `max_bytes`;
 * false: no memory. */
static bool af_slots_append(const af_state *state, const int32_t *slots, int64_t count, int64_t max_bytes, af_result *result) {
    if (!af_result_reserve(result, result->count + count)) return false;
    for (int64_t begin = 0, size; begin < count; begin += size) {
        uint8_t *cells[AF_CELLS_AHEAD];
        size = count - begin < AF_CELLS_AHEAD ? count - begin : AF_CELLS_AHEAD;
        for (int64_t i = 0; i < size; i++) {
            uint8_t *cell = af_slot_cell(state, (uint32_t)slots[begin + i]);
            cells[i] = cell != NULL ? cell : state->store.empty_page;
            __builtin_prefetch(cells[i]);
        }
        const int64_t written = af_write_within(&state->store, result, cells, size, max_bytes);
        if (written < 0) return false;
        if (written < size || af_result_texts(result) >= max_bytes) return true;
    }
    return true;
}

/* Appends a row of each of these slots: what it holds, its window (`starts`), revision (`ends`) and key (`groups`).  Its revision counts on
 * and it has no longer changed.  False: no memory. */
static bool af_slots_send(const af_state *state, const int32_t *slots, int64_t count, const int64_t *windows, const int32_t *keys,
                          int64_t *revisions, uint8_t *changed, af_result *result) {
    const int64_t begin = result->count;
    if (!af_slots_append(state, slots, count, INT64_MAX, result)) return false;
    for (int64_t i = 0; i < count; i++) {
        const int32_t slot = slots[i];
        result->starts[begin + i] = windows[slot];
        result->ends[begin + i] = revisions[slot]++;
        result->groups[begin + i] = keys[slot];
        changed[slot] = 0;
    }
    return true;
}

/* Lists the places below `count` whose flag is set, ascending; gives how many.  `places` has room for `count`. */
static int64_t af_flagged(const uint8_t *flags, int64_t count, int32_t *places) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        places[found] = (int32_t)i;
        found += flags[i] != 0;
    }
    return found;
}

AF_INLINE void af_slot_empty(af_store *store, uint8_t *cell) {
    if (af_cells_own(store) && *af_i64(cell, 0)) af_cell_drop(store, cell);
    memcpy(cell, store->empty_page, store->cell_bytes);
}

/* into = into + source, source = nothing; false: no memory. */
static bool af_slot_merge(af_state *state, int32_t into, int32_t source) {
    af_store *store = &state->store;
    uint8_t *from = af_slot_cell(state, (uint32_t)source), *target = af_slot_cell(state, (uint32_t)into);
    if (into == source || from == NULL || *af_i64(from, 0) == 0) return true;
    if (target == NULL) {
        af_pane *pane = state->panes[state->head];
        if (!af_pane_reserve(store, pane, (int64_t)into + 1)) return false;
        if (af_pane_page(store, pane, (uint32_t)into >> AF_PAGE_SHIFT) == NULL) return false;
        target = af_slot_cell(state, (uint32_t)into);
    }
    if (*af_i64(target, 0) == 0) {
        memcpy(target, from, store->cell_bytes);
        memcpy(from, store->empty_page, store->cell_bytes);
        return true;
    }
    if (!af_cell_merge(store, target, from)) return false;
    af_slot_empty(store, from);
    return true;
}

static void af_slots_clear(af_state *state, const int32_t *slots, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint8_t *cell = af_slot_cell(state, (uint32_t)slots[i]);
        if (cell != NULL) af_slot_empty(&state->store, cell);
    }
}

/* Takes all rows; before row at[i], slot source[i] is folded into slot into[i] (`at` ascending).  False: no memory. */
static bool af_add_merging(af_state *state, af_rows *rows, const int64_t *at, const int32_t *into, const int32_t *source, int64_t merges) {
    const int64_t count = rows->count;
    for (int64_t i = 0; i < merges; i++) {
        rows->count = at[i];
        if (rows->begin < rows->count && !af_add_rows(state, rows)) return false;
        rows->begin = at[i];
        if (!af_slot_merge(state, into[i], source[i])) return false;
    }
    rows->count = count;
    if (!af_add_rows(state, rows)) return false;
    state->arrivals += count;
    return true;
}

#endif
