/* Quantiles: the values themselves while there are few, then a DDSketch.
 *
 * Up to 128 values are kept as they are (as words that sort like them); quantiles of those are exact.  Beyond, values are counted in buckets
 * (Masson, Rim, Lee, "DDSketch", VLDB 2019): of magnitude in (g^(i-1), g^i], g = e^0.0198, the middle of a bucket is within (g-1)/(g+1) =
 * 0.99 % of all its values.  Buckets are in one array in the order of the values, by a key:
 *
 *   -infinity | negative: -(i + 40000) | zero: 0 | positive: i + 40000 | infinity | NaN
 *
 * At most 2,048 buckets of each sign, 64 KiB in all: the one nearest to zero goes into the next one then.  The least and the greatest value are kept
 * as they are.  What is kept depends on the values alone, not on their order or on merges: the 2,048 keys furthest from zero of all are
 * among the 2,048 of each part that has them. */
#ifndef ASYNCFLOW_SKETCH_QUANTILE_H
#define ASYNCFLOW_SKETCH_QUANTILE_H

#include <float.h>
#include <math.h>

#include "words.h"

enum { AF_FEW_VALUES = 128, AF_SIGN_BUCKETS = 2048, AF_MAX_BUCKETS = 2 * AF_SIGN_BUCKETS + 8, AF_KEY_OFFSET = 40000, AF_KEY_INFINITY = 1 << 20, AF_KEY_NAN };

#define AF_LOG_GAMMA 0.0198
#define AF_MIDDLE 0.9999509970011621 /* 1 / cosh(0.0099): from the geometric middle of a bucket to the one with the least error */

typedef struct {
    int64_t count;
    int64_t key;
} af_bucket;

typedef struct {
    int64_t count;           /* of values */
    int64_t least, greatest; /* as sorting words, NaN left out */
    uint32_t bucketed;       /* values (words) or buckets */
    uint32_t length, capacity;
    int64_t words[]; /* two to a bucket */
} af_quantile;

AF_INLINE af_bucket *af_buckets(const af_quantile *quantile) { return (af_bucket *)quantile->words; }

AF_INLINE size_t af_quantile_bytes(const af_quantile *quantile) {
    return sizeof *quantile + (size_t)quantile->capacity * (quantile->bucketed ? sizeof(af_bucket) : sizeof(int64_t));
}

AF_INLINE void af_quantile_drop(af_quantile *quantile, uint64_t *held) {
    if (quantile != NULL) *held -= af_quantile_bytes(quantile);
    free(quantile);
}

AF_INLINE int64_t af_bucket_key(double value) {
    if (value != value) return AF_KEY_NAN;
    if (value == 0.0) return 0;
    const double size = fabs(value);
    const int64_t key = isinf(size) ? AF_KEY_INFINITY : (int64_t)ceil(log(size) / AF_LOG_GAMMA) + AF_KEY_OFFSET;
    return value < 0.0 ? -key : key;
}

/* The first bucket whose key is not less. */
AF_INLINE uint32_t af_bucket_place(const af_quantile *quantile, int64_t key) {
    const af_bucket *buckets = af_buckets(quantile);
    uint32_t low = 0, length = quantile->length;
    while (length > 0) {
        const uint32_t half = length / 2;
        const bool less = buckets[low + half].key < key;
        low += less ? length - half : 0;
        length = half;
    }
    return low;
}

/* Room for so many values or buckets. */
static bool af_quantile_reserve(af_quantile **place, uint32_t wanted, uint64_t *held) {
    af_quantile *quantile = *place;
    if (wanted <= quantile->capacity) return true;
    uint32_t capacity = quantile->capacity;
    while (capacity < wanted) capacity *= 2;
    if (capacity > AF_MAX_BUCKETS) capacity = AF_MAX_BUCKETS;
    const size_t item = quantile->bucketed ? sizeof(af_bucket) : sizeof(int64_t);
    quantile = realloc(quantile, sizeof *quantile + capacity * item);
    if (quantile == NULL) return false;
    *held += (capacity - quantile->capacity) * item;
    quantile->capacity = capacity;
    *place = quantile;
    return true;
}

static af_quantile *af_quantile_new(uint32_t bucketed, uint32_t capacity, uint64_t *held) {
    af_quantile *quantile = malloc(sizeof *quantile + capacity * (bucketed ? sizeof(af_bucket) : sizeof(int64_t)));
    if (quantile == NULL) return NULL;
    *quantile = (af_quantile){0, INT64_MAX, INT64_MIN, bucketed, 0, capacity};
    *held += af_quantile_bytes(quantile);
    return quantile;
}

AF_INLINE void af_bucket_remove(af_quantile *quantile, uint32_t at) {
    af_bucket *buckets = af_buckets(quantile);
    memmove(buckets + at, buckets + at + 1, (--quantile->length - at) * sizeof *buckets);
}

static void af_quantile_collapse(af_quantile *quantile) {
    af_bucket *buckets = af_buckets(quantile);
    for (;;) {
        const uint32_t first = af_bucket_place(quantile, 1), last = af_bucket_place(quantile, AF_KEY_INFINITY);
        if (last - first <= AF_SIGN_BUCKETS) break;
        buckets[first + 1].count += buckets[first].count;
        af_bucket_remove(quantile, first);
    }
    for (;;) {
        const uint32_t first = af_bucket_place(quantile, 1 - AF_KEY_INFINITY), last = af_bucket_place(quantile, 0);
        if (last - first <= AF_SIGN_BUCKETS) break;
        buckets[last - 2].count += buckets[last - 1].count;
        af_bucket_remove(quantile, last - 1);
    }
}

static bool af_bucket_add(af_quantile **place, int64_t key, uint64_t *held) {
    uint32_t at = af_bucket_place(*place, key);
    if (at < (*place)->length && af_buckets(*place)[at].key == key) {
        af_buckets(*place)[at].count++;
        return true;
    }
    if (!af_quantile_reserve(place, (*place)->length + 1, held)) return false;
    af_quantile *quantile = *place;
    af_bucket *buckets = af_buckets(quantile);
    memmove(buckets + at + 1, buckets + at, (quantile->length++ - at) * sizeof *buckets);
    buckets[at] = (af_bucket){1, key};
    if (quantile->length > AF_SIGN_BUCKETS) af_quantile_collapse(quantile);
    return true;
}

/* From values to buckets. */
static bool af_quantile_spread(af_quantile **place, uint64_t *held) {
    af_quantile *old = *place, *spread = af_quantile_new(1, 32, held);
    bool done = spread != NULL;
    for (uint32_t i = 0; done && i < old->length; i++) done = af_bucket_add(&spread, af_bucket_key(af_float_of(old->words[i])), held);
    if (!done) {
        af_quantile_drop(spread, held);
        return false;
    }
    spread->count = old->count;
    spread->least = old->least;
    spread->greatest = old->greatest;
    af_quantile_drop(old, held);
    *place = spread;
    return true;
}

/* false: no memory. */
static bool af_quantile_add(af_quantile **place, double value, uint64_t *held) {
    if (*place == NULL && (*place = af_quantile_new(0, 8, held)) == NULL) return false;
    if (!(*place)->bucketed && (*place)->length == AF_FEW_VALUES && !af_quantile_spread(place, held)) return false;
    const int64_t word = af_sorting_float(value);
    if ((*place)->bucketed) {
        if (!af_bucket_add(place, af_bucket_key(value), held)) return false;
    } else {
        if (!af_quantile_reserve(place, (*place)->length + 1, held)) return false;
        (*place)->words[(*place)->length++] = word;
    }
    af_quantile *quantile = *place;
    quantile->count++;
    if (value == value && word < quantile->least) quantile->least = word;
    if (value == value && word > quantile->greatest) quantile->greatest = word;
    return true;
}

/* Buckets of both, key by key. */
static bool af_buckets_merge(af_quantile **into, const af_quantile *from, uint64_t *held) {
    const af_quantile *old = *into;
    af_quantile *merged = af_quantile_new(1, old->length + from->length, held);
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
    af_quantile_drop(*into, held);
    af_quantile *fitted = realloc(merged, sizeof *merged + merged->length * sizeof(af_bucket));
    if (fitted != NULL) {
        *held -= (fitted->capacity - fitted->length) * sizeof(af_bucket);
        fitted->capacity = fitted->length;
    }
    *into = fitted != NULL ? fitted : merged;
    return true;
}

static bool af_quantile_merge(af_quantile **into, const af_quantile *from, uint64_t *held) {
    if (*into == NULL) { /* a copy */
        if ((*into = malloc(af_quantile_bytes(from))) == NULL) return false;
        memcpy(*into, from, af_quantile_bytes(from));
        *held += af_quantile_bytes(from);
        return true;
    }
    if (from->bucketed) return ((*into)->bucketed || af_quantile_spread(into, held)) && af_buckets_merge(into, from, held);
    for (uint32_t i = 0; i < from->length; i++)
        if (!af_quantile_add(into, af_float_of(from->words[i]), held)) return false;
    return true;
}

static int af_compare_words(const void *left, const void *right) {
    const int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* The value at a rank (from 0), or one near it. */
static double af_value_at(const af_quantile *quantile, int64_t rank) {
    if (!quantile->bucketed) return af_float_of(quantile->words[rank]);
    const af_bucket *bucket = af_buckets(quantile);
    int64_t before = 0;
    while (before + bucket->count <= rank) before += bucket++->count;
    if (bucket->key == AF_KEY_NAN) return NAN;
    const double least = af_float_of(quantile->least), greatest = af_float_of(quantile->greatest);
    if (rank == 0) return least;
    const af_bucket *last = af_buckets(quantile) + quantile->length - 1;
    if (rank == quantile->count - 1 - (last->key == AF_KEY_NAN ? last->count : 0)) return greatest;
    if (bucket->key == 0) return 0.0;
    double size = INFINITY;
    const int64_t key = bucket->key < 0 ? -bucket->key : bucket->key;
    if (key != AF_KEY_INFINITY) {
        const double power = (double)(key - AF_KEY_OFFSET) * AF_LOG_GAMMA - AF_LOG_GAMMA / 2.0;
        size = power > 709.78 ? DBL_MAX : exp(power) * AF_MIDDLE;
    }
    const double value = bucket->key < 0 ? -size : size;
    return value < least ? least : value > greatest ? greatest : value;
}

/* The value at a share `q` of the way from the least to the greatest, between two values by a straight line (as numpy does it). */
static double af_quantile_result(af_quantile *quantile, double q) {
    if (!quantile->bucketed) qsort(quantile->words, quantile->length, sizeof(int64_t), af_compare_words);
    const double place = (double)(quantile->count - 1) * q, rank = floor(place), part = place - rank;
    const double low = af_value_at(quantile, (int64_t)rank);
    if (part == 0.0) return low;
    const double high = af_value_at(quantile, (int64_t)rank + 1), between = high - low;
    if (!isfinite(between)) return low * (1.0 - part) + high * part;
    return part < 0.5 ? low + between * part : high - between * (1.0 - part);
}

#endif
