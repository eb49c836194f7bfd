/* COMOMENTS: covariance and correlation of two columns, of exact sums as moments.h: rounded once, in any order. */
#ifndef ASYNCFLOW_ACCUMULATORS_COMOMENTS_H
#define ASYNCFLOW_ACCUMULATORS_COMOMENTS_H

#include "accumulators/moments.h"

typedef struct {
    int64_t count;
    af_sum x, y;
    af_products xx, yy, xy;
} af_comoments;

enum { AF_COMOMENTS_WORDS = 17, AF_COMOMENTS_SAVED_WORDS = 5 };
enum { AF_BLOCK_X = AF_BLOCK_VALUE, AF_BLOCK_Y, AF_BLOCK_XX, AF_BLOCK_YY, AF_BLOCK_XY };
_Static_assert(sizeof(af_comoments) == 8 * AF_COMOMENTS_WORDS, "a cell's words");

AF_INLINE int af_comoments_words(const af_op *op, const af_store *store) { return AF_COMOMENTS_WORDS; }
AF_INLINE int af_comoments_saved_words(const af_op *op) { return AF_COMOMENTS_SAVED_WORDS; }
AF_INLINE bool af_comoments_blocks(const af_op *op, const af_store *store) { return false; }
AF_INLINE void af_comoments_empty(const af_op *op, int64_t *slot) {}

static bool af_comoments_copy(af_store *store, const af_op *op, int64_t *slot) {
    af_comoments *m = (af_comoments *)slot;
    af_products *products = &m->xx;
    bool done = af_sum_copy(&m->x.high, &m->x.low, &store->sum_bytes);
    done &= af_sum_copy(&m->y.high, &m->y.low, &store->sum_bytes);
    for (int i = 0; i < 3; i++) done &= af_sum_copy(&products[i].high, &products[i].low, &store->sum_bytes);
    return done;
}

static void af_comoments_drop(af_store *store, const af_op *op, int64_t *slot) {
    af_comoments *m = (af_comoments *)slot;
    af_products *products = &m->xx;
    af_sum_drop(&m->x.high, &m->x.low, &store->sum_bytes);
    af_sum_drop(&m->y.high, &m->y.low, &store->sum_bytes);
    for (int i = 0; i < 3; i++) af_sum_drop(&products[i].high, &products[i].low, &store->sum_bytes);
}

static bool af_comoments_plus(af_comoments *into, const af_comoments *from, uint64_t *held) {
    into->count += from->count;
    return af_sum_merge(&into->x, &from->x, held) && af_sum_merge(&into->y, &from->y, held) && af_products_merge(&into->xx, &from->xx, held) &&
           af_products_merge(&into->yy, &from->yy, held) && af_products_merge(&into->xy, &from->xy, held);
}

static bool af_comoments_merge(af_store *store, const af_op *op, int64_t *into, const int64_t *from) {
    return af_comoments_plus((af_comoments *)into, (const af_comoments *)from, &store->sum_bytes);
}

AF_NOINLINE bool af_comoments_add(const af_feed *feed, const af_op *op, const af_block *block) {
    double x[AF_PRODUCTS_ROOM], y[AF_PRODUCTS_ROOM];
    af_product_rows xx, yy, xy;
    uint64_t *held = &feed->store->sum_bytes;
    const bool usual_x = af_block_values(block, feed->rows->inputs[op->input].values, op->input_kind, feed->begin, x);
    const bool usual_y = af_block_values(block, feed->rows->inputs[op->second].values, op->second_kind, feed->begin, y);
    const uint32_t count = block->count;
    af_comoments all = {.count = count};
    af_products_of_rows(&xx, x, x, usual_x, count);
    af_products_of_rows(&yy, y, y, usual_y, count);
    af_products_of_rows(&xy, x, y, usual_x && usual_y, count);
    if (feed->one_cell && af_sum_of_all(&all.x, x, count) && af_sum_of_all(&all.y, y, count) && af_products_of_all(&all.xx, &xx, count) &&
        af_products_of_all(&all.yy, &yy, count) && af_products_of_all(&all.xy, &xy, count))
        return af_comoments_plus((af_comoments *)(block->cells[0] + op->offset), &all, held);
    uint32_t k = 0;
    for (; k + 1 < count; k += 2) {
        af_comoments *one = (af_comoments *)(block->cells[k] + op->offset), *other = (af_comoments *)(block->cells[k + 1] + op->offset);
        one->count++;
        other->count++;
        if (!af_sum_add_both(&one->x, x[k], &other->x, x[k + 1], held) || !af_sum_add_both(&one->y, y[k], &other->y, y[k + 1], held)) return false;
        if (!af_products_add_both(&one->xx, &other->xx, &xx, k, held) || !af_products_add_both(&one->yy, &other->yy, &yy, k, held) ||
            !af_products_add_both(&one->xy, &other->xy, &xy, k, held))
            return false;
    }
    if (k == count) return true;
    af_comoments *last = (af_comoments *)(block->cells[k] + op->offset);
    last->count++;
    return af_sum_add(&last->x, x[k], held) && af_sum_add(&last->y, y[k], held) && af_products_add_row(&last->xx, &xx, k, held) &&
           af_products_add_row(&last->yy, &yy, k, held) && af_products_add_row(&last->xy, &xy, k, held);
}

AF_NOINLINE double af_comoments_covariance(const af_comoments *m) {
    af_exact product, divisor;
    double rounded;
    const af_estimate about = af_estimate_spread(m->count, &m->xy, &m->x, &m->y);
    if (fabs(about.high) > 0x1p-400 &&
        af_estimate_decided(af_estimate_over(about, af_estimate_times(af_count_estimate(m->count), af_count_estimate(m->count - 1))), &rounded))
        return rounded;
    if (!af_sum_finite(&m->x) || !af_sum_finite(&m->y)) return NAN;
    af_exact_spread(&product, m->count, &m->xy, &m->x, &m->y);
    af_exact_of_words(&divisor, (unsigned __int128)m->count * (uint64_t)(m->count - 1), false);
    return af_exact_ratio(&product, &divisor, 1);
}

/* The covariance over the root of both variances, as the root of its square over theirs. */
AF_NOINLINE double af_comoments_correlation(const af_comoments *m) {
    af_exact x, y, product, square, variances;
    double rounded;
    const af_estimate of_x = af_estimate_spread(m->count, &m->xx, &m->x, &m->x), of_y = af_estimate_spread(m->count, &m->yy, &m->y, &m->y);
    const af_estimate about = af_estimate_spread(m->count, &m->xy, &m->x, &m->y);
    if (af_estimate_clear(of_x) && af_estimate_clear(of_y) && fabs(about.high) > 0x1p-400 &&
        af_estimate_decided(af_estimate_over(about, af_estimate_times(af_estimate_root(of_x), af_estimate_root(of_y))), &rounded))
        return rounded;
    if (!af_sum_finite(&m->x) || !af_sum_finite(&m->y)) return NAN;
    af_exact_spread(&x, m->count, &m->xx, &m->x, &m->x);
    af_exact_spread(&y, m->count, &m->yy, &m->y, &m->y);
    af_exact_spread(&product, m->count, &m->xy, &m->x, &m->y);
    if (x.count == 0 || y.count == 0 || x.negative || y.negative) return NAN;
    af_exact_multiply(&square, &product, &product);
    af_exact_multiply(&variances, &x, &y);
    square.negative = product.negative;
    return af_exact_ratio(&square, &variances, 2);
}

AF_INLINE bool af_result_covariance(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const af_comoments *m = (const af_comoments *)(cell + op->offset);
    if (m->count <= 1) return false;
    *word = af_bits(af_comoments_covariance(m));
    return true;
}

AF_INLINE bool af_result_correlation(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const af_comoments *m = (const af_comoments *)(cell + op->offset);
    if (m->count < 1) return false;
    *word = af_bits(af_comoments_correlation(m));
    return true;
}

static void af_comoments_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    const af_comoments *m = (const af_comoments *)(cell + op->offset);
    af_save_word(saving, m->count);
    af_sum_save(saving, AF_BLOCK_X, &m->x);
    af_sum_save(saving, AF_BLOCK_Y, &m->y);
    af_products_save(saving, AF_BLOCK_XX, &m->xx);
    af_products_save(saving, AF_BLOCK_YY, &m->yy);
    af_products_save(saving, AF_BLOCK_XY, &m->xy);
}

static int af_comoments_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    af_comoments *m = (af_comoments *)(cell + op->offset);
    m->count = af_load_word(loading);
    if (m->count < 0 || m->count > loading->rows) return AF_UNFIT;
    int done = af_sum_load(loading, AF_BLOCK_X, &m->x);
    if (done == AF_FITS) done = af_sum_load(loading, AF_BLOCK_Y, &m->y);
    if (done == AF_FITS) done = af_products_load(loading, AF_BLOCK_XX, &m->xx);
    if (done == AF_FITS) done = af_products_load(loading, AF_BLOCK_YY, &m->yy);
    if (done == AF_FITS) done = af_products_load(loading, AF_BLOCK_XY, &m->xy);
    return done;
}

#endif
