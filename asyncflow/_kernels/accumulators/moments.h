/* MOMENTS: variance and standard deviation.  Welford's updates, merged as Chan, Golub and LeVeque do. */
#ifndef ASYNCFLOW_ACCUMULATORS_MOMENTS_H
#define ASYNCFLOW_ACCUMULATORS_MOMENTS_H

#include "accumulators/saved.h"

typedef struct {
    double count, mean, m2; /* m2: sum of the squares of distances from the mean */
} af_moments;

enum { AF_MOMENTS_WORDS = 3 };
_Static_assert(sizeof(af_moments) == 8 * AF_MOMENTS_WORDS, "a cell's words");

AF_INLINE int af_moments_words(const af_op *op, const af_store *store) { return AF_MOMENTS_WORDS; }
AF_INLINE int af_moments_saved_words(const af_op *op) { return AF_MOMENTS_WORDS; }
AF_INLINE bool af_moments_blocks(const af_op *op, const af_store *store) { return false; }
AF_INLINE void af_moments_empty(const af_op *op, int64_t *slot) {}
AF_INLINE bool af_moments_copy(af_store *store, const af_op *op, int64_t *slot) { return true; }
AF_INLINE void af_moments_drop(af_store *store, const af_op *op, int64_t *slot) {}

AF_NOINLINE bool af_moments_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    const void *values = feed->rows->inputs[op->input].values;
    for (uint32_t k = 0; k < block->count; k++) {
        af_moments *m = (af_moments *)(block->cells[k] + op->offset);
        const double x = af_double_at(values, op->input_kind, begin + block->rows[k]);
        m->count += 1.0;
        const double d = x - m->mean;
        m->mean += d / m->count;
        m->m2 += d * (x - m->mean);
    }
    return true;
}

static bool af_moments_merge(af_store *store, const af_op *op, int64_t *into_slot, const int64_t *from_slot) {
    af_moments *into = (af_moments *)into_slot;
    const af_moments *from = (const af_moments *)from_slot;
    if (from->count == 0.0) return true;
    if (into->count == 0.0) {
        *into = *from;
        return true;
    }
    const double n = into->count + from->count, f = from->count / n, d = from->mean - into->mean;
    into->mean += d * f;
    into->m2 = (into->m2 + from->m2) + d * d * (into->count * f);
    into->count = n;
    return true;
}

AF_INLINE bool af_result_variance(const af_op *op, uint8_t *cell, int kind, double correction, int64_t *word, int64_t *overflows) {
    const af_moments *m = (const af_moments *)(cell + op->offset);
    if (m->count <= correction) return false;
    *word = af_bits(m->m2 / (m->count - correction));
    return true;
}

AF_INLINE bool af_result_deviation(const af_op *op, uint8_t *cell, int kind, double correction, int64_t *word, int64_t *overflows) {
    const af_moments *m = (const af_moments *)(cell + op->offset);
    if (m->count <= correction) return false;
    *word = af_bits(sqrt(m->m2 / (m->count - correction)));
    return true;
}

static void af_moments_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    const af_moments *m = (const af_moments *)(cell + op->offset);
    af_save_double(saving, m->count);
    af_save_double(saving, m->mean);
    af_save_double(saving, m->m2);
}

static int af_moments_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    af_moments *m = (af_moments *)(cell + op->offset);
    m->count = af_load_double(loading);
    m->mean = af_load_double(loading);
    m->m2 = af_load_double(loading);
    return AF_FITS;
}

#endif
