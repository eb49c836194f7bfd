/* The hash of a key: 64 bits that depend on the key and on the process's seeds, and on nothing else.
 *
 * A table finds a key by the hash, and a stage that is cut into parts by key sends a row to the part that bits of the hash name.  So the hash of a
 * key is the same in every table of the process, whatever else the table holds, at every instruction-set level, and in the twin.
 *
 * A text of at most 64 bytes is its image, the bytes and then zeros: NH (Black and others, UMAC, 1999) over 32-bit halves of the image's words, each with
 * its seed, less what eight words of zeros beyond the 32nd byte add; so the sum over four words is the sum over eight for a text of at most 32 bytes.
 * A longer text goes by 16 bytes at a time, the last 16 overlap.  A fixed value goes by its bits: -0.0 as 0.0, every NaN as one.  Null is a constant.
 * Seeds are random per process, so that no input can aim at one place of a table. */
#ifndef ASYNCFLOW_GROUPS_HASH_H
#define ASYNCFLOW_GROUPS_HASH_H

#include "base/cpu.h"

enum { AF_BLOCK_ROWS = 64, AF_MAX_WORDS = 8 };

/* Of an image's words, of the end of a text's hash, and of several columns. */
enum { AF_SEED_END = AF_MAX_WORDS, AF_SEED_BEFORE, AF_SEED_COLUMN, AF_SEEDS };

enum { AF_NULL_HASH = 0 };

AF_INLINE uint64_t af_finish_hash(uint64_t sum, uint64_t length, uint64_t seed) {
    uint64_t hash = sum + length;
    hash ^= hash >> 32;
    return hash * (seed | 1);
}

AF_INLINE uint64_t af_image_term(uint64_t word, uint64_t seed) {
    return (uint64_t)(uint32_t)(word + seed) * (uint32_t)((word >> 32) + (seed >> 32));
}

/* What words of zeros behind the first four add to the sum over an image of so many words. */
AF_INLINE uint64_t af_zeros_sum(const uint64_t *seeds, uint32_t words) {
    uint64_t sum = 0;
    for (uint32_t i = 4; i < words; i++) sum += af_image_term(0, seeds[i]);
    return sum;
}

static inline uint64_t af_hash_long(const uint64_t *seeds, const uint8_t *key, uint64_t length) {
    uint64_t hash = seeds[0] ^ length;
    for (uint64_t at = 0; at + 16 < length; at += 16)
        hash = af_fold(af_load64(key + at) ^ hash ^ seeds[1], af_load64(key + at + 8) ^ seeds[2]);
    hash = af_fold(af_load64(key + length - 16) ^ hash ^ seeds[3], af_load64(key + length - 8) ^ seeds[4]);
    return af_finish_hash(hash, length, seeds[AF_SEED_END]);
}

/* The hash of one text, without reading outside of it. */
static inline uint64_t af_hash_text(const uint64_t *seeds, const uint8_t *key, uint64_t length) {
    if (length > AF_MAX_WORDS * 8) return af_hash_long(seeds, key, length);
    const uint32_t words = length <= 32 ? 4 : 8;
    uint64_t image[AF_MAX_WORDS] = {0}, sum = 0;
    if (length) memcpy(image, key, length);
    for (uint32_t i = 0; i < words; i++) sum += af_image_term(image[i], seeds[i]);
    return af_finish_hash(sum - af_zeros_sum(seeds, words), length, seeds[AF_SEED_END]);
}

/* The hash of a value as 64 bits (af_canonical_float), or of a pair of ids.  One folded multiplication would leave the upper bits of values in steps,
 * such as round floats, uneven. */
AF_INLINE uint64_t af_hash_word(const uint64_t *seeds, uint64_t word) {
    return af_finish_hash(af_fold(word ^ seeds[0], seeds[1] | 1), 0, seeds[AF_SEED_END]);
}

/* The hash of several columns' values: of the columns before, and of this column. */
AF_INLINE uint64_t af_hash_both(const uint64_t *seeds, uint64_t before, uint64_t hash) {
    return af_fold(before ^ seeds[AF_SEED_BEFORE], hash ^ seeds[AF_SEED_COLUMN]);
}

#endif
