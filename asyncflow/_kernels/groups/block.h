/* Strings to ids, and to hashes, 64 rows at a time, once per instruction-set level (see groups/strings.h for the table and levels.h for how).
 *
 * Three passes, so that the memory of 64 rows is waited for at once and no branch depends on the data before the last:
 *   1. image and hash of each key (the hash is taken as it is where it is known); prefetch its bucket.
 *   2. the tags of the bucket against the key's: a candidate id; prefetch its image.
 *   3. the images; rows that differ (new keys, long keys, overflowed buckets, nulls) are collected and are dealt with in row order, so that
 *      ids are those of first appearance: a key whose tag its bucket does not have is put there, others take the exact path.
 * A key so near the buffer's end that a whole image cannot be loaded is copied first, or loaded under a mask.  No branch asks for a key's length:
 * it would go wrong for every fourth key.  With AVX-512 the hashes of four keys are finished in one vector. */

#if AF_LEVEL >= 3
typedef __m256i AF_AT(image_part);
#define AF_PARTS(words) ((words) / 4)
#else
typedef uint64_t AF_AT(image_part);
#define AF_PARTS(words) (words)
#endif

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

/* What is known of the keys of one block. */
typedef struct {
    AF_AT(image_part) images[AF_BLOCK_ROWS][AF_PARTS(8)];
    uint64_t hashes[AF_BLOCK_ROWS];
    uint32_t places[AF_BLOCK_ROWS]; /* buckets */
    uint16_t tags[AF_BLOCK_ROWS];
} AF_AT(block_keys);

#if AF_LEVEL == 4

/* The image of a key, and the four sums whose sum is that of its hash.  Nothing is read behind the key. */
AF_LEVEL_INLINE __m256i AF_AT(load_sums)(const uint8_t *key, uint32_t length, uint32_t words, const uint64_t *seeds, bool hashed, __m256i *image) {
    if (words == 4) {
        image[0] = _mm256_maskz_loadu_epi8(_bzhi_u32(UINT32_MAX, length), key);
        if (hashed) return image[0];
        const __m256i keyed = _mm256_add_epi32(image[0], _mm256_loadu_si256((const __m256i *)seeds));
        return _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
    }
    const __m512i whole = _mm512_maskz_loadu_epi8(_bzhi_u64(UINT64_MAX, length), key);
    _mm512_storeu_si512(image, whole);
    if (hashed) return image[0];
    const __m512i keyed = _mm512_add_epi32(whole, _mm512_loadu_si512(seeds)), sums = _mm512_mul_epu32(keyed, _mm512_srli_epi64(keyed, 32));
    return _mm256_add_epi64(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
}

/* Images and hashes of four keys, from `row` on: of those behind `last` the last.  Gives the hashes; `lengths`: of the keys. */
AF_LEVEL_INLINE __m256i AF_AT(hash_four)(const uint64_t *seeds, const af_string_rows *rows, int64_t row, int64_t last, uint32_t words, bool hashed,
                                         uint64_t zeros_sum, __m256i (*images)[2], __m128i *lengths) {
    const __mmask8 there = (__mmask8)(last - row >= 3 ? 15 : (2 << (last - row)) - 1);
    __m256i sums[4];
    *lengths = _mm_maskz_loadu_epi32(there, rows->lengths + row);
    for (int k = 0; k < 4; k++) {
        const int64_t at = row + k <= last ? row + k : last;
        sums[k] = AF_AT(load_sums)(rows->data + rows->starts[at], (uint32_t)rows->lengths[at], words, seeds, hashed, images[k]);
    }
    if (hashed) return _mm256_maskz_loadu_epi64(there, rows->hashes + row);
    const __m256i low = _mm256_add_epi64(_mm256_unpacklo_epi64(sums[0], sums[1]), _mm256_unpackhi_epi64(sums[0], sums[1]));
    const __m256i high = _mm256_add_epi64(_mm256_unpacklo_epi64(sums[2], sums[3]), _mm256_unpackhi_epi64(sums[2], sums[3]));
    const __m256i sum = _mm256_add_epi64(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
    __m256i hash = _mm256_add_epi64(_mm256_sub_epi64(sum, _mm256_set1_epi64x((int64_t)zeros_sum)), _mm256_cvtepu32_epi64(*lengths));
    hash = _mm256_xor_si256(hash, _mm256_srli_epi64(hash, 32)); /* af_finish_hash */
    return _mm256_mullo_epi64(hash, _mm256_set1_epi64x((int64_t)(seeds[AF_SEED_END] | 1)));
}

/* The hashes of one block's texts of at most words * 8 bytes. */
AF_LEVEL_INLINE void AF_AT(hash_block)(const uint64_t *seeds, const af_string_rows *rows, int64_t begin, uint32_t count, uint32_t words,
                                       uint64_t *hashes) {
    const uint64_t zeros_sum = af_zeros_sum(seeds, words);
    for (uint32_t i = 0; i < count; i += 4) {
        __m256i images[4][2];
        __m128i lengths;
        const __m256i four = AF_AT(hash_four)(seeds, rows, begin + i, begin + count - 1, words, false, zeros_sum, images, &lengths);
        _mm256_mask_storeu_epi64(hashes + i, (__mmask8)(count - i >= 4 ? 15 : (1 << (count - i)) - 1), four);
    }
}

/* The first pass: gives which rows have a key that is longer than an image. */
AF_LEVEL_INLINE uint64_t AF_AT(find_buckets)(const af_strings *table, const af_string_rows *rows, int64_t begin, uint32_t count, uint32_t words,
                                             bool hashed, AF_AT(block_keys) * keys) {
    const uint64_t zeros_sum = af_zeros_sum(table->seeds, words);
    const af_key_bucket *buckets = table->buckets;
    const int64_t last = begin + count - 1, ahead = rows->starts[last] - (int64_t)rows->starts[begin];
    uint64_t too_long = 0;
    for (uint32_t i = 0; i < count; i += 4) {
        __m128i lengths;
        const __m256i hash = AF_AT(hash_four)(table->seeds, rows, begin + i, last, words, hashed, zeros_sum, keys->images + i, &lengths);
        const __m128i place = _mm_and_si128(_mm256_cvtepi64_epi32(_mm256_srli_epi64(hash, 20)), _mm_set1_epi32((int32_t)table->mask));
        const __m256i tag = _mm256_and_si256(_mm256_srli_epi64(hash, 48), _mm256_set1_epi64x(words == 4 ? 0xFFC0 : 0xFF80));
        _mm256_storeu_si256((__m256i *)(keys->hashes + i), hash);
        _mm_storeu_si128((__m128i *)(keys->places + i), place);
        /* af_tag, but for keys longer than an image: their tags are not looked at */
        _mm_storel_epi64((__m128i *)(keys->tags + i),
                         _mm256_cvtepi64_epi16(_mm256_add_epi64(tag, _mm256_cvtepu32_epi64(_mm_add_epi32(lengths, _mm_set1_epi32(1))))));
        too_long |= (uint64_t)_mm_cmpgt_epi32_mask(lengths, _mm_set1_epi32((int32_t)words * 8)) << i;
        for (uint32_t k = i; k < i + 4; k++) {
            __builtin_prefetch(&buckets[keys->places[k]]);
            __builtin_prefetch(rows->data + rows->starts[begin + k <= last ? begin + k : last] + ahead); /* texts stand in order, near enough */
        }
    }
    return too_long;
}

#else

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

/* The first pass: gives which rows have a key that is longer than an image. */
AF_LEVEL_INLINE uint64_t AF_AT(find_buckets)(const af_strings *table, const af_string_rows *rows, int64_t begin, uint32_t count, uint32_t words,
                                             bool hashed, AF_AT(block_keys) * keys) {
    const af_key_bucket *buckets = table->buckets;
    const uint32_t mask = table->mask, width = words * 8;
    const uint64_t zeros_sum = af_zeros_sum(table->seeds, words);
    const int64_t ahead = rows->starts[begin + count - 1] - (int64_t)rows->starts[begin];
    uint64_t too_long = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t length = (uint32_t)rows->lengths[begin + i];
        const uint64_t *known = hashed ? &rows->hashes[begin + i] : NULL;
        uint8_t copy[64];
        const uint8_t *key = AF_AT(key_of_row)(rows, begin + i, width, copy);
        __builtin_prefetch(rows->data + rows->starts[begin + i] + ahead); /* texts stand in the order of their rows, near enough */
        const uint64_t hash = AF_AT(load_image)(key, length, words, table->seeds, zeros_sum, known, keys->images[i]);
        keys->hashes[i] = hash;
        keys->places[i] = af_key_bucket_of(hash, mask);
        __builtin_prefetch(&buckets[keys->places[i]]);
        keys->tags[i] = af_tag(hash, length, words);
        too_long |= (uint64_t)(length > width) << i;
    }
    return too_long;
}

#endif

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
    AF_AT(block_keys) keys;
    const af_key_bucket *buckets = table->buckets;
    const uint64_t *stored = table->images;
    const uint32_t mask = table->mask, width = words * 8;
    uint64_t missed = AF_AT(find_buckets)(table, rows, begin, count, words, hashed, &keys);
    for (uint32_t i = 0; i < count; i++) {
        const af_key_bucket *bucket = &buckets[keys.places[i]];
        uint32_t found = AF_AT(match_tags)(bucket, keys.tags[i]);
        int32_t candidate = bucket->id[((uint32_t)__builtin_ctz(found | 0x10000) >> 1) & 7];
        __builtin_prefetch(stored + (size_t)candidate * words);
        ids[i] = candidate;
        missed |= (uint64_t)(found == 0) << i;
    }
    if (rows->valid != NULL)
        for (uint32_t i = 0; i < count; i++) missed |= (uint64_t)(rows->valid[begin + i] == 0) << i;
    for (uint32_t i = 0; i < count; i++)
        missed |= (uint64_t)AF_AT(image_differs)(keys.images[i], stored + (size_t)ids[i] * words, words) << i;
    for (; AF_UNLIKELY(missed != 0); missed &= missed - 1) {
        const uint32_t i = (uint32_t)__builtin_ctzll(missed);
        const int64_t row = begin + i;
        const uint8_t *key = rows->data + rows->starts[row];
        const uint64_t length = (uint64_t)rows->lengths[row], hash = keys.hashes[i];
        int32_t id = -1;
        if (rows->valid != NULL && rows->valid[row] == 0) {
            id = af_strings_null(table);
        } else {
            if (length <= width && table->mask == mask && table->words == words)
                id = AF_AT(put_new)(table, &table->buckets[keys.places[i]], keys.images[i], (uint32_t)length, hash, keys.tags[i], words);
            if (id < 0) id = af_strings_intern(table, key, length, hashed || length <= width ? hash : af_hash_text(table->seeds, key, length));
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
