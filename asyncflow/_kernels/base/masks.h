/* Bit masks of 64 bytes, by the level's instructions; bit i stands for byte i.  A level header: a body that base/levels.h compiles
 * includes it.
 *
 *   AF_AT(af_equal64)(p, byte)   bytes that are `byte`
 *   AF_AT(af_begins64)(p)        bytes that begin a character of UTF-8: all but continuation bytes (10xxxxxx)
 *   AF_AT(af_above64)(p)         bytes above ASCII
 */

#if AF_LEVEL == 4

AF_LEVEL_INLINE uint64_t AF_AT(af_equal64)(const uint8_t *p, uint8_t byte) {
    return _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8((char)byte));
}

AF_LEVEL_INLINE uint64_t AF_AT(af_begins64)(const uint8_t *p) {
    return _mm512_cmpgt_epi8_mask(_mm512_loadu_si512(p), _mm512_set1_epi8(-65));
}

AF_LEVEL_INLINE uint64_t AF_AT(af_above64)(const uint8_t *p) { return _mm512_movepi8_mask(_mm512_loadu_si512(p)); }

#elif AF_LEVEL == 3

AF_LEVEL_INLINE uint64_t AF_AT(af_bits)(__m256i low, __m256i high) {
    return (uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

AF_LEVEL_INLINE uint64_t AF_AT(af_equal64)(const uint8_t *p, uint8_t byte) {
    const __m256i wanted = _mm256_set1_epi8((char)byte);
    return AF_AT(af_bits)(_mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)p), wanted),
                          _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(p + 32)), wanted));
}

AF_LEVEL_INLINE uint64_t AF_AT(af_begins64)(const uint8_t *p) {
    const __m256i last = _mm256_set1_epi8(-65);
    return AF_AT(af_bits)(_mm256_cmpgt_epi8(_mm256_loadu_si256((const __m256i *)p), last),
                          _mm256_cmpgt_epi8(_mm256_loadu_si256((const __m256i *)(p + 32)), last));
}

AF_LEVEL_INLINE uint64_t AF_AT(af_above64)(const uint8_t *p) {
    return AF_AT(af_bits)(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 32)));
}

#elif AF_LEVEL == 2

AF_LEVEL_INLINE uint64_t AF_AT(af_bits)(const __m128i bytes[4]) {
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++) bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(bytes[i]) << (16 * i);
    return bits;
}

AF_LEVEL_INLINE uint64_t AF_AT(af_equal64)(const uint8_t *p, uint8_t byte) {
    const __m128i wanted = _mm_set1_epi8((char)byte);
    __m128i bytes[4];
    for (int i = 0; i < 4; i++) bytes[i] = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), wanted);
    return AF_AT(af_bits)(bytes);
}

AF_LEVEL_INLINE uint64_t AF_AT(af_begins64)(const uint8_t *p) {
    const __m128i last = _mm_set1_epi8(-65);
    __m128i bytes[4];
    for (int i = 0; i < 4; i++) bytes[i] = _mm_cmpgt_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), last);
    return AF_AT(af_bits)(bytes);
}

AF_LEVEL_INLINE uint64_t AF_AT(af_above64)(const uint8_t *p) {
    __m128i bytes[4];
    for (int i = 0; i < 4; i++) bytes[i] = _mm_loadu_si128((const __m128i *)(p + 16 * i));
    return AF_AT(af_bits)(bytes);
}

#else

/* Eight bytes in memory order, first byte lowest. */
AF_LEVEL_INLINE uint64_t AF_AT(af_word)(const uint8_t *p) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(af_load64(p));
#else
    return af_load64(p);
#endif
}

/* Bit i is the lowest bit of byte i; the word's other bits are zero. */
AF_LEVEL_INLINE uint64_t AF_AT(af_gathered)(uint64_t word) { return word * 0x0102040810204080u >> 56; }

/* Bit i is set where byte i of the word equals `byte`.  Exact: no borrow runs from byte to byte. */
AF_LEVEL_INLINE uint64_t AF_AT(af_word_equal)(uint64_t word, uint8_t byte) {
    const uint64_t low = 0x7F7F7F7F7F7F7F7Fu;
    word ^= 0x0101010101010101u * byte;
    uint64_t zero = ~(((word & low) + low) | word | low);
    return AF_AT(af_gathered)(zero >> 7);
}

AF_LEVEL_INLINE uint64_t AF_AT(af_equal64)(const uint8_t *p, uint8_t byte) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits |= AF_AT(af_word_equal)(AF_AT(af_word)(p + 8 * i), byte) << (8 * i);
    return bits;
}

AF_LEVEL_INLINE uint64_t AF_AT(af_begins64)(const uint8_t *p) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t word = AF_AT(af_word)(p + 8 * i);
        bits |= AF_AT(af_gathered)((~(word >> 7) | word >> 6) & 0x0101010101010101u) << (8 * i);
    }
    return bits;
}

AF_LEVEL_INLINE uint64_t AF_AT(af_above64)(const uint8_t *p) {
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits |= AF_AT(af_gathered)(AF_AT(af_word)(p + 8 * i) >> 7 & 0x0101010101010101u) << (8 * i);
    return bits;
}

#endif
