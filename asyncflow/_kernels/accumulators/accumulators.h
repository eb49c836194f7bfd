/* All accumulators of a cell: what is done to one after another, by the list.
 *
 * Switches over families are made here, from accumulators/list.h; each case calls the family's own function. */
#ifndef ASYNCFLOW_ACCUMULATORS_H
#define ASYNCFLOW_ACCUMULATORS_H

#include "accumulators/comoments.h"
#include "accumulators/members.h"
#include "accumulators/moments.h"
#include "accumulators/number.h"
#include "accumulators/pick.h"
#include "sketches/sketches.h"

#define AF_EACH_FAMILY(CASE) \
    switch (op->family) { AF_FAMILIES(CASE) default: break; }

static int af_accumulator_words(const af_op *op, const af_store *store) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_words(op, store);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return 0;
}

/* How many words are saved of it. */
static int af_accumulator_saved_words(const af_op *op) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_saved_words(op);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return 0;
}

/* Whether its cells have blocks of their own. */
static bool af_accumulator_blocks(const af_op *op, const af_store *store) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_blocks(op, store);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return false;
}

static void af_accumulator_empty(const af_op *op, int64_t *slot) {
#define AF_CASE(NAME, name) case AF_##NAME: af_##name##_empty(op, slot); break;
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
}

/* Takes the rows of a block, one at least; false: no memory. */
AF_INLINE bool af_accumulator_add(const af_feed *feed, const af_op *op, const af_block *block) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_add(feed, op, block);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return true;
}

AF_INLINE bool af_accumulator_merge(af_store *store, const af_op *op, int64_t *into, const int64_t *from) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_merge(store, op, into, from);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return true;
}

AF_INLINE bool af_accumulator_copy(af_store *store, const af_op *op, int64_t *slot) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_copy(store, op, slot);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return true;
}

AF_INLINE void af_accumulator_drop(af_store *store, const af_op *op, int64_t *slot) {
#define AF_CASE(NAME, name) case AF_##NAME: af_##name##_drop(store, op, slot); break;
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
}

static void af_accumulator_save(af_saving *saving, const af_op *op, uint8_t *cell) {
#define AF_CASE(NAME, name) case AF_##NAME: af_##name##_save(saving, op, cell); break;
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
}

static int af_accumulator_load(af_loading *loading, const af_op *op, uint8_t *cell) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_##name##_load(loading, op, cell);
    AF_EACH_FAMILY(AF_CASE)
#undef AF_CASE
    return AF_UNFIT;
}

/* One cell's result: false where it is null.  `result` (an output's) and `kind` (of the accumulator's input) are constants where it is
 * inlined for one of them. */
AF_INLINE bool af_result_of(int result, int kind, double parameter, const af_op *op, uint8_t *cell, int64_t *word, int64_t *overflows) {
#define AF_CASE(NAME, name) case AF_##NAME: return af_result_##name(op, cell, kind, parameter, word, overflows);
    switch (result) { AF_RESULTS(AF_CASE) default: return false; }
#undef AF_CASE
}

/* -- cells ------------------------------------------------------------------------------------------------------------ */

/* Whether cells may own blocks. */
AF_INLINE bool af_cells_own(const af_store *store) { return store->has_blocks || store->sum_bytes; }

/* Forgets what a cell owns. */
static void af_cell_drop(af_store *store, uint8_t *cell) {
    for (int i = 0; i < store->op_count; i++) af_accumulator_drop(store, &store->ops[i], af_i64(cell, store->ops[i].offset));
}

/* Copies a cell with the blocks that it owns; on false (no memory) no block is owned twice. */
static bool af_cell_copy(af_store *store, uint8_t *to, uint8_t *from) {
    memcpy(to, from, store->cell_bytes);
    bool done = true;
    if (!af_cells_own(store) && store->set_count == 0) return true;
    for (int i = 0; i < store->op_count; i++) done &= af_accumulator_copy(store, &store->ops[i], af_i64(to, store->ops[i].offset));
    return done;
}

/* into = into + from; false: no memory. */
static bool af_cell_merge(af_store *store, uint8_t *into, uint8_t *from) {
    *af_i64(into, 0) += *af_i64(from, 0);
    for (int i = 0; i < store->op_count; i++) {
        const af_op *op = &store->ops[i];
        int64_t *mine = af_i64(into, op->offset), *theirs = af_i64(from, op->offset);
        /* Without the switch's jump for the most usual by far. */
        if (!(AF_LIKELY(op->family == AF_NUMBER) ? af_number_merge(store, op, mine, theirs) : af_accumulator_merge(store, op, mine, theirs))) return false;
    }
    return true;
}

/* Lays the accumulators out in the cell; false: no memory. */
static bool af_store_layout(af_store *store) {
    size_t at = 8;
    for (int i = 0; i < store->op_count; i++) {
        af_op *op = &store->ops[i];
        op->offset = (int)at;
        at += 8 * (size_t)af_accumulator_words(op, store);
        store->has_blocks |= af_accumulator_blocks(op, store);
    }
    store->wide = store->sketches.wide = af_cpu_level() >= AF_V4;
    store->cell_bytes = at <= 16 ? 16 : at <= 32 ? 32 : at <= 64 ? 64 : (at + 15) / 16 * 16;
    store->page_bytes = store->cell_bytes * AF_PAGE_CELLS;
    store->empty_page = calloc(1, store->page_bytes);
    if (store->empty_page == NULL) return false;
    for (int j = 0; j < AF_PAGE_CELLS; j++)
        for (int i = 0; i < store->op_count; i++)
            af_accumulator_empty(&store->ops[i], af_i64(store->empty_page + (size_t)j * store->cell_bytes, store->ops[i].offset));
    return true;
}

#endif
