/* The sketches as accumulators: families of bounded size for what has no exact one of that size.
 *
 * Each sketch is a block of its own that belongs to one cell, whose word points to it (0: no value came yet).  `sketches` of the
 * store counts their bytes and keeps memory for more (sketches/pool.h).  What a sketch keeps and how it is saved is in its own header. */
#ifndef ASYNCFLOW_SKETCHES_H
#define ASYNCFLOW_SKETCHES_H

#include "sketches/distinct.h"
#include "sketches/quantile.h"
#include "sketches/ranks.h"
#include "sketches/top.h"

/* The family of a sketch: af_NAME_merge, _drop, _save and _load are the sketch's own. */
#define AF_SKETCH_FAMILY(name)                                                                                                  \
    AF_INLINE int af_sketch_##name##_words(const af_op *op, const af_store *store) { return 1; }                                \
    AF_INLINE int af_sketch_##name##_saved_words(const af_op *op) { return 0; }                                                 \
    AF_INLINE bool af_sketch_##name##_blocks(const af_op *op, const af_store *store) { return true; }                           \
    AF_INLINE void af_sketch_##name##_empty(const af_op *op, int64_t *slot) {}                                                  \
    static void af_sketch_##name##_drop(af_store *store, const af_op *op, int64_t *slot) {                                      \
        af_##name##_drop((af_##name *)(intptr_t)*slot, &store->sketches);                                                   \
        *slot = 0;                                                                                                              \
    }                                                                                                                           \
    static bool af_sketch_##name##_merge(af_store *store, const af_op *op, int64_t *into, const int64_t *from) {                \
        af_##name *sketch = (af_##name *)(intptr_t)*into;                                                                       \
        if (*from == 0) return true;                                                                                            \
        const bool done = af_##name##_merge(&sketch, (const af_##name *)(intptr_t)*from, &store->sketches);                 \
        *into = (int64_t)(intptr_t)sketch;                                                                                      \
        return done;                                                                                                            \
    }                                                                                                                           \
    static bool af_sketch_##name##_copy(af_store *store, const af_op *op, int64_t *slot) {                                      \
        const int64_t from = *slot;                                                                                             \
        *slot = 0;                                                                                                              \
        return af_sketch_##name##_merge(store, op, slot, &from);                                                                \
    }                                                                                                                           \
    static void af_sketch_##name##_save(af_saving *saving, const af_op *op, uint8_t *cell) {                                    \
        const af_##name *sketch = (const af_##name *)(intptr_t)*af_i64(cell, op->offset);                                       \
        if (sketch == NULL) return;                                                                                             \
        af_block_begin(saving, AF_BLOCK_VALUE);                                                                                 \
        af_##name##_save(saving, sketch);                                                                                       \
        af_block_end(saving);                                                                                                   \
    }                                                                                                                           \
    static int af_sketch_##name##_load(af_loading *loading, const af_op *op, uint8_t *cell) {                                   \
        af_##name *sketch = NULL;                                                                                               \
        af_view view;                                                                                                           \
        if (!af_block_take(loading, AF_BLOCK_VALUE, &view)) return AF_FITS; /* no values */                                     \
        const int done = af_##name##_load(loading, op, &view, &sketch);                                                         \
        *af_i64(cell, op->offset) = (int64_t)(intptr_t)sketch;                                                                  \
        return done == AF_FITS && view.left ? AF_UNFIT : done;                                                                  \
    }

AF_SKETCH_FAMILY(distinct)
AF_SKETCH_FAMILY(quantile)
AF_SKETCH_FAMILY(ranks)
AF_SKETCH_FAMILY(top)

/* Fetches the sketches of a block's cells, and then of each the place of its next value: both are far from the cells. */
#define AF_FETCH_SKETCHES(name)                                                                                                 \
    AF_INLINE void af_fetch_##name(const af_op *op, const af_block *block) {                                                    \
        for (uint32_t k = 0; k < block->count; k++) __builtin_prefetch((const void *)(intptr_t)*af_i64(block->cells[k], op->offset)); \
        for (uint32_t k = 0; k < block->count; k++) {                                                                           \
            const af_##name *sketch = (const af_##name *)(intptr_t)*af_i64(block->cells[k], op->offset);                        \
            if (sketch != NULL) __builtin_prefetch(&sketch->words[sketch->length], 1);                                          \
        }                                                                                                                       \
    }

AF_FETCH_SKETCHES(quantile)
AF_FETCH_SKETCHES(ranks)

AF_NOINLINE bool af_sketch_ranks_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    const int offset = op->offset, kind = op->input_kind;
    af_pool *pool = &feed->store->sketches;
    const void *values = feed->rows->inputs[op->input].values;
    if (!feed->one_cell) af_fetch_ranks(op, block);
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t *slot = af_i64(block->cells[k], offset);
        af_ranks *ranks = (af_ranks *)(intptr_t)*slot;
        const bool done = af_ranks_add(&ranks, af_word_at(values, kind, begin + block->rows[k]), pool);
        *slot = (int64_t)(intptr_t)ranks;
        if (!done) return false;
    }
    return true;
}

AF_NOINLINE bool af_sketch_quantile_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    const int offset = op->offset, kind = op->input_kind;
    af_pool *pool = &feed->store->sketches;
    const void *values = feed->rows->inputs[op->input].values;
    if (!feed->one_cell) af_fetch_quantile(op, block);
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t *slot = af_i64(block->cells[k], offset);
        af_quantile *quantile = (af_quantile *)(intptr_t)*slot;
        const bool done = af_quantile_add(&quantile, af_double_at(values, kind, begin + block->rows[k]), pool);
        *slot = (int64_t)(intptr_t)quantile;
        if (!done) return false;
    }
    return true;
}

AF_NOINLINE bool af_sketch_distinct_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    af_store *store = feed->store;
    const af_input *column = &feed->rows->inputs[op->input];
    for (uint32_t k = 0; k < block->count; k++) {
        const int64_t row = begin + block->rows[k];
        int64_t *slot = af_i64(block->cells[k], op->offset);
        af_distinct *distinct = (af_distinct *)(intptr_t)*slot;
        const uint64_t hash = op->input_kind == AF_KIND_STRING ? af_finish_text(column->data + column->starts[row], (uint32_t)column->lengths[row])
                                                               : af_finish(af_equal_word(column, op->input_kind, row));
        const bool done = af_distinct_add(&distinct, hash, &store->sketches);
        *slot = (int64_t)(intptr_t)distinct;
        if (!done) return false;
    }
    return true;
}

AF_NOINLINE bool af_sketch_top_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    af_store *store = feed->store;
    const af_input *column = &feed->rows->inputs[op->input];
    for (uint32_t k = 0; k < block->count; k++) {
        const int64_t row = begin + block->rows[k];
        int64_t *slot = af_i64(block->cells[k], op->offset);
        af_top *top = (af_top *)(intptr_t)*slot;
        const af_top_value value = op->input_kind == AF_KIND_STRING
                                       ? af_top_text(store->seed, column->data + column->starts[row], (uint32_t)column->lengths[row])
                                       : af_top_word(store->seed, af_equal_word(column, op->input_kind, row));
        const bool done = af_top_add(&top, (uint32_t)op->counters, &value, &store->sketches);
        *slot = (int64_t)(intptr_t)top;
        if (!done) return false;
    }
    return true;
}

/* -- results ---------------------------------------------------------------------------------------------------------- */

AF_INLINE bool af_result_distinct_estimate(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    *word = af_distinct_result((const af_distinct *)(intptr_t)*af_i64(cell, op->offset));
    return true;
}

AF_INLINE bool af_result_quantile(const af_op *op, uint8_t *cell, int kind, double share, int64_t *word, int64_t *overflows) {
    af_ranks *ranks = (af_ranks *)(intptr_t)*af_i64(cell, op->offset);
    if (ranks == NULL) return false;
    *word = af_bits(af_ranks_between(ranks, kind == AF_KIND_FLOAT64, share));
    return true;
}

AF_INLINE bool af_result_quantile_value(const af_op *op, uint8_t *cell, int kind, double share, int64_t *word, int64_t *overflows) {
    af_ranks *ranks = (af_ranks *)(intptr_t)*af_i64(cell, op->offset);
    if (ranks == NULL) return false;
    *word = af_ranks_of_share(ranks, share);
    if (kind == AF_KIND_FLOAT64) *word = af_bits(af_float_of(*word));
    return true;
}

AF_INLINE bool af_result_quantile_estimate(const af_op *op, uint8_t *cell, int kind, double share, int64_t *word, int64_t *overflows) {
    af_quantile *quantile = (af_quantile *)(intptr_t)*af_i64(cell, op->offset);
    if (quantile == NULL) return false;
    *word = af_bits(af_quantile_result(quantile, share));
    return true;
}

/* The word is where the sketch is; a column makes a list of it. */
AF_INLINE bool af_result_most_frequent(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    *word = *af_i64(cell, op->offset);
    return *word != 0;
}

#endif
