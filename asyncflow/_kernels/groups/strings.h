/* Strings to dense ids: the intern table behind a string key column.
 *
 * Layout.  A bucket is one cache line of eight 16-bit tags and eight ids.  A tag is hash bits and the key's length, so that equal tag
 * and equal image mean an equal key.  The image of a key is its bytes and then zeros: 32 (words = 4) for keys of at most 32 bytes, or 64
 * (words = 8) from the first key of 33 to 64 bytes on, when the table is built anew.
 * A longer key has the tag class LONG and is compared by its text.  Arrays indexed by id hold image, hash and text offset; texts are kept
 * end to end.  Null is an id without an entry in the buckets.
 *
 * Steps of a look-up: see groups/block.h (64 rows at a time, three passes); here is the exact path that a miss takes, insertion, growth.
 * Buckets hold 4.5 entries on average at most; a full one overflows into the next.  The hash is that of groups/hash.h: a table that is built anew
 * keeps the hashes of its keys.  Nothing is ever deleted: the owner builds a new table of the keys it keeps. */
#ifndef ASYNCFLOW_GROUPS_STRINGS_H
#define ASYNCFLOW_GROUPS_STRINGS_H

#include "base/pages.h"
#include "groups/hash.h"

enum { AF_FIRST_CAPACITY = 256 };

typedef struct {
    uint16_t tag[8];
    int32_t id[8];
    uint32_t count;
    uint32_t unused[3];
} __attribute__((aligned(64))) af_key_bucket;

typedef struct {
    af_key_bucket *buckets;
    uint32_t mask;
    uint32_t words; /* of an image: 4 or 8 */
    int32_t size;
    int32_t capacity;
    uint64_t *images; /* [capacity][words], aligned to 64 */
    uint64_t *hashes;
    uint64_t *offsets; /* [capacity + 1]: text of id is text[offsets[id] .. offsets[id + 1]] */
    uint8_t *text;
    size_t text_capacity, images_held, hashes_held, offsets_held; /* bytes */
    int32_t null_id; /* -1: no null yet */
    uint64_t seeds[AF_SEEDS];
} af_strings;

/* One batch's string column.  valid: NULL or one byte per row; hashes: NULL or the texts' hashes, where they are known. */
typedef struct {
    const uint8_t *data;
    int64_t data_bytes;
    const int32_t *starts, *lengths;
    const uint8_t *valid;
    const uint64_t *hashes;
} af_string_rows;

/* A load that ends n bytes behind the middle masks n bytes off. */
static const uint8_t af_keep[128] __attribute__((aligned(64))) = {[0 ... 63] = 0xFF};

/* Who uses which bits of a hash: a bucket those from 20 on, up to 43 in a table of 2^24 buckets; the tag 54 to 63; 44 to 53 choose the part of a
 * stage that is cut by key.  They must stay apart: the keys of one part agree in the bits that chose the part, and would fill every other place only.
 * Tables of fixed values (groups/words.h) have no tag, and choose a slot by the lowest bits. */
AF_INLINE uint32_t af_key_bucket_of(uint64_t hash, uint32_t mask) { return (uint32_t)(hash >> 20) & mask; }

/* Never 0, which is an empty place: the length class is at least 1. */
AF_INLINE uint16_t af_tag(uint64_t hash, uint64_t length, uint32_t words) {
    if (words == 4) return (uint16_t)((hash >> 54 << 6) | (length <= 32 ? length + 1 : 63));
    return (uint16_t)((hash >> 55 << 7) | (length <= 64 ? length + 1 : 127));
}

static inline void af_place(af_key_bucket *buckets, uint32_t mask, uint64_t hash, uint16_t tag, int32_t id) {
    uint32_t at = af_key_bucket_of(hash, mask);
    while (buckets[at].count == 8) at = (at + 1) & mask;
    af_key_bucket *bucket = &buckets[at];
    bucket->tag[bucket->count] = tag;
    bucket->id[bucket->count++] = id;
}

/* Memory that begins at a cache line; where there is much of it, huge pages, because it is read at random places. */
static inline void *af_alloc_lines(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, bytes < AF_HUGE_FROM ? 64 : 2 << 20, bytes ? bytes : 64) != 0) return NULL;
    af_want_huge(memory, bytes);
    return memory;
}

static inline uint64_t af_text_length(const af_strings *table, int32_t id) { return table->offsets[id + 1] - table->offsets[id]; }

/* Buckets for the keys there are, with room to grow; false: no memory (the table is as before). */
static bool af_strings_rebucket(af_strings *table, uint32_t bucket_count) {
    af_key_bucket *buckets = af_alloc_lines((size_t)bucket_count * sizeof(af_key_bucket));
    if (buckets == NULL) return false;
    memset(buckets, 0, (size_t)bucket_count * sizeof(af_key_bucket));
    enum { AHEAD = 16 };
    for (int32_t id = 0; id < table->size; id++) {
        if (id + AHEAD < table->size) __builtin_prefetch(&buckets[af_key_bucket_of(table->hashes[id + AHEAD], bucket_count - 1)], 1);
        if (id != table->null_id)
            af_place(buckets, bucket_count - 1, table->hashes[id], af_tag(table->hashes[id], af_text_length(table, id), table->words), id);
    }
    free(table->buckets);
    table->buckets = buckets;
    table->mask = bucket_count - 1;
    return true;
}

/* Whether the next key needs more buckets. */
AF_INLINE bool af_strings_full(const af_strings *table) { return (uint64_t)table->size * 2 >= (uint64_t)(table->mask + 1) * 9; }

static bool af_strings_reserve(af_strings *table, int32_t capacity) {
    if (capacity <= table->capacity) return true;
    size_t wanted = table->capacity ? (size_t)table->capacity : AF_FIRST_CAPACITY;
    while (wanted < (size_t)capacity) wanted *= 2;
    if (wanted > INT32_MAX) return false;
    if (!af_pages_grow(&table->images, &table->images_held, wanted * table->words * 8) ||
        !af_pages_grow(&table->hashes, &table->hashes_held, wanted * 8) ||
        !af_pages_grow(&table->offsets, &table->offsets_held, (wanted + 1) * 8))
        return false;
    table->capacity = (int32_t)wanted;
    return true;
}

static void af_strings_free(af_strings *table) {
    free(table->buckets);
    af_pages_free(table->images, table->images_held);
    af_pages_free(table->hashes, table->hashes_held);
    af_pages_free(table->offsets, table->offsets_held);
    af_pages_free(table->text, table->text_capacity);
    memset(table, 0, sizeof *table);
}

static bool af_strings_init(af_strings *table, const uint64_t *seeds) {
    memset(table, 0, sizeof *table);
    memcpy(table->seeds, seeds, sizeof table->seeds);
    table->words = 4;
    table->null_id = -1;
    if (!af_strings_reserve(table, AF_FIRST_CAPACITY) || !af_strings_rebucket(table, AF_FIRST_CAPACITY / 4)) {
        af_strings_free(table);
        return false;
    }
    table->offsets[0] = 0;
    return true;
}

/* From images of 32 bytes to images of 64. */
static bool af_strings_widen(af_strings *table) {
    if (!af_pages_grow(&table->images, &table->images_held, (size_t)table->capacity * AF_MAX_WORDS * 8)) return false;
    uint64_t *images = table->images;
    memset(images, 0, (size_t)table->size * AF_MAX_WORDS * 8);
    table->words = AF_MAX_WORDS;
    for (int32_t id = 0; id < table->size; id++) {
        const uint64_t length = af_text_length(table, id);
        if (length && length <= 64) memcpy(images + (size_t)id * AF_MAX_WORDS, table->text + table->offsets[id], length);
    }
    return af_strings_rebucket(table, table->mask + 1);
}

static int32_t af_strings_append(af_strings *table, const uint8_t *key, uint64_t length) {
    if (!af_strings_reserve(table, table->size + 1)) return -1;
    int32_t id = table->size;
    uint64_t offset = table->offsets[id];
    if (offset + length > table->text_capacity) {
        size_t wanted = table->text_capacity ? table->text_capacity * 2 : 4096;
        while (wanted < offset + length) wanted *= 2;
        if (!af_pages_grow(&table->text, &table->text_capacity, wanted)) return -1;
    }
    uint64_t *image = table->images + (size_t)id * table->words;
    memset(image, 0, table->words * 8);
    if (length) memcpy(table->text + offset, key, length);
    if (length && length <= table->words * 8) memcpy(image, key, length);
    table->offsets[id + 1] = offset + length;
    table->size++;
    return id;
}

static int32_t af_strings_null(af_strings *table) {
    if (table->null_id < 0) {
        int32_t id = af_strings_append(table, NULL, 0);
        if (id >= 0) table->hashes[id] = 0;
        table->null_id = id;
    }
    return table->null_id;
}

/* The id of a key of any length, a new one where there is none; -1: no memory. */
AF_NOINLINE int32_t af_strings_intern(af_strings *table, const uint8_t *key, uint64_t length, uint64_t hash) {
    if (length > 32 && length <= 64 && table->words == 4 && !af_strings_widen(table)) return -1;
    const uint16_t tag = af_tag(hash, length, table->words);
    for (uint32_t at = af_key_bucket_of(hash, table->mask);; at = (at + 1) & table->mask) {
        const af_key_bucket *bucket = &table->buckets[at];
        for (uint32_t i = 0; i < bucket->count; i++) {
            int32_t id = bucket->id[i];
            if (bucket->tag[i] == tag && af_text_length(table, id) == length &&
                (length == 0 || memcmp(table->text + table->offsets[id], key, length) == 0))
                return id;
        }
        if (bucket->count < 8) break;
    }
    if (af_strings_full(table) && !af_strings_rebucket(table, (table->mask + 1) * 2)) return -1;
    int32_t id = af_strings_append(table, key, length);
    if (id < 0) return -1;
    table->hashes[id] = hash;
    af_place(table->buckets, table->mask, hash, tag, id);
    return id;
}

/* The same keys as `from[ids[i]]`, in that order, with ids 0, 1, 2, ...; there is room for as many again.  No key is looked for, because all
 * are different.  false: no memory. */
static bool af_strings_rebuild(af_strings *table, const af_strings *from, const int32_t *ids, int32_t count) {
    uint64_t text_bytes = 0;
    bool wide = false;
    for (int32_t i = 0; i < count; i++) {
        const uint64_t length = af_text_length(from, ids[i]);
        text_bytes += length;
        wide |= (length > 32) & (length <= 64);
    }
    *table = (af_strings){.words = wide ? AF_MAX_WORDS : 4, .null_id = -1};
    memcpy(table->seeds, from->seeds, sizeof table->seeds);
    if (!af_pages_grow(&table->text, &table->text_capacity, text_bytes) || !af_strings_reserve(table, count > AF_FIRST_CAPACITY ? count : AF_FIRST_CAPACITY)) {
        af_strings_free(table);
        return false;
    }
    table->offsets[0] = 0;
    for (int32_t i = 0; i < count; i++) { /* there is room for all: nothing can fail */
        const int32_t id = af_strings_append(table, from->text + from->offsets[ids[i]], af_text_length(from, ids[i]));
        table->hashes[id] = from->hashes[ids[i]];
        if (ids[i] == from->null_id) table->null_id = id;
    }
    uint64_t bucket_count = AF_FIRST_CAPACITY / 4;
    while ((uint64_t)count * 4 >= bucket_count * 9) bucket_count *= 2;
    if (bucket_count > UINT32_MAX / 2 || !af_strings_rebucket(table, (uint32_t)bucket_count)) {
        af_strings_free(table);
        return false;
    }
    return true;
}

static uint64_t af_strings_bytes(const af_strings *table) {
    return (uint64_t)(table->mask + 1) * sizeof(af_key_bucket) + (uint64_t)table->capacity * (table->words * 8 + 16) + table->text_capacity;
}

/* Ids of rows (false: no memory), and hashes of texts: functions of each instruction-set level (groups/block.h). */
bool af_assign_strings_portable(af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids);
bool af_assign_strings_v2(af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids);
bool af_assign_strings_v3(af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids);
bool af_assign_strings_v4(af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids);
void af_hash_strings_portable(const uint64_t *seeds, const af_string_rows *rows, int64_t count, uint64_t *hashes);
void af_hash_strings_v2(const uint64_t *seeds, const af_string_rows *rows, int64_t count, uint64_t *hashes);
void af_hash_strings_v3(const uint64_t *seeds, const af_string_rows *rows, int64_t count, uint64_t *hashes);
void af_hash_strings_v4(const uint64_t *seeds, const af_string_rows *rows, int64_t count, uint64_t *hashes);

static bool af_assign_strings(int level, af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids) {
#if AF_X86
    if (level >= AF_V4) return af_assign_strings_v4(table, rows, count, ids);
    if (level >= AF_V3) return af_assign_strings_v3(table, rows, count, ids);
    if (level >= AF_V2) return af_assign_strings_v2(table, rows, count, ids);
#endif
    return af_assign_strings_portable(table, rows, count, ids);
}

static void af_hash_strings(int level, const uint64_t *seeds, const af_string_rows *rows, int64_t count, uint64_t *hashes) {
#if AF_X86
    if (level >= AF_V4) {
        af_hash_strings_v4(seeds, rows, count, hashes);
        return;
    }
    if (level >= AF_V3) {
        af_hash_strings_v3(seeds, rows, count, hashes);
        return;
    }
    if (level >= AF_V2) {
        af_hash_strings_v2(seeds, rows, count, hashes);
        return;
    }
#endif
    af_hash_strings_portable(seeds, rows, count, hashes);
}

#endif
