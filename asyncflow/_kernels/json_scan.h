/* Finding where strings and numbers end, and checking them: a body for levels.h.
 *
 * Every function takes the first byte and the end of what may be read, and never reads further.  NULL says "not well
 * formed".
 */

/* From behind the opening quote to the closing one; says in ``kind`` what was met on the way. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_scan_text)(const uint8_t *p, const uint8_t *end, uint32_t *kind) {
    *kind = JSON_TEXT;
    for (;;) {
#if AF_LEVEL >= 3
        const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\'), control = _mm256_set1_epi8(0x1F);
        while (end - p >= 32) {
            __m256i x = _mm256_loadu_si256((const __m256i *)p);
            __m256i hit = _mm256_or_si256(_mm256_cmpeq_epi8(x, quote), _mm256_cmpeq_epi8(x, backslash));
            hit = _mm256_or_si256(hit, _mm256_cmpeq_epi8(_mm256_min_epu8(x, control), x));
            uint32_t hits = (uint32_t)_mm256_movemask_epi8(hit);
            if (AF_LIKELY(hits)) {
                p += __builtin_ctz(hits);
                goto stopped;
            }
            p += 32;
        }
#elif AF_LEVEL == 2
        const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1F);
        while (end - p >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, backslash));
            hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(x, control), x));
            uint32_t hits = (uint32_t)_mm_movemask_epi8(hit);
            if (AF_LIKELY(hits)) {
                p += __builtin_ctz(hits);
                goto stopped;
            }
            p += 16;
        }
#endif
        while (p < end && *p != '"' && *p != '\\' && *p >= 0x20) p++;
        if (p == end) return NULL;
#if AF_LEVEL >= 2
    stopped:
#endif
        if (AF_LIKELY(*p == '"')) return p;
        if (*p != '\\') return NULL;
        p = json_scan_escape(p, end, kind);
        if (p == NULL) return NULL;
    }
}

/* Past a number: at once where sign, digits and point are at most 15 bytes and there is no exponent.  Everything comes from one load and
 * bit masks: what follows must wait for the result, so the chain to it is short. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_scan_number)(const uint8_t *p, const uint8_t *end) {
#if AF_LEVEL >= 2
    if (AF_LIKELY(end - p >= 16)) {
        __m128i x = _mm_loadu_si128((const __m128i *)p), digits = _mm_sub_epi8(x, _mm_set1_epi8('0'));
        uint32_t others = ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits));
        uint32_t points = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8('.')));
        uint32_t sign = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8('-'))) & 1;
        others &= ~sign; /* the bits above the 16 bytes stay set */
        uint32_t whole = (uint32_t)__builtin_ctz(others), length = whole;
        if (points & others & (0 - others)) { /* the first other byte is a point */
            others &= others - 1;
            length = (uint32_t)__builtin_ctz(others);
            if (AF_UNLIKELY(length == whole + 1)) return json_scan_long_number(p, end); /* no digit behind it, here at least */
        }
        /* a digit at least; a leading zero stands alone; the byte that ends it is among the 16, and no exponent */
        if (AF_LIKELY(whole > sign && length < 16 && (p[sign] != '0' || whole == sign + 1) && (p[length] | 0x20) != 'e'))
            return p + length;
    }
#endif
    return json_scan_long_number(p, end);
}

/* Any scalar (``p < end``): its kind and span, and what follows it.  NULL also for a container, told by its first byte. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_scan_scalar)(const uint8_t *p, const uint8_t *end, uint32_t *kind, const uint8_t **from,
                                                         const uint8_t **to) {
    const uint8_t *next;
    if (*p == '"') {
        *from = p + 1;
        next = AF_AT(json_scan_text)(p + 1, end, kind);
        *to = next;
        return next == NULL ? NULL : next + 1;
    }
    *from = p;
    if (json_is_digit(*p) || (*p == '-' && !(end - p > 1 && p[1] == 'I'))) {
        *kind = JSON_NUMBER;
        next = AF_AT(json_scan_number)(p, end);
    } else {
        next = json_scan_word(p, end, kind);
    }
    *to = next;
    return next;
}

