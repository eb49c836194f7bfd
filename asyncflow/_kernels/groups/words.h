/* 64-bit words to dense ids: fixed-width key columns (by canonical bit pattern) and pairs of ids.
 *
 * Open addressing with linear probing, slots of (word, id + 1), at most five eighths full; words by id are kept beside it.  Blocks of 64 rows:
 * hash and prefetch, then look up in row order.  Null is an id without a slot. */
#ifndef ASYNCFLOW_GROUPS_WORDS_H
#define ASYNCFLOW_GROUPS_WORDS_H

#include "groups/strings.h"

typedef struct {
    uint64_t word;
    int32_t id_plus_one; /* 0: empty */
    int32_t unused;
} af_slot;

typedef struct {
    af_slot *slots;
    uint64_t mask;
    uint64_t *words; /* by id */
    int32_t size;
    int32_t capacity;
    int32_t null_id;
    uint64_t seeds[AF_SEEDS];
} af_words;

typedef enum { AF_KEY_INT64, AF_KEY_FLOAT64, AF_KEY_BOOL } af_key_kind;

static void af_words_free(af_words *table) {
    free(table->slots);
    free(table->words);
    memset(table, 0, sizeof *table);
}

AF_INLINE bool af_words_fit(uint64_t words, uint64_t slot_count) { return words * 8 <= slot_count * 5; }

AF_INLINE uint64_t af_slot_of(const af_words *table, uint64_t word) { return af_hash_word(table->seeds, word) & table->mask; }

static bool af_words_reslot(af_words *table, uint64_t slot_count) {
    af_slot *slots = calloc(slot_count, sizeof(af_slot));
    if (slots == NULL) return false;
    af_want_huge(slots, slot_count * sizeof(af_slot));
    free(table->slots);
    table->slots = slots;
    table->mask = slot_count - 1;
    enum { AHEAD = 16 };
    for (int32_t id = 0; id < table->size; id++) {
        if (id + AHEAD < table->size) __builtin_prefetch(&slots[af_slot_of(table, table->words[id + AHEAD])], 1);
        if (id == table->null_id) continue;
        uint64_t at = af_slot_of(table, table->words[id]);
        while (slots[at].id_plus_one) at = (at + 1) & table->mask;
        slots[at] = (af_slot){table->words[id], id + 1, 0};
    }
    return true;
}

static bool af_words_init(af_words *table, const uint64_t *seeds) {
    memset(table, 0, sizeof *table);
    memcpy(table->seeds, seeds, sizeof table->seeds);
    table->null_id = -1;
    return af_words_reslot(table, AF_FIRST_CAPACITY);
}

static int32_t af_words_append(af_words *table, uint64_t word) {
    if (table->size == table->capacity) {
        size_t wanted = table->capacity ? (size_t)table->capacity * 2 : AF_FIRST_CAPACITY;
        if (wanted > INT32_MAX) return -1;
        uint64_t *words = af_resized(table->words, (size_t)table->capacity * 8, wanted * 8);
        if (words == NULL) return -1;
        table->words = words;
        table->capacity = (int32_t)wanted;
    }
    table->words[table->size] = word;
    return table->size++;
}

static int32_t af_words_null(af_words *table) {
    if (table->null_id < 0) table->null_id = af_words_append(table, 0);
    return table->null_id;
}

/* The id of a word whose probing begins at slot `at`; -1: no memory. */
AF_INLINE int32_t af_words_intern_at(af_words *table, uint64_t word, uint64_t at) {
    while (table->slots[at].id_plus_one) {
        if (table->slots[at].word == word) return table->slots[at].id_plus_one - 1;
        at = (at + 1) & table->mask;
    }
    int32_t id = af_words_append(table, word);
    if (id < 0) return -1;
    table->slots[at] = (af_slot){word, id + 1, 0};
    if (!af_words_fit((uint64_t)table->size, table->mask + 1) && !af_words_reslot(table, (table->mask + 1) * 2)) return -1;
    return id;
}

/* Bit patterns in which equal keys are equal: -0.0 is 0.0, every NaN is the quiet one. */
AF_INLINE uint64_t af_canonical_float(uint64_t bits) {
    if ((bits << 1) == 0) return 0;
    return (bits & 0x7FFFFFFFFFFFFFFFull) > 0x7FF0000000000000ull ? 0x7FF8000000000000ull : bits;
}

/* hashes: NULL or the words' hashes, where they are known. */
static bool af_words_assign_block(af_words *table, const uint64_t *words, const uint8_t *valid, const uint64_t *hashes, uint32_t count, int32_t *ids) {
    uint64_t mask = table->mask, at[AF_BLOCK_ROWS];
    for (uint32_t i = 0; i < count; i++) {
        at[i] = hashes != NULL ? hashes[i] & mask : af_slot_of(table, words[i]);
        __builtin_prefetch(&table->slots[at[i]]);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (AF_UNLIKELY(table->mask != mask)) at[i] = af_slot_of(table, words[i]);
        ids[i] = valid != NULL && valid[i] == 0 ? af_words_null(table) : af_words_intern_at(table, words[i], at[i]);
        if (ids[i] < 0) return false;
    }
    return true;
}

/* The bit patterns of values begin .. begin + count, at most AF_BLOCK_ROWS, in which equal keys are equal. */
AF_INLINE void af_canonical_words(const void *values, af_key_kind kind, int64_t begin, uint32_t count, uint64_t *words) {
    if (kind == AF_KEY_BOOL)
        for (uint32_t i = 0; i < count; i++) words[i] = ((const uint8_t *)values)[begin + i] != 0;
    else
        memcpy(words, (const uint64_t *)values + begin, count * 8);
    if (kind == AF_KEY_FLOAT64)
        for (uint32_t i = 0; i < count; i++) words[i] = af_canonical_float(words[i]);
}

static bool af_assign_words(af_words *table, const void *values, const uint8_t *valid, const uint64_t *hashes, af_key_kind kind, int64_t count,
                            int32_t *ids) {
    for (int64_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) {
        uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        uint64_t words[AF_BLOCK_ROWS];
        af_canonical_words(values, kind, begin, block, words);
        const uint8_t *block_valid = valid != NULL ? valid + begin : NULL;
        const uint64_t *block_hashes = hashes != NULL ? hashes + begin : NULL;
        if (!af_words_assign_block(table, words, block_valid, block_hashes, block, ids + begin)) return false;
    }
    return true;
}

static void af_hash_words(const uint64_t *seeds, const void *values, af_key_kind kind, int64_t count, uint64_t *hashes) {
    for (int64_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) {
        uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        uint64_t words[AF_BLOCK_ROWS];
        af_canonical_words(values, kind, begin, block, words);
        for (uint32_t i = 0; i < block; i++) hashes[begin + i] = af_hash_word(seeds, words[i]);
    }
}

/* Ids of (ids[i], others[i]), written over ids. */
static bool af_assign_pairs(af_words *table, int32_t *ids, const int32_t *others, int64_t count) {
    for (int64_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) {
        uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        uint64_t words[AF_BLOCK_ROWS];
        for (uint32_t i = 0; i < block; i++) words[i] = (uint64_t)(uint32_t)ids[begin + i] << 32 | (uint32_t)others[begin + i];
        if (!af_words_assign_block(table, words, NULL, NULL, block, ids + begin)) return false;
    }
    return true;
}

/* The same keys as `from[ids[i]]`, in that order, with ids 0, 1, 2, ...  The slots of `from` are taken over where there are as many:
 * clearing them costs less than new memory.  false: no memory, `from` is as it was. */
static bool af_words_rebuild(af_words *table, af_words *from, const int32_t *ids, int32_t count) {
    uint64_t slot_count = AF_FIRST_CAPACITY; /* for as many again: growing into them would take all steps once more */
    while (!af_words_fit(2 * ((uint64_t)count + 1), slot_count)) slot_count *= 2;
    const bool reused = slot_count == from->mask + 1;
    af_words made = {.mask = slot_count - 1, .null_id = -1};
    memcpy(made.seeds, from->seeds, sizeof made.seeds);
    made.capacity = count > AF_FIRST_CAPACITY ? count : AF_FIRST_CAPACITY;
    made.words = malloc((size_t)made.capacity * 8);
    made.slots = made.words == NULL || reused ? NULL : calloc(slot_count, sizeof(af_slot));
    if (made.words == NULL || (made.slots == NULL && !reused)) {
        free(made.words);
        return false;
    }
    if (reused) {
        made.slots = from->slots;
        from->slots = NULL;
        memset(made.slots, 0, slot_count * sizeof(af_slot));
    } else {
        af_want_huge(made.slots, slot_count * sizeof(af_slot));
    }
    af_want_huge(made.words, (size_t)made.capacity * 8);
    for (int32_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) { /* there is room for all: nothing can fail */
        uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        uint64_t words[AF_BLOCK_ROWS];
        uint8_t valid[AF_BLOCK_ROWS];
        int32_t new_ids[AF_BLOCK_ROWS];
        for (uint32_t i = 0; i < block; i++) {
            words[i] = from->words[ids[begin + i]];
            valid[i] = ids[begin + i] != from->null_id;
        }
        af_words_assign_block(&made, words, valid, NULL, block, new_ids);
    }
    *table = made;
    return true;
}

static uint64_t af_words_bytes(const af_words *table) {
    return (table->mask + 1) * sizeof(af_slot) + (uint64_t)table->capacity * 8;
}

#endif
