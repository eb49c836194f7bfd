/* Strings to ids, 64 rows at a time, once per instruction-set level (see groups/strings.h for the table and levels.h for how).
 *
 * Three passes, so that the memory of 64 rows is waited for at once and no branch depends on the data before the last:
 *   1. image and hash of each key; prefetch its bucket.
 *   2. the tags of the bucket against the key's: a candidate id; prefetch its image.
 *   3. the images; rows that differ (new keys, long keys, overflowed buckets, nulls) are collected and take the exact path, in row order,
 *      so that ids are those of first appearance.
 * A key so near the buffer's end that a whole image cannot be loaded is copied first.  No branch asks for a key's length: it would go
 * wrong for every fourth key. */

#if AF_LEVEL >= 3
typedef __m256i AF_AT(image_part);
#define AF_PARTS(words) ((words) / 4)
#else
typedef uint64_t AF_AT(image_part);
#define AF_PARTS(words) (words)
#endif

/* The image of the key that is key[0 .. length), and its hash.  Reads words * 8 bytes. */
AF_LEVEL_INLINE uint64_t AF_AT(load_image)(const uint8_t *key, uint32_t length, uint32_t words, const uint64_t *seeds,
                                           AF_AT(image_part) *image) {
    const uint8_t *mask = af_keep + 64 - (length < words * 8 ? length : words * 8);
#if AF_LEVEL >= 3
    image[0] = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)key), _mm256_loadu_si256((const __m256i *)mask));
    if (words == 8)
        image[1] = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(key + 32)), _mm256_loadu_si256((const __m256i *)(mask + 32)));
    __m256i keyed = _mm256_add_epi32(image[0], _mm256_loadu_si256((const __m256i *)seeds));
    __m256i sums = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
    if (words == 8) {
        keyed = _mm256_add_epi32(image[1], _mm256_loadu_si256((const __m256i *)(seeds + 4)));
        sums = _mm256_add_epi64(sums, _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32)));
    }
    __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    uint64_t sum = (uint64_t)_mm_cvtsi128_si64(_mm_add_epi64(pair, _mm_unpackhi_epi64(pair, pair)));
#else
    uint64_t sum = 0;
    for (uint32_t i = 0; i < words; i++) {
        image[i] = af_load64(key + 8 * i) & af_load64(mask + 8 * i);
        sum += (uint64_t)(uint32_t)(image[i] + seeds[i]) * (uint32_t)((image[i] >> 32) + (seeds[i] >> 32));
    }
#endif
    return af_finish_hash(sum, length, seeds[AF_MAX_WORDS]);
}

/* Bit 2 i is set where tag i equals (SSE2), or bit 2 i of a plain loop. */
AF_LEVEL_INLINE uint32_t AF_AT(match_tags)(const af_key_bucket *bucket, uint16_t tag) {
#if AF_LEVEL >= 2
    __m128i tags = _mm_load_si128((const __m128i *)bucket->tag);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi16(tags, _mm_set1_epi16((short)tag)));
#else
    uint32_t found = 0;
    for (uint32_t i = 0; i < 8; i++) found |= (uint32_t)(bucket->tag[i] == tag) << (2 * i);
    return found;
#endif
}

AF_LEVEL_INLINE uint32_t AF_AT(image_differs)(const AF_AT(image_part) *image, const uint64_t *stored, uint32_t words) {
#if AF_LEVEL >= 3
    __m256i difference = _mm256_xor_si256(image[0], _mm256_load_si256((const __m256i *)stored));
    if (words == 8)
        difference = _mm256_or_si256(difference, _mm256_xor_si256(image[1], _mm256_load_si256((const __m256i *)(stored + 4))));
    return (uint32_t)!_mm256_testz_si256(difference, difference);
#else
    uint64_t difference = 0;
    for (uint32_t i = 0; i < words; i++) difference |= image[i] ^ stored[i];
    return difference != 0;
#endif
}

/* One block; `words` is a constant where it is inlined.  false: no memory. */
AF_LEVEL_INLINE bool AF_AT(assign_block)(af_strings *table, const af_string_rows *rows, int64_t begin, uint32_t count, uint32_t words,
                                         int32_t *ids) {
    AF_AT(image_part) images[AF_BLOCK_ROWS][AF_PARTS(8)];
    uint32_t places[AF_BLOCK_ROWS], misses[AF_BLOCK_ROWS], miss_count = 0;
    uint16_t tags[AF_BLOCK_ROWS];
    uint8_t missed[AF_BLOCK_ROWS];
    const af_key_bucket *buckets = table->buckets;
    const uint64_t *stored = table->images;
    const uint32_t mask = table->mask, width = words * 8;
    const int64_t ahead = rows->starts[begin + count - 1] - (int64_t)rows->starts[begin];
    for (uint32_t i = 0; i < count; i++) {
        int64_t start = rows->starts[begin + i];
        uint32_t length = (uint32_t)rows->lengths[begin + i];
        const uint8_t *key = rows->data + start;
        __builtin_prefetch(key + ahead); /* texts stand in the order of their rows, near enough */
        uint8_t copy[64];
        if (AF_UNLIKELY((start + width > rows->data_bytes) & (length < width))) {
            memset(copy, 0, sizeof copy);
            if (length) memcpy(copy, key, length);
            key = copy;
        }
        uint64_t hash = AF_AT(load_image)(key, length, words, table->seeds, images[i]);
        places[i] = af_key_bucket_of(hash, mask);
        __builtin_prefetch(&buckets[places[i]]);
        tags[i] = af_tag(hash, length, words);
        missed[i] = length > width;
    }
    for (uint32_t i = 0; i < count; i++) {
        const af_key_bucket *bucket = &buckets[places[i]];
        uint32_t found = AF_AT(match_tags)(bucket, tags[i]);
        int32_t candidate = bucket->id[((uint32_t)__builtin_ctz(found | 0x10000) >> 1) & 7];
        __builtin_prefetch(stored + (size_t)candidate * words);
        ids[i] = candidate;
        missed[i] |= found == 0;
    }
    if (rows->valid != NULL)
        for (uint32_t i = 0; i < count; i++) missed[i] |= rows->valid[begin + i] == 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t differs = AF_AT(image_differs)(images[i], stored + (size_t)ids[i] * words, words);
        misses[miss_count] = i;
        miss_count += differs | missed[i];
    }
    for (uint32_t k = 0; k < miss_count; k++) {
        int64_t row = begin + misses[k];
        int32_t id = rows->valid != NULL && rows->valid[row] == 0
                         ? af_strings_null(table)
                         : af_strings_intern(table, rows->data + rows->starts[row], (uint64_t)rows->lengths[row]);
        if (id < 0) return false;
        ids[misses[k]] = id;
    }
    return true;
}

AF_EXPORT bool AF_AT(af_assign_strings)(af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids) {
    for (int64_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) {
        uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        bool done = table->words == 4 ? AF_AT(assign_block)(table, rows, begin, block, 4, ids + begin)
                                      : AF_AT(assign_block)(table, rows, begin, block, 8, ids + begin);
        if (!done) return false;
    }
    return true;
}

#undef AF_PARTS
