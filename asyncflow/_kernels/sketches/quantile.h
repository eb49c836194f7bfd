/* Quantiles by value (approx_quantile): the values themselves while there are few, then a DDSketch.
 *
 * Up to 128 values are kept as they are (as words that sort like them); quantiles of those are exact.  Beyond, values are counted in buckets
 * (Masson, Rim, Lee, "DDSketch", VLDB 2019), cut by a cubic in place of the logarithm as there: 35 to a power of two, none wider than
 * e^0.02, so the middle of a bucket is within 1 % of all its values.  No step hangs on a library's exp or log: sums, products and
 * quotients are the same bits everywhere.  Buckets are known by a key in the order of the values:
 *
 *   -infinity | negative: -(i + 40000) | zero: 0 | positive: i + 40000 | infinity | NaN
 *
 * sketches/buckets.h keeps them, at most 2,048 of each sign.  The least and the greatest value are kept as they are.  What is kept
 * depends on the values alone, not on their order or on merges: the 2,048 keys furthest from zero of all are among the 2,048 of each
 * part that has them. */
#ifndef ASYNCFLOW_SKETCH_QUANTILE_H
#define ASYNCFLOW_SKETCH_QUANTILE_H

#include "accumulators/saved.h"
#include "sketches/buckets.h"
#include "sketches/words_sort.h"

enum { AF_FEW_VALUES = 128 };

AF_INLINE void af_quantile_bounds(af_quantile *quantile, double value, int64_t word) {
    if (value == value && word < quantile->least) quantile->least = word;
    if (value == value && word > quantile->greatest) quantile->greatest = word;
}

/* From values to buckets. */
static bool af_quantile_spread(af_quantile **place, af_pool *pool) {
    af_quantile *old = *place, *spread = af_quantile_new(AF_DENSE, 0, pool);
    bool done = spread != NULL;
    for (uint32_t i = 0; done && i < old->length; i++) {
        const double value = af_float_of(old->words[i]);
        af_quantile_bounds(spread, value, old->words[i]);
        done = af_bucket_add(&spread, af_bucket_key(value), 1, pool);
    }
    if (!done) {
        af_quantile_drop(spread, pool);
        return false;
    }
    spread->count = old->count;
    af_quantile_drop(old, pool);
    *place = spread;
    return true;
}

/* false: no memory. */
AF_INLINE bool af_quantile_add(af_quantile **place, double value, af_pool *pool) {
    if (*place == NULL && (*place = af_quantile_new(AF_VALUES, af_pool_room(pool), pool)) == NULL) return false;
    const int64_t word = af_sorting_float(value);
    if ((*place)->form == AF_VALUES) {
        const uint32_t length = (*place)->length;
        if (AF_LIKELY(length < AF_FEW_VALUES)) {
            if (!af_quantile_reserve(place, length + 1, pool)) return false;
            (*place)->words[length] = word;
            (*place)->length = length + 1;
            (*place)->count++;
            return true;
        }
        if (!af_quantile_spread(place, pool)) return false;
    }
    if (!af_bucket_add(place, af_bucket_key(value), 1, pool)) return false;
    (*place)->count++;
    af_quantile_bounds(*place, value, word);
    return true;
}

/* Sparse buckets of both, key by key. */
static bool af_buckets_merge(af_quantile **into, const af_quantile *from, af_pool *pool) {
    const af_quantile *old = *into;
    af_quantile *merged = af_quantile_new(AF_SPARSE, old->length + from->length, pool);
    if (merged == NULL) return false;
    const af_bucket *left = af_buckets(old), *right = af_buckets(from), *left_end = left + old->length, *right_end = right + from->length;
    af_bucket *out = af_buckets(merged);
    while (left < left_end || right < right_end) {
        const bool take_left = left < left_end && (right == right_end || left->key <= right->key);
        const bool take_right = right < right_end && (left == left_end || right->key <= left->key);
        *out++ = (af_bucket){(take_left ? left->count : 0) + (take_right ? right->count : 0), take_left ? left->key : right->key};
        left += take_left;
        right += take_right;
    }
    merged->length = (uint32_t)(out - af_buckets(merged));
    merged->count = old->count + from->count;
    merged->least = old->least < from->least ? old->least : from->least;
    merged->greatest = old->greatest > from->greatest ? old->greatest : from->greatest;
    af_quantile_collapse(merged);
    af_quantile_drop(*into, pool);
    af_quantile *fitted = af_pool_resize(pool, merged, af_quantile_bytes(merged), sizeof *merged + merged->length * sizeof(af_bucket));
    if (fitted != NULL) {
        pool->held -= (fitted->capacity - fitted->length) * sizeof(af_bucket);
        fitted->capacity = fitted->length;
    }
    *into = fitted != NULL ? fitted : merged;
    return true;
}

static bool af_quantile_merge(af_quantile **into, const af_quantile *from, af_pool *pool) {
    if (*into == NULL) { /* a copy */
        if ((*into = af_pool_take(pool, af_quantile_bytes(from))) == NULL) return false;
        memcpy(*into, from, af_quantile_bytes(from));
        pool->held += af_quantile_bytes(from);
        return true;
    }
    if (from->form == AF_VALUES) {
        for (uint32_t i = 0; i < from->length; i++)
            if (!af_quantile_add(into, af_float_of(from->words[i]), pool)) return false;
        return true;
    }
    if ((*into)->form == AF_VALUES && !af_quantile_spread(into, pool)) return false;
    if ((*into)->form == AF_SPARSE && from->form == AF_SPARSE) return af_buckets_merge(into, from, pool);
    af_bucket bucket;
    for (uint32_t at = 0; af_bucket_next(from, &at, &bucket);)
        if (!af_bucket_add(into, bucket.key, bucket.count, pool)) return false;
    (*into)->count += from->count;
    if (from->least < (*into)->least) (*into)->least = from->least;
    if (from->greatest > (*into)->greatest) (*into)->greatest = from->greatest;
    return true;
}

/* The value at a rank (from 0), or one near it. */
static double af_value_at(const af_quantile *quantile, int64_t rank) {
    if (quantile->form == AF_VALUES) return af_float_of(quantile->words[rank]);
    af_bucket bucket = {0, 0};
    uint32_t at = 0;
    for (int64_t upto = 0; upto <= rank && af_bucket_next(quantile, &at, &bucket);) upto += bucket.count;
    if (bucket.key == AF_KEY_NAN) return NAN;
    const double least = af_float_of(quantile->least), greatest = af_float_of(quantile->greatest);
    if (rank == 0) return least;
    int64_t last = quantile->count - 1;
    if (quantile->form == AF_SPARSE) {
        const af_bucket *highest = af_buckets(quantile) + quantile->length - 1;
        if (highest->key == AF_KEY_NAN) last -= highest->count;
    }
    if (rank == last) return greatest;
    if (bucket.key == 0) return 0.0;
    const int64_t key = bucket.key < 0 ? -bucket.key : bucket.key;
    const double size = key == AF_KEY_INFINITY ? INFINITY : af_bucket_middle(key - AF_KEY_OFFSET);
    const double value = bucket.key < 0 ? -size : size;
    return value < least ? least : value > greatest ? greatest : value;
}

/* The value at a share `q` of the way from the least to the greatest, between two values by a straight line (af_between). */
static double af_quantile_result(af_quantile *quantile, double q) {
    if (quantile->form == AF_VALUES && quantile->sorted < quantile->length) {
        af_words_sort(quantile->words, quantile->length, quantile->wide);
        quantile->sorted = quantile->length;
    }
    const double place = (double)(quantile->count - 1) * q, rank = floor(place), part = place - rank;
    const double low = af_value_at(quantile, (int64_t)rank);
    if (part == 0.0) return low;
    return af_between(low, af_value_at(quantile, (int64_t)rank + 1), part);
}

/* -- saved ------------------------------------------------------------------------------------------------------------ */

/* How many values; up to AF_FEW_VALUES of them: their words in order, else the least and the greatest word and (key, count) of each bucket.
 * In which form buckets are kept is not saved. */
static void af_quantile_save(af_saving *saving, const af_quantile *quantile) {
    af_block_word(saving, quantile->count);
    if (quantile->form == AF_VALUES) {
        int64_t words[AF_FEW_VALUES];
        memcpy(words, quantile->words, quantile->length * sizeof *words);
        af_words_sort(words, quantile->length, quantile->wide);
        af_block_bytes(saving, words, quantile->length * sizeof *words);
        return;
    }
    af_bucket bucket;
    af_block_word(saving, quantile->least);
    af_block_word(saving, quantile->greatest);
    for (uint32_t at = 0; af_bucket_next(quantile, &at, &bucket);) {
        af_block_word(saving, bucket.key);
        af_block_word(saving, bucket.count);
    }
}

/* Whether a word stands for a number. */
AF_INLINE bool af_number_word(int64_t word) { return word >= af_sorting_float(-INFINITY) && word <= af_sorting_float(INFINITY); }

AF_INLINE bool af_key_fits(int64_t key) {
    const int64_t size = key < 0 ? -key : key;
    if (key == 0 || key == AF_KEY_NAN || size == AF_KEY_INFINITY) return true;
    return size >= af_size_bucket(0x1p-1074) + AF_KEY_OFFSET && size <= af_size_bucket(DBL_MAX) + AF_KEY_OFFSET;
}

static int af_buckets_load(af_loading *loading, af_view *view, int64_t count, af_quantile **place) {
    af_pool *pool = &loading->store->sketches;
    int64_t least, greatest, before = INT64_MIN, upto = 0, of_sign[2] = {0, 0};
    if (!af_view_word(view, &least) || !af_view_word(view, &greatest)) return AF_UNFIT;
    if ((*place = af_quantile_new(AF_DENSE, 0, pool)) == NULL) return AF_NO_MEMORY;
    while (view->left) {
        int64_t key, more;
        if (!af_view_word(view, &key) || !af_view_word(view, &more) || key <= before || key < -AF_KEY_INFINITY || !af_key_fits(key)) return AF_UNFIT;
        if (more < 1 || more > count - upto) return AF_UNFIT;
        if (key != 0 && key < AF_KEY_INFINITY && key > -AF_KEY_INFINITY && ++of_sign[key < 0] > AF_SIGN_BUCKETS) return AF_UNFIT;
        if (!af_bucket_add(place, key, more, pool)) return AF_NO_MEMORY;
        before = key;
        upto += more;
    }
    const bool nan_only = (*place)->form == AF_SPARSE && (*place)->length == 1 && af_buckets(*place)->key == AF_KEY_NAN;
    if (nan_only ? least != INT64_MAX || greatest != INT64_MIN : !af_number_word(least) || !af_number_word(greatest) || least > greatest)
        return AF_UNFIT;
    (*place)->count = count;
    (*place)->least = least;
    (*place)->greatest = greatest;
    return upto == count ? AF_FITS : AF_UNFIT;
}

static int af_quantile_load(af_loading *loading, const af_op *op, af_view *view, af_quantile **place) {
    int64_t count, word, before = INT64_MIN;
    if (!af_view_word(view, &count) || count < 1 || count > AF_MOST_ROWS) return AF_UNFIT;
    if (count > AF_FEW_VALUES) return af_buckets_load(loading, view, count, place);
    for (int64_t i = 0; i < count; i++, before = word) {
        if (!af_view_word(view, &word) || word < before || !(af_number_word(word) || word == af_sorting_float(NAN))) return AF_UNFIT;
        if (!af_quantile_add(place, af_float_of(word), &loading->store->sketches)) return AF_NO_MEMORY;
    }
    return AF_FITS;
}

#endif
