/* Rows into cells.
 *
 * Blocks of 64 rows.  First the cell of each row is found and prefetched, or the row is put aside as late: its pane by the time of
 * the last row's pane (rows mostly come in order), else by one multiplication with the reciprocal of `every` and a small table of recent
 * panes, else by binary search; lateness costs a compare of the time with the next time at which the watermark closes a window.  Then each
 * accumulator goes over the block: values, validity and mask are read column by column. */
#ifndef ASYNCFLOW_WINDOW_UPDATE_H
#define ASYNCFLOW_WINDOW_UPDATE_H

#include "window/panes.h"

enum { AF_ROWS = 64 };

typedef struct {
    const void *values;   /* int64, float64 or bool; NULL for a string */
    const uint8_t *valid; /* NULL: all are */
    const uint8_t *data;
    const int32_t *starts, *lengths;
} af_column;

/* One batch. */
typedef struct {
    const int32_t *groups;
    int64_t begin, count, group_count; /* rows begin .. count - 1 are taken */
    const int64_t *time, *watermarks; /* either may be NULL */
    int64_t watermark_before, delay;
    const af_column *inputs;
    const uint8_t *const *masks;
    int64_t *late; /* out: positions of late rows */
    int64_t late_count, partly;
} af_rows;

/* -- accumulators ---------------------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *cells[AF_ROWS];
    uint32_t rows[AF_ROWS]; /* positions in the block */
    uint32_t count;
} af_block;

/* Adds a value to a compensated sum (Neumaier; the error term by Knuth's two-sum). */
AF_INLINE void af_sum_add(double *high, double *low, double value) {
    double total = *high + value, part = total - *high;
    *low += (*high - (total - part)) + (value - part);
    *high = total;
}

AF_INLINE void af_wide_add(int64_t *low, int64_t *high, int64_t value) {
    uint64_t sum = (uint64_t)*low + (uint64_t)value;
    *high += (value >> 63) + (sum < (uint64_t)value);
    *low = (int64_t)sum;
}

AF_INLINE int64_t af_word_at(const void *values, int kind, int64_t row) {
    if (kind == AF_BOOL) return ((const uint8_t *)values)[row] != 0;
    if (kind == AF_FLOAT64) return af_sorting_float(((const double *)values)[row]);
    return ((const int64_t *)values)[row];
}

AF_INLINE double af_double_at(const void *values, int kind, int64_t row) {
    return kind == AF_FLOAT64 ? ((const double *)values)[row] : (double)((const int64_t *)values)[row];
}

/* NUMBER over a block; `kind`, `sum` and `extremes` are constants where it is inlined. */
AF_INLINE void af_number_rows(const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    const int least = offset + (sum ? 24 : 8);
    for (uint32_t k = 0; k < block->count; k++) {
        uint8_t *cell = block->cells[k];
        int64_t row = begin + block->rows[k];
        if (sum && kind == AF_FLOAT64)
            af_sum_add(af_f64(cell, offset + 8), af_f64(cell, offset + 16), ((const double *)values)[row]);
        if (sum && kind == AF_INT64)
            af_wide_add(af_i64(cell, offset + 8), af_i64(cell, offset + 16), ((const int64_t *)values)[row]);
        if (extremes) {
            int64_t word = af_word_at(values, kind, row), low = *af_i64(cell, least), high = *af_i64(cell, least + 8);
            *af_i64(cell, least) = word < low ? word : low;
            *af_i64(cell, least + 8) = word > high ? word : high;
        }
    }
}

/* The same where all rows of the block are in one cell: the accumulators stay in registers. */
AF_INLINE void af_number_run(const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    uint8_t *cell = block->cells[0];
    const int least = offset + (sum ? 24 : 8);
    double high = 0, low = 0;
    int64_t low_word = 0, high_word = 0, minimum = INT64_MAX, maximum = INT64_MIN;
    if (sum && kind == AF_FLOAT64) {
        high = *af_f64(cell, offset + 8);
        low = *af_f64(cell, offset + 16);
    }
    if (sum && kind == AF_INT64) {
        low_word = *af_i64(cell, offset + 8);
        high_word = *af_i64(cell, offset + 16);
    }
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t row = begin + block->rows[k];
        if (sum && kind == AF_FLOAT64) af_sum_add(&high, &low, ((const double *)values)[row]);
        if (sum && kind == AF_INT64) af_wide_add(&low_word, &high_word, ((const int64_t *)values)[row]);
        if (extremes) {
            int64_t word = af_word_at(values, kind, row);
            minimum = word < minimum ? word : minimum;
            maximum = word > maximum ? word : maximum;
        }
    }
    if (sum && kind == AF_FLOAT64) {
        *af_f64(cell, offset + 8) = high;
        *af_f64(cell, offset + 16) = low;
    }
    if (sum && kind == AF_INT64) {
        *af_i64(cell, offset + 8) = low_word;
        *af_i64(cell, offset + 16) = high_word;
    }
    if (extremes) {
        if (minimum < *af_i64(cell, least)) *af_i64(cell, least) = minimum;
        if (maximum > *af_i64(cell, least + 8)) *af_i64(cell, least + 8) = maximum;
    }
}

#define AF_NUMBER_CASE(KIND, SUM, EXTREMES)                                                          \
    if (op->input_kind == KIND && !op->sum == !SUM && !op->extremes == !EXTREMES) {                  \
        if (one_cell)                                                                                \
            af_number_run(block, begin, values, op->offset, KIND, SUM, EXTREMES);                    \
        else                                                                                         \
            af_number_rows(block, begin, values, op->offset, KIND, SUM, EXTREMES);                   \
        return;                                                                                      \
    }

AF_NOINLINE void af_number_block(const af_op *op, const af_block *block, int64_t begin, const void *values, bool one_cell) {
    AF_NUMBER_CASE(AF_FLOAT64, 1, 1)
    AF_NUMBER_CASE(AF_FLOAT64, 1, 0)
    AF_NUMBER_CASE(AF_FLOAT64, 0, 1)
    AF_NUMBER_CASE(AF_INT64, 1, 1)
    AF_NUMBER_CASE(AF_INT64, 1, 0)
    AF_NUMBER_CASE(AF_INT64, 0, 1)
    AF_NUMBER_CASE(AF_BOOL, 0, 1)
}

AF_NOINLINE void af_moments_block(const af_op *op, const af_block *block, int64_t begin, const void *values) {
    for (uint32_t k = 0; k < block->count; k++) {
        double *m = af_f64(block->cells[k], op->offset), x = af_double_at(values, op->input_kind, begin + block->rows[k]);
        m[0] += 1.0;
        double d = x - m[1];
        m[1] += d / m[0];
        m[2] += d * (x - m[1]);
    }
}

AF_NOINLINE void af_comoments_block(const af_op *op, const af_block *block, int64_t begin, const void *xs, const void *ys) {
    for (uint32_t k = 0; k < block->count; k++) {
        double *m = af_f64(block->cells[k], op->offset);
        double x = af_double_at(xs, op->input_kind, begin + block->rows[k]), y = af_double_at(ys, op->second_kind, begin + block->rows[k]);
        m[0] += 1.0;
        double dx = x - m[1];
        m[1] += dx / m[0];
        double dy = y - m[2];
        m[2] += dy / m[0];
        m[5] += dx * (y - m[2]);
        m[3] += dx * (x - m[1]);
        m[4] += dy * (y - m[2]);
    }
}

/* Whether the new (order: < 0 its key is less than the kept one, 0 equal, > 0 greater) takes the place of the kept. */
AF_INLINE bool af_better(const af_op *op, int order, int64_t arrival, int64_t kept_arrival) {
    if (order == 0) return op->last ? arrival > kept_arrival : arrival < kept_arrival;
    return op->greatest ? order > 0 : order < 0;
}

/* The word that stands for a value of a fixed type and gives it back. */
AF_INLINE int64_t af_raw_word(const af_column *column, int kind, int64_t row) {
    return kind == AF_BOOL ? ((const uint8_t *)column->values)[row] != 0 : ((const int64_t *)column->values)[row];
}

AF_NOINLINE bool af_pick_block(af_store *store, const af_op *op, const af_block *block, int64_t begin, const af_rows *rows, int64_t arrivals) {
    const af_column *keys = op->key == AF_KEY_VALUE ? &rows->inputs[op->key_input] : NULL, *values = &rows->inputs[op->input];
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t row = begin + block->rows[k], *slot = af_i64(block->cells[k], op->offset), word = 0;
        int order = 0;
        const bool text_key = keys != NULL && op->key_kind == AF_STRING;
        if (text_key) {
            const af_text *kept = (const af_text *)(intptr_t)slot[1];
            if (slot[0] >= 0)
                order = af_text_compare(keys->data + keys->starts[row], (uint32_t)keys->lengths[row], kept->bytes, kept->length);
        } else {
            if (op->key == AF_KEY_TIME) word = rows->time != NULL ? rows->time[row] : 0;
            if (keys != NULL) word = af_word_at(keys->values, op->key_kind, row);
            if (word == -1 && keys != NULL && op->key_kind == AF_FLOAT64) word = 0; /* -0.0 and 0.0 tie */
            order = (word > slot[1]) - (word < slot[1]);
        }
        if (slot[0] >= 0 && !af_better(op, order, arrivals + row, slot[0])) continue;
        slot[0] = arrivals + row;
        if (text_key) {
            if (!af_text_set(store, &slot[1], keys->data + keys->starts[row], (uint32_t)keys->lengths[row])) return false;
        } else {
            slot[1] = word;
        }
        if (!op->valued) continue;
        if (op->input_kind == AF_STRING) {
            if (!af_text_set(store, &slot[2], values->data + values->starts[row], (uint32_t)values->lengths[row])) return false;
        } else {
            slot[2] = af_raw_word(values, op->input_kind, row);
        }
    }
    return true;
}

AF_INLINE uint64_t af_distinct_word(const af_column *column, int kind, int64_t row) {
    if (kind != AF_FLOAT64) return (uint64_t)af_raw_word(column, kind, row);
    int64_t word = af_sorting_float(((const double *)column->values)[row]);
    return (uint64_t)(word == -1 ? 0 : word);
}

AF_NOINLINE bool af_distinct_block(af_store *store, const af_op *op, const af_block *block, int64_t begin, const af_rows *rows,
                                   af_pane *const *panes) {
    const af_column *column = &rows->inputs[op->input];
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t row = begin + block->rows[k];
        int32_t group = store->own_sets ? 0 : rows->groups[row];
        af_set *set = store->own_sets ? af_own_set(store, af_i64(block->cells[k], op->offset + 8)) : &panes[block->rows[k]]->sets[op->set];
        int added;
        if (set == NULL) return false;
        if (op->input_kind == AF_STRING) {
            const uint8_t *text = column->data + column->starts[row];
            uint32_t length = (uint32_t)column->lengths[row];
            added = af_set_add(store, set, group, af_keyed_text(store->seed, text, length), 0, text, length);
        } else {
            uint64_t word = af_distinct_word(column, op->input_kind, row);
            added = af_set_add(store, set, group, af_keyed_word(store->seed, word), word, NULL, 0);
        }
        if (added < 0) return false;
        *af_i64(block->cells[k], op->offset) += added;
    }
    return true;
}

AF_NOINLINE bool af_sketch_block(af_store *store, const af_op *op, const af_block *block, int64_t begin, const af_rows *rows) {
    const af_column *column = &rows->inputs[op->input];
    const bool is_text = op->input_kind == AF_STRING;
    for (uint32_t k = 0; k < block->count; k++) {
        const int64_t row = begin + block->rows[k];
        int64_t *slot = af_i64(block->cells[k], op->offset);
        void *sketch = (void *)(intptr_t)*slot;
        bool done;
        if (op->sketch == AF_SKETCH_RANKS) {
            af_ranks *ranks = sketch;
            done = af_ranks_add(&ranks, af_word_at(column->values, op->input_kind, row), &store->sketch_bytes);
            sketch = ranks;
        } else if (op->sketch == AF_SKETCH_QUANTILE) {
            af_quantile *quantile = sketch;
            done = af_quantile_add(&quantile, af_double_at(column->values, op->input_kind, row), &store->sketch_bytes);
            sketch = quantile;
        } else {
            const uint8_t *text = is_text ? column->data + column->starts[row] : NULL;
            const uint32_t length = is_text ? (uint32_t)column->lengths[row] : 0;
            const uint64_t word = is_text ? 0 : af_distinct_word(column, op->input_kind, row);
            if (op->sketch == AF_SKETCH_DISTINCT) {
                af_distinct *distinct = sketch;
                done = af_distinct_add(&distinct, is_text ? af_finish_text(text, length) : af_finish(word), &store->sketch_bytes);
                sketch = distinct;
            } else {
                af_top *top = sketch;
                const uint64_t hash = is_text ? af_keyed_text(store->seed, text, length) : af_keyed_word(store->seed, word);
                const af_top_value value = {hash, word, text, length};
                done = af_top_add(&top, (uint32_t)op->counters, &value, &store->sketch_bytes);
                sketch = top;
            }
        }
        *slot = (int64_t)(intptr_t)sketch;
        if (!done) return false;
    }
    return true;
}

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
        if (op->kind == AF_NUMBER) *af_i64(block->cells[k], op->offset) += !ok;
    }
    taken->count = count;
    return taken;
}

static bool af_accumulate(af_state *state, const af_block *block, int64_t begin, const af_rows *rows, af_pane *const *panes, bool one_cell) {
    if (one_cell)
        *af_i64(block->cells[0], 0) += block->count;
    else
        for (uint32_t k = 0; k < block->count; k++) ++*af_i64(block->cells[k], 0);
    for (int i = 0; i < state->store.op_count; i++) {
        const af_op *op = &state->store.ops[i];
        af_block selection;
        const af_block *taken = af_select(op, block, begin, rows, &selection);
        if (taken->count == 0) continue;
        const void *values = op->input >= 0 ? rows->inputs[op->input].values : NULL;
        switch (op->kind) {
        case AF_NUMBER:
            if (op->sum || op->extremes) af_number_block(op, taken, begin, values, one_cell);
            break;
        case AF_MOMENTS: af_moments_block(op, taken, begin, values); break;
        case AF_COMOMENTS: af_comoments_block(op, taken, begin, values, rows->inputs[op->second].values); break;
        case AF_PICK:
            if (!af_pick_block(&state->store, op, taken, begin, rows, state->arrivals)) return false;
            break;
        case AF_SKETCH:
            if (!af_sketch_block(&state->store, op, taken, begin, rows)) return false;
            break;
        default:
            if (!af_distinct_block(&state->store, op, taken, begin, rows, panes)) return false;
        }
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
            (rows->time == NULL || af_block_inside(rows->time + begin, size, low, length, bound))) {
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

#endif
