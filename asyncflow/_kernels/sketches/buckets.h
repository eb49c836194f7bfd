/* Counts of values by bucket: the store of a quantile sketch of many values (sketches/quantile.h says what the buckets are).
 *
 * DENSE: for each sign a window of counts, one for each bucket from a first magnitude on, zeros beside them: a value costs about
 * its logarithm and one access.  SPARSE: buckets that have values in one array in the order of their keys: where a sign's magnitudes reach
 * over more than 2,048 buckets (17 decades), or there is an infinity or a NaN.  A store goes from the one to the other at most once; both hold the
 * same counts.
 *
 * A sparse array has at most 2,048 buckets of each sign, 64 KiB in all: the one nearest to zero goes into the next one then.  Dense
 * ones cannot have more. */
#ifndef ASYNCFLOW_SKETCH_BUCKETS_H
#define ASYNCFLOW_SKETCH_BUCKETS_H

#include <float.h>
#include <math.h>

#include "base/words.h"
#include "sketches/pool.h"

enum { AF_SIGN_BUCKETS = 2048, AF_MAX_BUCKETS = 2 * AF_SIGN_BUCKETS + 8, AF_KEY_OFFSET = 40000, AF_OCTAVE = 35, AF_KEY_INFINITY = 1 << 20, AF_KEY_NAN };

typedef enum { AF_VALUES, AF_DENSE, AF_SPARSE } af_quantile_form;

typedef struct {
    int64_t count;
    int64_t key;
} af_bucket;

typedef struct {
    uint32_t length;         /* VALUES, SPARSE: items in use */
    uint32_t capacity;       /* room for items; DENSE: for both windows of counts */
    int64_t count;           /* of values; it and those before it are in one line */
    int64_t least, greatest; /* in buckets: as sorting words, NaN left out */
    uint16_t form;           /* af_quantile_form */
    uint16_t wide;           /* AVX-512 is to be used */
    uint32_t sorted;         /* VALUES: so many, from the first on, are in order */
    int32_t base[2];         /* DENSE: the least magnitude of each window, positive values and negative ones */
    uint32_t span[2];        /* and how many buckets it reaches over */
    int64_t zeros;
    int64_t words[];         /* VALUES: sorting words; DENSE: counts; SPARSE: two to a bucket */
} af_quantile;

AF_INLINE af_bucket *af_buckets(const af_quantile *quantile) { return (af_bucket *)quantile->words; }

AF_INLINE size_t af_quantile_bytes(const af_quantile *quantile) {
    return sizeof *quantile + (size_t)quantile->capacity * (quantile->form == AF_SPARSE ? sizeof(af_bucket) : sizeof(int64_t));
}

AF_INLINE void af_quantile_drop(af_quantile *quantile, af_pool *pool) {
    if (quantile == NULL) return;
    const size_t bytes = af_quantile_bytes(quantile);
    pool->held -= bytes;
    af_pool_note(pool, quantile->count < AF_MOST_FIRST_ROOM ? (uint32_t)quantile->count : AF_MOST_FIRST_ROOM);
    af_pool_give(pool, quantile, bytes);
}

static af_quantile *af_quantile_new(af_quantile_form form, uint32_t capacity, af_pool *pool) {
    af_quantile *quantile = af_pool_take(pool, sizeof *quantile + capacity * (form == AF_SPARSE ? sizeof(af_bucket) : sizeof(int64_t)));
    if (quantile == NULL) return NULL;
    *quantile = (af_quantile){.least = INT64_MAX, .greatest = INT64_MIN, .form = (uint16_t)form, .wide = pool->wide, .capacity = capacity};
    pool->held += af_quantile_bytes(quantile);
    return quantile;
}

/* Room for so many values or sparse buckets. */
static bool af_quantile_reserve(af_quantile **place, uint32_t wanted, af_pool *pool) {
    af_quantile *quantile = *place;
    if (AF_LIKELY(wanted <= quantile->capacity)) return true;
    uint32_t capacity = quantile->capacity ? quantile->capacity : 8;
    while (capacity < wanted) capacity *= 2;
    if (capacity > AF_MAX_BUCKETS) capacity = AF_MAX_BUCKETS;
    const size_t item = quantile->form == AF_SPARSE ? sizeof(af_bucket) : sizeof(int64_t);
    quantile = af_pool_resize(pool, quantile, af_quantile_bytes(quantile), sizeof *quantile + capacity * item);
    if (quantile == NULL) return false;
    pool->held += (capacity - quantile->capacity) * item;
    quantile->capacity = capacity;
    *place = quantile;
    return true;
}

/* -- keys ----------------------------------------------------------------------------------------------------------- */

/* A cubic that goes from 0 to 1 about as the logarithm to base 2 of 1 + u does for u in 0 .. 1. */
AF_INLINE double af_cubic(double u) { return ((6.0 / 35.0 * u - 3.0 / 5.0) * u + 10.0 / 7.0) * u; }

/* The bucket of a finite size above 0: AF_OCTAVE to each power of two, cut at equal steps of the cubic. */
AF_INLINE int64_t af_size_bucket(double size) {
    int64_t exponent = -1023;
    if (AF_UNLIKELY(size < DBL_MIN)) {
        size *= 0x1p54;
        exponent -= 54;
    }
    const uint64_t bits = (uint64_t)af_sorting_float(size);
    const double u = af_float_of((int64_t)((bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull)) - 1.0;
    const int64_t part = (int64_t)(af_cubic(u) * AF_OCTAVE);
    return (exponent + (int64_t)(bits >> 52)) * AF_OCTAVE + (part < AF_OCTAVE ? part : AF_OCTAVE - 1);
}

/* 1 + u where the cubic is `part`: Newton's steps, which double the digits each. */
static double af_bucket_bound(double part) {
    double u = part;
    for (int i = 0; i < 6; i++) u -= (af_cubic(u) - part) / ((18.0 / 35.0 * u - 6.0 / 5.0) * u + 10.0 / 7.0);
    return 1.0 + u;
}

/* The size from which each size of a bucket is less than 1 % away: of its bounds the harmonic mean. */
static double af_bucket_middle(int64_t bucket) {
    const int64_t whole = (bucket + 2048 * AF_OCTAVE) / AF_OCTAVE - 2048;
    const double part = (double)(bucket - whole * AF_OCTAVE);
    const double low = af_bucket_bound(part / AF_OCTAVE), high = af_bucket_bound((part + 1.0) / AF_OCTAVE);
    return ldexp(2.0 * low * high / (low + high), (int)whole);
}

AF_INLINE int64_t af_bucket_key(double value) {
    if (value != value) return AF_KEY_NAN;
    if (value == 0.0) return 0;
    const double size = fabs(value);
    const int64_t key = isinf(size) ? AF_KEY_INFINITY : af_size_bucket(size) + AF_KEY_OFFSET;
    return value < 0.0 ? -key : key;
}

/* -- sparse --------------------------------------------------------------------------------------------------------- */

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

static bool af_sparse_add(af_quantile **place, int64_t key, int64_t count, af_pool *pool) {
    uint32_t at = af_bucket_place(*place, key);
    if (at < (*place)->length && af_buckets(*place)[at].key == key) {
        af_buckets(*place)[at].count += count;
        return true;
    }
    if (!af_quantile_reserve(place, (*place)->length + 1, pool)) return false;
    af_quantile *quantile = *place;
    af_bucket *buckets = af_buckets(quantile);
    memmove(buckets + at + 1, buckets + at, (quantile->length++ - at) * sizeof *buckets);
    buckets[at] = (af_bucket){count, key};
    if (quantile->length > AF_SIGN_BUCKETS) af_quantile_collapse(quantile);
    return true;
}

/* -- dense ---------------------------------------------------------------------------------------------------------- */

AF_INLINE int64_t *af_dense_counts(const af_quantile *quantile, int sign) {
    return (int64_t *)quantile->words + (sign ? quantile->span[0] : 0);
}

/* The count of a key that the windows reach to, or NULL. */
AF_INLINE int64_t *af_dense_count(af_quantile *quantile, int64_t key) {
    if (AF_UNLIKELY(key == 0)) return &quantile->zeros;
    const int sign = key < 0;
    const uint64_t at = (uint64_t)((sign ? -key : key) - quantile->base[sign]);
    return at < quantile->span[sign] ? af_dense_counts(quantile, sign) + at : NULL;
}

/* Gives the buckets that have values one after another, in the order of keys; `at` from 0 on.  False: there are no more. */
AF_INLINE bool af_dense_next(const af_quantile *quantile, uint32_t *at, af_bucket *bucket) {
    const uint32_t negative = quantile->span[1];
    for (uint32_t i = *at; i <= quantile->capacity; i++) {
        const uint32_t j = i < negative ? negative - 1 - i : i - negative - 1;
        const int64_t count = i < negative ? af_dense_counts(quantile, 1)[j] : i == negative ? quantile->zeros : quantile->words[j];
        if (count == 0) continue;
        *bucket = (af_bucket){count, i < negative ? -((int64_t)quantile->base[1] + j) : i == negative ? 0 : (int64_t)quantile->base[0] + j};
        *at = i + 1;
        return true;
    }
    return false;
}

/* Widens the windows so that one reaches to `key`, with some room beyond: 1 done, 0 that would be too wide, -1: no memory. */
static int af_dense_widen(af_quantile **place, int64_t key, af_pool *pool) {
    enum { STEP = 64 };
    const af_quantile *old = *place;
    const int sign = key < 0;
    const int64_t size = sign ? -key : key, span = old->span[sign];
    const bool down = span && size < old->base[sign];
    int64_t low = span && !down ? old->base[sign] : size, high = down ? old->base[sign] + span - 1 : size;
    if (high - low >= AF_SIGN_BUCKETS) return 0;
    int64_t wanted = (high - low + span / 4 + STEP) / STEP * STEP;
    if (wanted > AF_SIGN_BUCKETS) wanted = AF_SIGN_BUCKETS;
    if (down || !span) low = high - wanted + 1;
    const int64_t other = old->span[!sign];
    af_quantile *wide = af_quantile_new(AF_DENSE, (uint32_t)(wanted + other), pool);
    if (wide == NULL) return -1;
    wide->count = old->count;
    wide->least = old->least;
    wide->greatest = old->greatest;
    wide->zeros = old->zeros;
    wide->base[sign] = (int32_t)low;
    wide->span[sign] = (uint32_t)wanted;
    wide->base[!sign] = old->base[!sign];
    wide->span[!sign] = (uint32_t)other;
    memset(wide->words, 0, (size_t)(wanted + other) * sizeof(int64_t));
    for (int i = 0; i < 2; i++)
        if (old->span[i])
            memcpy(af_dense_counts(wide, i) + (old->base[i] - wide->base[i]), af_dense_counts(old, i), old->span[i] * sizeof(int64_t));
    af_quantile_drop(*place, pool);
    *place = wide;
    return 1;
}

/* From windows of counts to an array of buckets; false: no memory. */
static bool af_dense_thin(af_quantile **place, af_pool *pool) {
    const af_quantile *old = *place;
    af_bucket bucket;
    uint32_t count = 0;
    for (uint32_t at = 0; af_dense_next(old, &at, &bucket);) count++;
    af_quantile *thin = af_quantile_new(AF_SPARSE, count + 16 < AF_MAX_BUCKETS ? count + 16 : AF_MAX_BUCKETS, pool);
    if (thin == NULL) return false;
    thin->count = old->count;
    thin->least = old->least;
    thin->greatest = old->greatest;
    for (uint32_t at = 0; af_dense_next(old, &at, &bucket);) af_buckets(thin)[thin->length++] = bucket;
    af_quantile_drop(*place, pool);
    *place = thin;
    return true;
}

/* -- either --------------------------------------------------------------------------------------------------------- */

/* Adds values to a bucket; false: no memory. */
AF_NOINLINE bool af_bucket_add_far(af_quantile **place, int64_t key, int64_t count, af_pool *pool) {
    if ((*place)->form == AF_DENSE) {
        const int widened = key >= AF_KEY_INFINITY || key <= -AF_KEY_INFINITY ? 0 : af_dense_widen(place, key, pool);
        if (widened < 0) return false;
        if (widened) {
            *af_dense_count(*place, key) += count;
            return true;
        }
        if (!af_dense_thin(place, pool)) return false;
    }
    return af_sparse_add(place, key, count, pool);
}

AF_INLINE bool af_bucket_add(af_quantile **place, int64_t key, int64_t count, af_pool *pool) {
    int64_t *found = AF_LIKELY((*place)->form == AF_DENSE) ? af_dense_count(*place, key) : NULL;
    if (AF_UNLIKELY(found == NULL)) return af_bucket_add_far(place, key, count, pool);
    *found += count;
    return true;
}

/* The next bucket that has values, in the order of keys, as af_dense_next. */
AF_INLINE bool af_bucket_next(const af_quantile *quantile, uint32_t *at, af_bucket *bucket) {
    if (quantile->form == AF_DENSE) return af_dense_next(quantile, at, bucket);
    if (*at == quantile->length) return false;
    *bucket = af_buckets(quantile)[(*at)++];
    return true;
}

#endif
