/* Sketches: accumulators of bounded size for what has no exact one.
 *
 * Each is a block of its own that belongs to one cell, whose word points to it (0: no value came yet).  `held` counts the bytes. */
#ifndef ASYNCFLOW_SKETCHES_H
#define ASYNCFLOW_SKETCHES_H

#include "sketches/distinct.h"
#include "sketches/quantile.h"
#include "sketches/ranks.h"
#include "sketches/top.h"

typedef enum { AF_SKETCH_DISTINCT, AF_SKETCH_QUANTILE, AF_SKETCH_RANKS, AF_SKETCH_TOP } af_sketch_kind;

static void af_sketch_drop(int kind, int64_t *slot, uint64_t *held) {
    void *sketch = (void *)(intptr_t)*slot;
    *slot = 0;
    switch (kind) {
    case AF_SKETCH_DISTINCT: af_distinct_drop(sketch, held); break;
    case AF_SKETCH_QUANTILE: af_quantile_drop(sketch, held); break;
    case AF_SKETCH_RANKS: af_ranks_drop(sketch, held); break;
    default: af_top_drop(sketch, held);
    }
}

/* into = into + from; into an empty slot a copy.  false: no memory. */
static bool af_sketch_merge(int kind, int64_t *into, int64_t from, uint64_t *held) {
    void *sketch = (void *)(intptr_t)*into, *other = (void *)(intptr_t)from;
    bool done;
    if (other == NULL) return true;
    if (kind == AF_SKETCH_DISTINCT) {
        af_distinct *distinct = sketch;
        done = af_distinct_merge(&distinct, other, held);
        sketch = distinct;
    } else if (kind == AF_SKETCH_QUANTILE) {
        af_quantile *quantile = sketch;
        done = af_quantile_merge(&quantile, other, held);
        sketch = quantile;
    } else if (kind == AF_SKETCH_RANKS) {
        af_ranks *ranks = sketch;
        done = af_ranks_merge(&ranks, other, held);
        sketch = ranks;
    } else {
        af_top *top = sketch;
        done = af_top_merge(&top, other, held);
        sketch = top;
    }
    *into = (int64_t)(intptr_t)sketch;
    return done;
}

#endif
