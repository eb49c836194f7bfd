/* Windows out: panes merged, their cells turned into result columns (window/results.h).
 *
 * A tumbling window is one pane.  A hopping window of S panes is the end of one block of S panes and the beginning of the next (blocks by
 * absolute pane number).  When the first window that begins in a block is given out, the block's panes are turned, from the right, into
 * what they and all panes after them in the block hold (nothing is added to a pane of a window that was given out: later rows go to
 * sub-panes).  The beginning of the next block grows from the left.  So a window costs two merges a group however many panes it has, and
 * the order of merging depends on the data alone.  Sub-panes are merged last, by pane, then by first window. */
#ifndef ASYNCFLOW_WINDOW_EMIT_H
#define ASYNCFLOW_WINDOW_EMIT_H

#include "window/results.h"

/* -- merging -------------------------------------------------------------------------------------------------------- */

/* Puts the DISTINCT values of one pane into another. */
static bool af_merge_sets(af_store *store, af_pane *into, const af_pane *from) {
    for (int i = 0; i < store->op_count; i++)
        if (store->ops[i].family == AF_DISTINCT && !af_members_union(store, &store->ops[i], into, from)) return false;
    return true;
}

/* into = into + from, group by group. */
static bool af_pane_merge(af_store *store, af_pane *into, const af_pane *from) {
    if (!af_pane_reserve(store, into, (int64_t)from->page_count * AF_PAGE_CELLS)) return false;
    for (uint32_t i = 0; i < from->page_count; i++) {
        uint8_t *page = from->pages[i], *target = into->pages[i];
        if (page == NULL) continue;
        if (target == NULL && (target = af_pane_page(store, into, i)) == NULL) return false;
        for (int j = 0; j < AF_PAGE_CELLS; j++, page += store->cell_bytes, target += store->cell_bytes) {
            if (*af_i64(page, 0) == 0) continue;
            if (!(*af_i64(target, 0) ? af_cell_merge(store, target, page) : af_cell_copy(store, target, page))) return false;
        }
    }
    return af_merge_sets(store, into, from);
}

/* -- which window, and what it holds -------------------------------------------------------------------------------- */

/* The next window that holds a row; false: there is none. */
static bool af_next_window(const af_state *state, af_wide *window) {
    bool found = false;
    for (size_t i = state->head; i < state->end; i++) {
        const af_pane *pane = state->panes[i];
        if (found && (pane->low >= *window && pane->first == AF_NO_FIRST)) break; /* those after begin no earlier */
        if (found && *window == state->closed + 1) break;
        af_wide low = pane->low > state->closed ? pane->low : state->closed + 1;
        if (!found || low < *window) *window = low;
        found = true;
    }
    return found;
}

/* Drops the merged beginning of the next block; it is merged again, in the same order, for the next window that needs it. */
static void af_forget_head(af_state *state) {
    af_pane_free(&state->store, state->head_pane);
    state->head_pane = NULL;
    state->head_block = AF_NO_FIRST;
}

/* Takes note of the watermark; whether it closes a window that holds a row. */
static bool af_window_ready(af_state *state, int64_t watermark) {
    af_wide window, next;
    if (state->sized && watermark > state->advanced) state->advanced = watermark;
    return af_next_window(state, &window) && window < af_first_open(state, state->sized ? state->advanced : watermark, &next);
}

/* The panes from `begin` up to the end of a block become what they and those after them in the block hold. */
static bool af_flip(af_state *state, af_wide begin, af_wide cut) {
    if (state->flipped_block == cut) return true;
    const size_t from = af_pane_place(state, begin, AF_NO_FIRST);
    af_pane *after = NULL;
    for (size_t i = af_pane_place(state, cut, AF_NO_FIRST); i > from; i--) {
        af_pane *pane = state->panes[i - 1];
        if (pane->first != AF_NO_FIRST) continue;
        if (after != NULL && !af_pane_merge(&state->store, pane, after)) return false;
        after = pane;
    }
    state->flipped_block = cut;
    return true;
}

static int64_t af_open_windows(af_state *state) {
    if (!state->open_changed) return state->open_windows;
    af_wide count = 0, covered = AF_WIDE_MAX; /* windows from `covered` to the last one seen are counted */
    for (size_t i = state->end; i > state->head; i--) {
        const af_pane *pane = state->panes[i - 1];
        af_wide low = pane->low > state->closed ? pane->low : state->closed + 1;
        af_wide high = pane->high < covered - 1 ? pane->high : covered - 1;
        if (high >= low) count += high - low + 1;
        if (low < covered) covered = low;
    }
    state->open_changed = 0;
    return state->open_windows = af_clamp(count);
}

/* The open windows that hold a row, as spans from a first to a last one, ascending, with a window between any two; `spans` has room for two
 * words of 128 bits a pane.  Returns how many spans there are. */
static int64_t af_open_spans(const af_state *state, af_wide (*spans)[2]) {
    int64_t count = 0;
    for (size_t i = state->head; i < state->end; i++) { /* the last windows of panes never fall; the first ones may, where there are sub-panes */
        const af_pane *pane = state->panes[i];
        af_wide low = pane->low > state->closed ? pane->low : state->closed + 1;
        if (pane->high < low) continue;
        while (count && spans[count - 1][1] >= low - 1) {
            count--;
            if (spans[count][0] < low) low = spans[count][0];
        }
        spans[count][0] = low;
        spans[count++][1] = pane->high;
    }
    return count;
}

/* The windows up to `window`, which holds no row, are closed: in whatever order rows of other groups closed theirs, the panes are the same. */
static bool af_pass_window(af_state *state, af_wide window) {
    if (window <= state->closed || state->head == state->end) return true;
    if (state->span > 1) {
        const af_wide begin = window * state->steps;
        if (!af_flip(state, begin, (af_floor_div(begin, state->span) + 1) * state->span)) return false;
    }
    state->closed = window;
    return true;
}

/* The end of the next window that holds a row; false: there is none. */
static bool af_next_end(const af_state *state, int64_t *end) {
    af_wide window;
    if (!state->sized || !af_next_window(state, &window)) return false;
    *end = af_clamp((af_wide)state->offset + window * (af_wide)state->every + state->size);
    return true;
}

/* Rows of the open windows; -1: not known, because panes of hopping windows are folded together. */
static int64_t af_held_rows(const af_state *state) {
    int64_t rows = 0;
    if (state->sized && state->span != 1) return -1;
    for (size_t i = state->head; i < state->end; i++)
        for (uint32_t j = 0; j < state->panes[i]->page_count; j++) {
            uint8_t *page = state->panes[i]->pages[j];
            for (int k = 0; page != NULL && k < AF_PAGE_CELLS; k++) rows += *af_i64(page + (size_t)k * state->store.cell_bytes, 0);
        }
    return rows;
}

/* What a hopping window holds: a pane of its own, or one that it shares (`owned` says which). */
static af_pane *af_hopping_pane(af_state *state, af_wide window, bool *owned) {
    af_store *store = &state->store;
    const af_wide begin = window * state->steps, end = begin + state->span, cut = (af_floor_div(begin, state->span) + 1) * state->span;
    size_t from = af_pane_place(state, begin, AF_NO_FIRST), middle = af_pane_place(state, cut, AF_NO_FIRST);
    size_t upto = af_pane_place(state, end, AF_NO_FIRST);
    if (!af_flip(state, begin, cut)) return NULL;
    if (state->head_block != cut) {
        af_pane_free(store, state->head_pane);
        state->head_pane = NULL;
        state->head_block = cut;
        state->head_upto = cut;
    }
    const af_pane *parts[2] = {NULL, NULL};
    int count = 0;
    for (size_t i = from; i < middle && count == 0; i++)
        if (state->panes[i]->first == AF_NO_FIRST) parts[count++] = state->panes[i];
    for (size_t i = middle; i < upto; i++) {
        const af_pane *pane = state->panes[i];
        if (pane->number < state->head_upto || pane->first != AF_NO_FIRST) continue;
        if (state->head_pane == NULL && (state->head_pane = af_pane_new(store)) == NULL) return NULL;
        if (!af_pane_merge(store, state->head_pane, pane)) return NULL;
    }
    if (end > state->head_upto) state->head_upto = end;
    if (state->head_pane != NULL) parts[count++] = state->head_pane;
    size_t late = from;
    while (late < upto && !(state->panes[late]->first != AF_NO_FIRST && state->panes[late]->first <= window)) late++;
    *owned = false;
    if (count == 1 && late == upto) return (af_pane *)parts[0];
    af_pane *merged = af_pane_new(store);
    bool done = merged != NULL;
    for (int i = 0; done && i < count; i++) done = af_pane_merge(store, merged, parts[i]);
    for (size_t i = late; done && i < upto; i++)
        if (state->panes[i]->first != AF_NO_FIRST && state->panes[i]->first <= window) done = af_pane_merge(store, merged, state->panes[i]);
    *owned = true;
    if (done) return merged;
    af_pane_free(store, merged);
    return NULL;
}

/* -- rows ----------------------------------------------------------------------------------------------------------- */

/* The cells of these groups of the current window, which are asked for, and the rest of their rows from `row` on. */
AF_INLINE void af_point_rows(const af_state *state, af_result *result, const int32_t *groups, int64_t row, int64_t size, uint8_t **cells) {
    const size_t cell_bytes = state->store.cell_bytes;
    const af_wide start = (af_wide)state->offset + state->out.window * (af_wide)state->every;
    const int64_t first = af_clamp(start), last = af_clamp(start + state->size);
    for (int64_t i = 0; i < size; i++) {
        const uint32_t group = (uint32_t)groups[i];
        cells[i] = state->out.pane->pages[group >> AF_PAGE_SHIFT] + (group % AF_PAGE_CELLS) * cell_bytes;
        __builtin_prefetch(cells[i]);
        result->groups[row + i] = (int32_t)group;
        result->starts[row + i] = first;
        result->ends[row + i] = last;
    }
}

/* Appends rows for these groups of the current window, up to one with which the result comes to `max_bytes`; gives how many, -1: no
 * memory.  The cells of a block are on their way while the block before is written. */
static int64_t af_write_rows(af_state *state, af_result *result, const int32_t *groups, int64_t count, int64_t max_bytes) {
    uint8_t *cells[2][AF_CELLS_AHEAD];
    if (!af_result_reserve(result, result->count + count)) return -1;
    int64_t size = count < AF_CELLS_AHEAD ? count : AF_CELLS_AHEAD, next;
    af_point_rows(state, result, groups, result->count, size, cells[0]);
    for (int64_t begin = 0, block = 0; begin < count; begin += size, size = next, block ^= 1) {
        const int64_t left = count - begin - size;
        next = left < AF_CELLS_AHEAD ? left : AF_CELLS_AHEAD;
        af_point_rows(state, result, groups + begin + size, result->count + size, next, cells[block ^ 1]);
        const int64_t written = af_write_within(&state->store, result, cells[block], size, max_bytes);
        if (written < 0) return -1;
        if (written < size || af_result_texts(result) >= max_bytes) return begin + written;
    }
    return count;
}

static int af_compare_ranked(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The groups of the current window, in the order of their keys. */
static bool af_list_groups(af_state *state, af_result *result, const int32_t *order, int64_t group_count, bool *ranked) {
    af_window_out *out = &state->out;
    const af_pane *pane = out->pane;
    const size_t cell_bytes = state->store.cell_bytes;
    if (pane->page_count > result->present_capacity) {
        uint64_t *present = realloc(result->present, pane->page_count * sizeof *present);
        if (present == NULL) return false;
        result->present = present;
        result->present_capacity = pane->page_count;
    }
    int64_t count = 0;
    for (uint32_t i = 0; i < pane->page_count; i++) {
        uint64_t bits = 0;
        for (int j = 0; pane->pages[i] != NULL && j < AF_PAGE_CELLS; j++)
            bits |= (uint64_t)(*af_i64(pane->pages[i] + (size_t)j * cell_bytes, 0) != 0) << j;
        result->present[i] = bits;
        count += __builtin_popcountll(bits);
    }
    if (count > out->capacity) {
        int32_t *groups = realloc(out->groups, (size_t)count * sizeof *groups);
        if (groups == NULL) return false;
        out->groups = groups;
        out->capacity = count;
    }
    out->count = out->position = 0;
    if (count * 16 >= group_count) {
        for (int64_t i = 0; i < group_count; i++) {
            uint32_t group = (uint32_t)order[i], page = group >> AF_PAGE_SHIFT;
            if (page < pane->page_count && result->present[page] >> (group % AF_PAGE_CELLS) & 1 && out->count < count)
                out->groups[out->count++] = order[i];
        }
        return true;
    }
    if (!*ranked) { /* few of many: sort them by their place in the order */
        if (group_count > result->ranks_capacity) {
            int32_t *ranks = realloc(result->ranks, (size_t)group_count * sizeof *ranks);
            if (ranks == NULL) return false;
            result->ranks = ranks;
            result->ranks_capacity = group_count;
        }
        for (int64_t i = 0; i < group_count; i++) result->ranks[order[i]] = (int32_t)i;
        *ranked = true;
    }
    uint64_t *items = malloc((size_t)count * sizeof *items + 8);
    if (items == NULL) return false;
    for (uint32_t i = 0; i < pane->page_count; i++)
        for (uint64_t bits = result->present[i]; bits; bits &= bits - 1) {
            int32_t group = (int32_t)(i * AF_PAGE_CELLS) + __builtin_ctzll(bits);
            items[out->count++] = (uint64_t)(uint32_t)result->ranks[group] << 32 | (uint32_t)group;
        }
    qsort(items, (size_t)count, sizeof *items, af_compare_ranked);
    for (int64_t i = 0; i < count; i++) out->groups[i] = (int32_t)(uint32_t)items[i];
    free(items);
    return true;
}

/* Takes the current window's panes away that no later window needs. */
static void af_end_window(af_state *state) {
    af_window_out *out = &state->out;
    if (out->owned) af_pane_free(&state->store, out->pane);
    out->active = false;
    out->pane = NULL;
    state->windows_closed++;
    state->open_changed = 1;
    if (!state->sized) return;
    state->closed = out->window;
    while (state->head < state->end && state->panes[state->head]->high <= state->closed) {
        af_pane_free(&state->store, state->panes[state->head]);
        state->head++;
    }
    if (state->head == state->end) {
        state->head = state->end = 0;
        af_forget_head(state);
        state->flipped_block = AF_NO_FIRST;
    }
}

/* Fills `result` with rows of windows that the watermark has closed: at most `max_rows`, and up to one with which their texts come to
 * `max_bytes`; false: no memory. */
static bool af_close_rows(af_state *state, int64_t watermark, const int32_t *order, int64_t group_count, int64_t max_rows, int64_t max_bytes,
                          af_result *result) {
    af_window_out *out = &state->out;
    af_wide next;
    if (state->sized && watermark > state->advanced) state->advanced = watermark;
    const af_wide open = af_first_open(state, state->sized ? state->advanced : watermark, &next);
    bool ranked = false;
    af_result_clear(result);
    while (result->count < max_rows && (result->count == 0 || af_result_texts(result) < max_bytes)) {
        if (!out->active) {
            if (!af_next_window(state, &out->window) || out->window >= open) break;
            if (state->span == 1) { /* the pane is the window */
                out->pane = state->panes[state->head++];
                out->owned = true;
            } else {
                out->pane = af_hopping_pane(state, out->window, &out->owned);
                if (out->pane == NULL) return false;
            }
            out->active = true;
            if (!af_list_groups(state, result, order, group_count, &ranked)) return false;
        }
        int64_t count = out->count - out->position;
        if (count > max_rows - result->count) count = max_rows - result->count;
        count = af_write_rows(state, result, out->groups + out->position, count, max_bytes);
        if (count < 0) return false;
        out->position += count;
        if (out->position == out->count) af_end_window(state);
    }
    return true;
}

#endif
