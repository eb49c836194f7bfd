/* Keys of a join that are one 64-bit number: their names, given when a number comes and taken back when the last row of it leaves.
 *
 * A name is a place among the join's keys; those of one bucket are a chain through them.  Sixteen neighbouring numbers have their buckets
 * side by side, so that numbers which count up cost few cache lines; which sixteen buckets is hashed. */
#ifndef ASYNCFLOW_JOIN_NUMBERS_H
#define ASYNCFLOW_JOIN_NUMBERS_H

#include "base/slots.h"

enum { AF_NONE = -1, AF_FREE = -2, AF_COMING = -3 };

typedef struct {
    int32_t head, tail;
} af_chain;

typedef struct {
    int64_t number;
    af_chain chains[2];
    union {
        int32_t mark; /* nearest: the last right row not after the last left one; without a reach: 0 where the key is to be looked through */
        int32_t other; /* of a number: the next of its bucket */
    };
    int32_t rows; /* of a number: how many are held */
} af_join_key;

static const af_join_key AF_NEW_KEY = {0, {{AF_NONE, AF_NONE}, {AF_NONE, AF_NONE}}, {AF_NONE}, 0};

enum { AF_NUMBER_BLOCK = 64, AF_FIRST_BUCKETS = 1024 };

typedef struct {
    int32_t *buckets; /* NULL: keys are named by others */
    uint64_t mask, seeds[2];
    af_slots names;
    int64_t count;
} af_numbers;

AF_INLINE int32_t *af_number_bucket(const af_numbers *numbers, int64_t number) {
    const uint64_t hash = af_fold((uint64_t)number >> 4 ^ numbers->seeds[0], numbers->seeds[1] | 1);
    return &numbers->buckets[(hash ^ ((uint64_t)number & 15)) & numbers->mask];
}

/* Buckets anew, for the names below `top`. */
static bool af_number_buckets(af_numbers *numbers, af_join_key *keys, int64_t top, int64_t bucket_count) {
    int32_t *buckets = af_resized(NULL, 0, (size_t)bucket_count * sizeof *buckets);
    if (buckets == NULL) return false;
    memset(buckets, 0xff, (size_t)bucket_count * sizeof *buckets); /* AF_NONE */
    free(numbers->buckets);
    numbers->buckets = buckets;
    numbers->mask = (uint64_t)bucket_count - 1;
    for (int64_t name = 0; name < top; name++) {
        if (!keys[name].rows) continue;
        int32_t *bucket = af_number_bucket(numbers, keys[name].number);
        keys[name].other = *bucket;
        *bucket = (int32_t)name;
    }
    return true;
}

/* Room for the keys of a block of rows. */
static bool af_number_room(af_numbers *numbers, af_join_key **keys, int64_t *key_capacity) {
    const int64_t wanted = numbers->count + AF_NUMBER_BLOCK;
    if (numbers->buckets == NULL || 2 * wanted > (int64_t)numbers->mask) {
        const int64_t count = numbers->buckets == NULL ? AF_FIRST_BUCKETS : 2 * ((int64_t)numbers->mask + 1);
        if (!af_number_buckets(numbers, *keys, numbers->names.top, count)) return false;
    }
    return af_grow(keys, key_capacity, numbers->names.top + AF_NUMBER_BLOCK, sizeof **keys);
}

/* The names of a block of numbers, each with one row more; there is room for them. */
static void af_number_names(af_numbers *numbers, af_join_key *keys, const int64_t *values, const uint8_t *valid, int64_t count, int32_t *names) {
    int32_t *buckets[AF_NUMBER_BLOCK];
    for (int64_t i = 0; i < count; i++) {
        buckets[i] = af_number_bucket(numbers, values[i]);
        __builtin_prefetch(buckets[i]);
    }
    for (int64_t i = 0; i < count; i++)
        if (*buckets[i] != AF_NONE) __builtin_prefetch(&keys[*buckets[i]]);
    for (int64_t i = 0; i < count; i++) {
        if (valid != NULL && !valid[i]) {
            names[i] = AF_NONE;
            continue;
        }
        int32_t *at = buckets[i];
        while (*at != AF_NONE && keys[*at].number != values[i]) at = &keys[*at].other;
        int32_t name = *at;
        if (name == AF_NONE) { /* the last of its bucket: those that leave first are mostly the oldest, and found at once */
            name = af_slot_take(&numbers->names);
            keys[name] = AF_NEW_KEY;
            keys[name].number = values[i];
            keys[name].other = AF_NONE;
            *at = name;
            numbers->count++;
        }
        keys[name].rows++;
        names[i] = name;
    }
}

/* A row of the key has left; with the last one the name is free. */
AF_INLINE bool af_number_leave(af_numbers *numbers, af_join_key *keys, int32_t name) {
    if (--keys[name].rows) return true;
    int32_t *at = af_number_bucket(numbers, keys[name].number);
    while (*at != name) at = &keys[*at].other;
    *at = keys[name].other;
    numbers->count--;
    return af_slot_give(&numbers->names, name);
}

#endif
