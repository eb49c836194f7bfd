/* Strings to ids, and to hashes, 64 rows at a time, once per instruction-set level (see groups/strings.h for the table and levels.h for how).
 *
 * Three passes, so that the memory of 64 rows is waited for at once and no branch depends on the data before the last:
 *   1. image and hash of each key (the hash is taken as it is where it is known); prefetch its bucket.
 *   2. the tags of the bucket against the key's: a candidate id; prefetch its image.
 *   3. the images; rows that differ (new keys, long keys, overflowed buckets, nulls) are collected and are dealt with in row order, so that
 *      ids are those of first appearance: a key whose tag its bucket does not have is put there, others take the exact path.
 * A key so near the buffer's end that a whole image cannot be loaded is copied first.  No branch asks for a key's length: it would go
 * wrong for every fourth key. */

#if AF_LEVEL >= 3
typedef __m256i AF_AT(image_part);
#define AF_PARTS(words) ((words) / 4)
#else
typedef uint64_t AF_AT(image_part);
#define AF_PARTS(words) (words)
#endif

/* The image of the key that is key[0 .. length), and its hash where it is not known.  Reads words * 8 bytes. */
AF_LEVEL_INLINE uint64_t AF_AT(load_image)(const uint8_t *key, uint32_t length, uint32_t words, const uint64_t *seeds, uint64_t zeros_sum,
                                           const uint64_t *known, AF_AT(image_part) *image) {
    const uint8_t *mask = af_keep + 64 - (length < words * 8 ? length : words * 8);
#if AF_LEVEL >= 3
    image[0] = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)key), _mm256_loadu_si256((const __m256i *)mask));
    if (words == 8)
        image[1] = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(key + 32)), _mm256_loadu_si256((const __m256i *)(mask + 32)));
    if (known != NULL) return *known;
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
    for (uint32_t i = 0; i < words; i++) image[i] = af_load64(key + 8 * i) & af_load64(mask + 8 * i);
    if (known != NULL) return *known;
    for (uint32_t i = 0; i < words; i++) sum += af_image_term(image[i], seeds[i]);
#endif
    return af_finish_hash(sum - zeros_sum, length, seeds[AF_SEED_END]);
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

/* Where the key of a row can be read up to the width of an image: the key itself, or `copy` (64 bytes) where the buffer ends too early. */
AF_LEVEL_INLINE const uint8_t *AF_AT(key_of_row)(const af_string_rows *rows, int64_t row, uint32_t width, uint8_t *copy) {
    const int64_t start = rows->starts[row];
    const uint32_t length = (uint32_t)rows->lengths[row];
    const uint8_t *key = rows->data + start;
    if (AF_LIKELY((start + width <= rows->data_bytes) | (length >= width))) return key;
    memset(copy, 0, 64);
    if (length) memcpy(copy, key, length);
    return copy;
}

/* The hashes of one block's texts of at most words * 8 bytes. */
AF_LEVEL_INLINE void AF_AT(hash_block)(const uint64_t *seeds, const af_string_rows *rows, int64_t begin, uint32_t count, uint32_t words,
                                       uint64_t *hashes) {
    const uint64_t zeros_sum = af_zeros_sum(seeds, words);
    for (uint32_t i = 0; i < count; i++) {
        AF_AT(image_part) image[AF_PARTS(8)];
        uint8_t copy[64];
        const uint8_t *key = AF_AT(key_of_row)(rows, begin + i, words * 8, copy);
        hashes[i] = AF_AT(load_image)(key, (uint32_t)rows->lengths[begin + i], words, seeds, zeros_sum, NULL, image);
    }
}

AF_EXPORT void AF_AT(af_hash_strings)(const uint64_t *seeds, const af_string_rows *rows, int64_t count, uint64_t *hashes) {
    for (int64_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) {
        const uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        int32_t longest = 0;
        for (uint32_t i = 0; i < block; i++) longest = rows->lengths[begin + i] > longest ? rows->lengths[begin + i] : longest;
        if (longest <= 32)
            AF_AT(hash_block)(seeds, rows, begin, block, 4, hashes + begin);
        else
            AF_AT(hash_block)(seeds, rows, begin, block, 8, hashes + begin);
        if (longest > 64)
            for (int64_t row = begin; row < begin + block; row++)
                if (rows->lengths[row] > 64) hashes[row] = af_hash_long(seeds, rows->data + rows->starts[row], (uint64_t)rows->lengths[row]);
    }
}

/* The id of a key that fits into an image, is not in the table, and has its place in this bucket; -1: there may be such a key, or no room.
 * The image, which ends in zeros, is copied whole. */
AF_LEVEL_INLINE int32_t AF_AT(put_new)(af_strings *table, af_key_bucket *bucket, const AF_AT(image_part) *image, uint32_t length, uint64_t hash,
                                       uint16_t tag, uint32_t words) {
    const int32_t id = table->size;
    const uint64_t offset = table->offsets[id];
    if ((AF_AT(match_tags)(bucket, tag) != 0) | (bucket->count == 8) | (id == table->capacity) | af_strings_full(table) |
        (offset + words * 8 > table->text_capacity))
        return -1;
    memcpy(table->images + (size_t)id * words, image, words * 8);
    memcpy(table->text + offset, image, words * 8);
    table->hashes[id] = hash;
    table->offsets[id + 1] = offset + length;
    bucket->tag[bucket->count] = tag;
    bucket->id[bucket->count++] = id;
    table->size++;
    return id;
}

/* One block; `words` and `hashed`, whether the rows' hashes are known, are constants where it is inlined.  false: no memory. */
AF_LEVEL_INLINE bool AF_AT(assign_block)(af_strings *table, const af_string_rows *rows, int64_t begin, uint32_t count, uint32_t words,
                                         bool hashed, int32_t *ids) {
    AF_AT(image_part) images[AF_BLOCK_ROWS][AF_PARTS(8)];
    uint32_t places[AF_BLOCK_ROWS], misses[AF_BLOCK_ROWS], miss_count = 0;
    uint64_t hashes[AF_BLOCK_ROWS];
    uint16_t tags[AF_BLOCK_ROWS];
    uint8_t missed[AF_BLOCK_ROWS];
    const af_key_bucket *buckets = table->buckets;
    const uint64_t *stored = table->images;
    const uint32_t mask = table->mask, width = words * 8;
    const uint64_t zeros_sum = af_zeros_sum(table->seeds, words);
    const int64_t ahead = rows->starts[begin + count - 1] - (int64_t)rows->starts[begin];
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t length = (uint32_t)rows->lengths[begin + i];
        const uint64_t *known = hashed ? &rows->hashes[begin + i] : NULL;
        uint8_t copy[64];
        const uint8_t *key = AF_AT(key_of_row)(rows, begin + i, width, copy);
        __builtin_prefetch(rows->data + rows->starts[begin + i] + ahead); /* texts stand in the order of their rows, near enough */
        const uint64_t hash = AF_AT(load_image)(key, length, words, table->seeds, zeros_sum, known, images[i]);
        hashes[i] = hash;
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
        const int64_t row = begin + misses[k];
        const uint8_t *key = rows->data + rows->starts[row];
        const uint64_t length = (uint64_t)rows->lengths[row];
        const uint32_t i = misses[k];
        int32_t id = -1;
        if (rows->valid != NULL && rows->valid[row] == 0) {
            id = af_strings_null(table);
        } else {
            if (length <= width && table->mask == mask && table->words == words)
                id = AF_AT(put_new)(table, &table->buckets[places[i]], images[i], (uint32_t)length, hashes[i], tags[i], words);
            if (id < 0) id = af_strings_intern(table, key, length, hashed || length <= width ? hashes[i] : af_hash_text(table->seeds, key, length));
        }
        if (id < 0) return false;
        ids[i] = id;
    }
    return true;
}

AF_EXPORT bool AF_AT(af_assign_strings)(af_strings *table, const af_string_rows *rows, int64_t count, int32_t *ids) {
    for (int64_t begin = 0; begin < count; begin += AF_BLOCK_ROWS) {
        uint32_t block = count - begin < AF_BLOCK_ROWS ? (uint32_t)(count - begin) : AF_BLOCK_ROWS;
        bool done;
        if (table->words == 4)
            done = rows->hashes != NULL ? AF_AT(assign_block)(table, rows, begin, block, 4, true, ids + begin)
                                        : AF_AT(assign_block)(table, rows, begin, block, 4, false, ids + begin);
        else
            done = rows->hashes != NULL ? AF_AT(assign_block)(table, rows, begin, block, 8, true, ids + begin)
                                        : AF_AT(assign_block)(table, rows, begin, block, 8, false, ids + begin);
        if (!done) return false;
    }
    return true;
}

#undef AF_PARTS
