/* Rows into cells.
 *
 * Blocks of 64 rows.  First the cell of each row is found and prefetched, or the row is put aside as late: its pane by the time of
 * the last row's pane (rows mostly come in order), else by one multiplication with the reciprocal of `every` and a small table of recent
 * panes, else by binary search; lateness costs a compare of the time with the next time at which the watermark closes a window.  Then each
 * accumulator goes over the block: values, validity and mask are read column by column. */
#ifndef ASYNCFLOW_WINDOW_UPDATE_H
#define ASYNCFLOW_WINDOW_UPDATE_H

#include "window/panes.h"

/* The rows of a block that an accumulator takes: not null in its columns and let through by its mask. */
AF_INLINE const af_block *af_select(const af_op *op, const af_block *block, int64_t begin, const af_rows *rows, af_block *taken) {
    const uint8_t *valid = op->input >= 0 ? rows->inputs[op->input].valid : NULL;
    const uint8_t *other = op->second >= 0 ? rows->inputs[op->second].valid : NULL;
    const uint8_t *mask = op->mask >= 0 ? rows->masks[op->mask] : NULL;
    if (valid == NULL && other == NULL && mask == NULL) return block;
    uint32_t count = 0;
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t row = begin + block->rows[k];
        uint32_t ok = (valid == NULL || valid[row]) & (other == NULL || other[row]) & (mask == NULL || mask[row]);
        taken->cells[count] = block->cells[k];
        taken->rows[count] = block->rows[k];
        count += ok;
        if (op->family == AF_NUMBER) *af_i64(block->cells[k], op->offset + AF_NUMBER_LEFT_OUT) += !ok;
    }
    taken->count = count;
    return taken;
}

static bool af_accumulate(af_state *state, const af_block *block, int64_t begin, const af_rows *rows, af_pane *const *panes, bool one_cell) {
    const af_feed feed = {&state->store, rows, panes, begin, state->arrivals, one_cell};
    if (one_cell)
        *af_i64(block->cells[0], 0) += block->count;
    else
        for (uint32_t k = 0; k < block->count; k++) ++*af_i64(block->cells[k], 0);
    for (int i = 0; i < state->store.op_count; i++) {
        const af_op *op = &state->store.ops[i];
        af_block selection;
        const af_block *taken = af_select(op, block, begin, rows, &selection);
        if (taken->count && !af_accumulator_add(&feed, op, taken)) return false;
    }
    return true;
}

/* Whether all of a block's times are in the pane of times low .. low + length, and none of them makes the watermark close more. */
AF_INLINE bool af_block_inside(const int64_t *time, uint32_t size, uint64_t low, uint64_t length, int64_t bound) {
    uint64_t outside = 0;
    for (uint32_t i = 0; i < size; i++) {
        const uint64_t from_least = (uint64_t)time[i] ^ 0x8000000000000000ull;
        outside |= (uint64_t)(from_least - low >= length) | (uint64_t)(time[i] >= bound);
    }
    return outside == 0;
}

/* A block whose rows are all in one pane. */
AF_INLINE bool af_take_block(af_state *state, af_pane *pane, const int32_t *groups, uint32_t size, af_block *block, af_pane **panes,
                             bool *one_cell) {
    const size_t cell_bytes = state->store.cell_bytes;
    uint64_t different = 0;
    for (uint32_t i = 0; i < size; i++) {
        const uint32_t group = (uint32_t)groups[i];
        uint8_t *page = pane->pages[group >> AF_PAGE_SHIFT];
        if (AF_UNLIKELY(page == NULL)) {
            page = af_pane_page(&state->store, pane, group >> AF_PAGE_SHIFT);
            if (page == NULL) return false;
        }
        uint8_t *cell = page + (group % AF_PAGE_CELLS) * cell_bytes;
        __builtin_prefetch(cell, 1);
        different |= group ^ (uint32_t)groups[0];
        block->cells[i] = cell;
        block->rows[i] = i;
    }
    if (state->store.set_count)
        for (uint32_t i = 0; i < size; i++) panes[i] = pane;
    block->count = size;
    *one_cell = different == 0;
    return true;
}

/* -- a batch ---------------------------------------------------------------------------------------------------------- */

/* Takes the rows; `arrivals` is for the caller to raise when the whole batch is in.  False: no memory. */
static bool af_take_rows(af_state *state, af_rows *rows) {
    af_store *store = &state->store;
    const size_t cell_bytes = store->cell_bytes;
    const int64_t delay = rows->delay;
    af_wide next, open;
    int64_t watermark = rows->watermark_before > state->advanced ? rows->watermark_before : state->advanced;
    open = af_first_open(state, watermark, &next);
    int64_t bound = state->sized ? af_clamp(next + delay) : INT64_MAX; /* a time from which on the watermark closes more */
    int64_t valid_from = 0, valid_to = 0;                              /* explicit watermarks for which `open` holds */
    uint64_t low = 0, length = 0;                                      /* times (from 2^63 before 0) of the last row's pane */
    af_pane *pane = NULL;
    int64_t partly = 0, pane_partly = 0;
    rows->late_count = 0;
    state->age++;
    for (int64_t begin = rows->begin; begin < rows->count; begin += AF_ROWS) {
        uint32_t size = rows->count - begin < AF_ROWS ? (uint32_t)(rows->count - begin) : AF_ROWS;
        af_block block;
        af_pane *panes[AF_ROWS];
        uint8_t *last_cell = NULL;
        bool one_cell = true;
        block.count = 0;
        if (pane != NULL && length && (rows->watermarks == NULL || !state->sized) &&
            (!state->sized || af_block_inside(rows->time + begin, size, low, length, bound))) {
            if (!af_take_block(state, pane, rows->groups + begin, size, &block, panes, &one_cell)) return false;
            partly += pane_partly * size;
            if (!af_accumulate(state, &block, begin, rows, panes, one_cell)) return false;
            continue;
        }
        for (uint32_t i = 0; i < size; i++) {
            const int64_t row = begin + i, time = rows->time != NULL ? rows->time[row] : 0;
            if (rows->watermarks != NULL && state->sized) {
                int64_t mark = rows->watermarks[row] > state->advanced ? rows->watermarks[row] : state->advanced;
                if (mark < valid_from || mark >= valid_to) {
                    open = af_first_open(state, mark, &next);
                    valid_from = mark == INT64_MAX ? INT64_MAX : af_clamp(next - (af_wide)state->every);
                    valid_to = mark == INT64_MAX ? INT64_MAX : af_clamp(next);
                    state->age++;
                    length = 0;
                }
            }
            const uint64_t from_least = (uint64_t)time ^ 0x8000000000000000ull;
            if (AF_UNLIKELY(from_least - low >= length)) {
                uint64_t step = 0, within = 0, half = 0;
                bool far = !state->sized || from_least + state->shift < from_least;
                if (!far) {
                    uint64_t shifted = from_least + state->shift;
                    step = (uint64_t)(((__uint128_t)shifted * state->reciprocal) >> 64);
                    within = shifted - step * state->every;
                    if (within >= state->every) {
                        step++;
                        within -= state->every;
                    }
                    half = state->tail && within >= state->tail;
                    low = from_least - (within - (half ? state->tail : 0));
                    length = half ? state->every - state->tail : state->tail ? state->tail : state->every;
                    if (low > from_least) { /* the pane begins before the least time */
                        length = length + low;
                        low = 0;
                    }
                    if (length > UINT64_MAX - low) length = UINT64_MAX - low;
                }
                af_recent *recent = &state->recent[(step * 2 + half) % AF_RECENT];
                if (!far && recent->age == state->age && recent->step == step && recent->half == half) {
                    pane = recent->pane;
                } else {
                    af_wide number = 0;
                    if (far) {
                        low = length = 0;
                        if (state->sized) {
                            af_wide since = (af_wide)time - state->offset, whole = af_floor_div(since, state->every);
                            number = whole * state->steps + (state->tail && (uint64_t)(since - whole * (af_wide)state->every) >= state->tail);
                        } else {
                            length = UINT64_MAX;
                        }
                    } else {
                        number = ((af_wide)step - state->bias) * state->steps + (af_wide)half;
                    }
                    if (af_resolve(state, number, open, rows->group_count, &pane) < 0) return false;
                    if (!far) *recent = (af_recent){step, half, state->age, pane};
                }
                pane_partly = pane != NULL && pane->first != AF_NO_FIRST;
            }
            if (AF_LIKELY(pane != NULL)) {
                const uint32_t group = (uint32_t)rows->groups[row];
                uint8_t *page = pane->pages[group >> AF_PAGE_SHIFT];
                if (AF_UNLIKELY(page == NULL)) {
                    page = af_pane_page(store, pane, group >> AF_PAGE_SHIFT);
                    if (page == NULL) return false;
                }
                uint8_t *cell = page + (group % AF_PAGE_CELLS) * cell_bytes;
                __builtin_prefetch(cell, 1);
                one_cell &= block.count == 0 || cell == last_cell;
                last_cell = cell;
                panes[i] = pane;
                block.cells[block.count] = cell;
                block.rows[block.count++] = i;
                partly += pane_partly;
            } else {
                rows->late[rows->late_count++] = row;
            }
            if (AF_UNLIKELY(time >= bound)) {
                af_wide mark = (af_wide)time - delay;
                if (mark > watermark) watermark = af_clamp(mark);
                if (rows->watermarks == NULL && state->sized) {
                    open = af_first_open(state, watermark, &next);
                    bound = af_clamp(next + delay);
                    state->age++;
                    length = 0;
                } else {
                    bound = INT64_MAX;
                }
            }
        }
        if (block.count && !af_accumulate(state, &block, begin, rows, panes, one_cell)) return false;
    }
    rows->partly = partly;
    return true;
}

static bool af_add_rows(af_state *state, af_rows *rows) {
    const bool done = af_take_rows(state, rows);
    return af_panes_settle(state) && done;
}

/* -- rows that were added up apart ---------------------------------------------------------------------------------------
 *
 * A small state's rows come into the state of a stage cell by cell, as if they came now, in their order: the panes are those that the rows would
 * have made, of equal rows that are picked by their order of arrival these come after all that came before, and cells are merged.  So the
 * accumulators must not mind the tree of merges, which `Accumulator.apart` of accumulators/table.py says of them. */

/* How many cells hold rows. */
static int64_t af_cell_count(const af_state *state) {
    int64_t count = 0;
    for (size_t i = state->head; i < state->end; i++)
        for (uint32_t j = 0; j < state->panes[i]->page_count; j++) {
            uint8_t *page = state->panes[i]->pages[j];
            for (int k = 0; page != NULL && k < AF_PAGE_CELLS; k++) count += *af_i64(page + (size_t)k * state->store.cell_bytes, 0) != 0;
        }
    return count;
}

enum { AF_LATE = -1, AF_FULL = -2 };

/* Whether no row is late for any of its windows; `open`: the first open window. */
static bool af_in_time(const af_state *state, af_wide open) {
    for (size_t i = state->head; state->sized && i < state->end; i++)
        if (state->panes[i]->first != AF_NO_FIRST || state->panes[i]->low < open) return false;
    return true;
}

/* Adds the cell of each group g to that of groups[g], where that is a group, and their rows to `taken`; `room`: for a cell.  False: no
 * memory. */
static bool af_pane_absorb(af_state *state, const af_pane *from, const int32_t *groups, int64_t group_count, af_wide open, uint8_t *room,
                           int64_t *taken) {
    af_store *store = &state->store;
    af_pane *into = NULL; /* one that gets no cell is not made */
    for (uint32_t i = 0; i < from->page_count; i++) {
        const uint8_t *cell = from->pages[i];
        for (int j = 0; cell != NULL && j < AF_PAGE_CELLS; j++, cell += store->cell_bytes) {
            const int32_t group = *(const int64_t *)cell ? groups[(size_t)i * AF_PAGE_CELLS + j] : -1;
            if (group < 0) continue;
            if (into == NULL && af_resolve(state, from->number, open, group_count, &into) < 0) return false;
            uint8_t *page = into->pages[group >> AF_PAGE_SHIFT];
            if (page == NULL && (page = af_pane_page(store, into, (uint32_t)group >> AF_PAGE_SHIFT)) == NULL) return false;
            uint8_t *target = page + (size_t)(group % AF_PAGE_CELLS) * store->cell_bytes;
            memcpy(room, cell, store->cell_bytes);
            for (int k = 0; k < store->op_count; k++)
                if (store->ops[k].family == AF_PICK) af_pick_shift(af_i64(room, store->ops[k].offset), state->arrivals);
            if (!af_cell_merge(store, target, room)) return false;
            *taken += *af_i64(room, 0);
        }
    }
    return true;
}

/* Takes what `other` holds of its groups g that have a name groups[g] here, 0 or above; gives how many rows.  AF_LATE: a row of `other` is
 * late for one of its windows, where `watermark` is before the first of them, and nothing has changed; AF_FULL: no memory. */
static int64_t af_state_absorb(af_state *state, const af_state *other, const int32_t *groups, int64_t group_count, int64_t watermark) {
    af_wide next;
    const af_wide open = af_first_open(state, watermark > state->advanced ? watermark : state->advanced, &next);
    if (!af_in_time(other, open)) return AF_LATE;
    int64_t taken = 0;
    uint8_t *room = malloc(state->store.cell_bytes);
    bool done = room != NULL;
    for (size_t i = other->head; done && i < other->end; i++)
        done = af_pane_absorb(state, other->panes[i], groups, group_count, open, room, &taken);
    free(room);
    if (!af_panes_settle(state) || !done) return AF_FULL;
    state->arrivals += other->arrivals;
    return taken;
}

#endif
