/* COMOMENTS: covariance and correlation of two columns, as moments.h. */
#ifndef ASYNCFLOW_ACCUMULATORS_COMOMENTS_H
#define ASYNCFLOW_ACCUMULATORS_COMOMENTS_H

#include "accumulators/saved.h"

typedef struct {
    double count, mean_x, mean_y, m2_x, m2_y, product; /* product: sum of the products of both distances */
} af_comoments;

enum { AF_COMOMENTS_WORDS = 6 };
_Static_assert(sizeof(af_comoments) == 8 * AF_COMOMENTS_WORDS, "a cell's words");

AF_INLINE int af_comoments_words(const af_op *op, const af_store *store) { return AF_COMOMENTS_WORDS; }
AF_INLINE int af_comoments_saved_words(const af_op *op) { return AF_COMOMENTS_WORDS; }
AF_INLINE bool af_comoments_blocks(const af_op *op, const af_store *store) { return false; }
AF_INLINE void af_comoments_empty(const af_op *op, int64_t *slot) {}
AF_INLINE bool af_comoments_copy(af_store *store, const af_op *op, int64_t *slot) { return true; }
AF_INLINE void af_comoments_drop(af_store *store, const af_op *op, int64_t *slot) {}

AF_NOINLINE bool af_comoments_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    const void *xs = feed->rows->inputs[op->input].values, *ys = feed->rows->inputs[op->second].values;
    for (uint32_t k = 0; k < block->count; k++) {
        af_comoments *m = (af_comoments *)(block->cells[k] + op->offset);
        const int64_t row = begin + block->rows[k];
        const double x = af_double_at(xs, op->input_kind, row), y = af_double_at(ys, op->second_kind, row);
        m->count += 1.0;
        const double dx = x - m->mean_x;
        m->mean_x += dx / m->count;
        const double dy = y - m->mean_y;
        m->mean_y += dy / m->count;
        m->product += dx * (y - m->mean_y);
        m->m2_x += dx * (x - m->mean_x);
        m->m2_y += dy * (y - m->mean_y);
    }
    return true;
}

static bool af_comoments_merge(af_store *store, const af_op *op, int64_t *into_slot, const int64_t *from_slot) {
    af_comoments *into = (af_comoments *)into_slot;
    const af_comoments *from = (const af_comoments *)from_slot;
    if (from->count == 0.0) return true;
    if (into->count == 0.0) {
        *into = *from;
        return true;
    }
    const double n = into->count + from->count, f = from->count / n, w = into->count * f;
    const double dx = from->mean_x - into->mean_x, dy = from->mean_y - into->mean_y;
    into->product = (into->product + from->product) + dx * dy * w;
    into->m2_x = (into->m2_x + from->m2_x) + dx * dx * w;
    into->m2_y = (into->m2_y + from->m2_y) + dy * dy * w;
    into->mean_x += dx * f;
    into->mean_y += dy * f;
    into->count = n;
    return true;
}

AF_INLINE bool af_result_covariance(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const af_comoments *m = (const af_comoments *)(cell + op->offset);
    if (m->count <= 1.0) return false;
    *word = af_bits(m->product / (m->count - 1.0));
    return true;
}

AF_INLINE bool af_result_correlation(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const af_comoments *m = (const af_comoments *)(cell + op->offset);
    if (m->count < 1.0) return false;
    const double scale = sqrt(m->m2_x) * sqrt(m->m2_y);
    *word = af_bits(scale != 0.0 ? m->product / scale : NAN);
    return true;
}

static void af_comoments_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    const double *words = af_f64(cell, op->offset);
    for (int i = 0; i < AF_COMOMENTS_WORDS; i++) af_save_double(saving, words[i]);
}

static int af_comoments_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    double *words = af_f64(cell, op->offset);
    for (int i = 0; i < AF_COMOMENTS_WORDS; i++) words[i] = af_load_double(loading);
    return AF_FITS;
}

#endif
