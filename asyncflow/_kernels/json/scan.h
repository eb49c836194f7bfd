/* Scans strings, numbers and other scalars: finds their end and checks them.  json/walk.h includes it, once per instruction-set level.
 *
 * A function takes the first byte and the end of the readable bytes, and reads no further.  It returns NULL where the text is not
 * well formed. ``roomy``: the line ends at least JSON_SLACK bytes before ``end``, so no scan within the line needs to compare with
 * ``end``.
 */

#if AF_LEVEL >= 2
#if AF_LEVEL >= 3
#define AF_LETTER(name) _mm256_load_si256((const __m256i *)letters->name)
#else
#define AF_LETTER(name) _mm_load_si128((const __m128i *)letters->name)
#endif
#define AF_NUMERAL(name) _mm_load_si128((const __m128i *)letters->name)

/* A bit for each of 32 bytes, set where the byte ends plain text: quotes, backslashes, control characters. */
AF_LEVEL_INLINE uint32_t AF_AT(json_text_stops)(const uint8_t *p, const json_letters *letters) {
#if AF_LEVEL >= 3
    __m256i x = _mm256_loadu_si256((const __m256i *)p);
    __m256i hit = _mm256_or_si256(_mm256_cmpeq_epi8(x, AF_LETTER(quote)), _mm256_cmpeq_epi8(x, AF_LETTER(backslash)));
    hit = _mm256_or_si256(hit, _mm256_cmpeq_epi8(_mm256_min_epu8(x, AF_LETTER(control)), x));
    return (uint32_t)_mm256_movemask_epi8(hit);
#else
    uint32_t hits = 0;
    for (uint32_t i = 0; i < 32; i += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(p + i));
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(x, AF_LETTER(quote)), _mm_cmpeq_epi8(x, AF_LETTER(backslash)));
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(_mm_min_epu8(x, AF_LETTER(control)), x));
        hits |= (uint32_t)_mm_movemask_epi8(hit) << i;
    }
    return hits;
#endif
}

/* The length of the number at ``p``, of 16 readable bytes.  Sets a bit in ``odd`` where the bytes are no number, or the number is
 * longer or has an exponent.  The next value waits for the length, so the length comes first: the first byte that is no digit,
 * sign, point or slash.  The check runs beside it, without a branch on what differs from value to value (sign, point, leading
 * zero). */
AF_LEVEL_INLINE uint32_t AF_AT(json_number_length)(const uint8_t *p, const json_letters *letters, uint32_t *odd) {
    __m128i x = _mm_loadu_si128((const __m128i *)p), from_minus = _mm_sub_epi8(x, AF_NUMERAL(minus));
    __m128i from_zero = _mm_sub_epi8(x, AF_NUMERAL(zero));
    uint32_t body = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(from_minus, AF_NUMERAL(body)), from_minus));
    uint32_t digits = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(from_zero, AF_NUMERAL(nine)), from_zero));
    uint32_t points = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, AF_NUMERAL(point)));
    uint32_t stop = ~body & (body + 1); /* the bit of the byte after the number; bit 16 where all 16 bytes are part of it */
    uint32_t length = (uint32_t)__builtin_ctz(stop);
    uint32_t sign = af_equal(*p, '-'), first = 1 + sign; /* bit of the first digit */
    uint32_t point = ~digits & (stop - 1) & ~sign; /* bytes that are no digits: at most one, a point with a digit on either side */
    *odd |= (point & (point - 1)) | (point & ~points) | ((point << 1 | point >> 1 | first) & ~digits) | stop >> 16;
    *odd |= af_equal(p[length] | 0x20, 'e') | (af_equal(p[sign], '0') & digits >> first);
    return length;
}

#undef AF_LETTER
#undef AF_NUMERAL
#endif

/* Scans text from after the opening quote; returns the closing quote.  ``kind``: JSON_TEXT, JSON_ESCAPED or JSON_SURROGATE. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_scan_text)(const json_letters *letters, const uint8_t *p, const uint8_t *end, uint32_t *kind,
                                                       bool roomy) {
    *kind = JSON_TEXT;
    for (;;) {
#if AF_LEVEL >= 2
        while (roomy || end - p >= 32) {
            uint32_t stops = AF_AT(json_text_stops)(p, letters);
            if (AF_LIKELY(stops)) {
                p += __builtin_ctz(stops);
                goto stopped;
            }
            p += 32;
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

/* Scans a number: in one step where it has at most 15 bytes and no exponent. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_scan_number)(const json_letters *letters, const uint8_t *p, const uint8_t *end, bool roomy) {
#if AF_LEVEL >= 2
    if (AF_LIKELY(roomy || end - p > 16)) {
        uint32_t odd = 0, length = AF_AT(json_number_length)(p, letters, &odd);
        if (AF_LIKELY(odd == 0)) return p + length;
    }
#endif
    return json_scan_long_number(p, end);
}

/* Scans a scalar (``p < end``): sets its kind and span, and returns the position after it.  NULL where an object or array begins at
 * ``p``. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_scan_scalar)(const json_letters *letters, const uint8_t *p, const uint8_t *end, uint32_t *kind,
                                                         const uint8_t **from, const uint8_t **to, bool roomy) {
    const uint8_t *next;
    if (*p == '"') {
        *from = p + 1;
        next = AF_AT(json_scan_text)(letters, p + 1, end, kind, roomy);
        *to = next;
        return next == NULL ? NULL : next + 1;
    }
    *from = p;
    next = NULL;
    if (AF_LIKELY((uint32_t)json_is_digit(*p) | (*p == '-'))) {
        *kind = JSON_NUMBER;
        next = AF_AT(json_scan_number)(letters, p, end, roomy);
    }
    if (AF_UNLIKELY(next == NULL)) next = json_scan_word(p, end, kind);
    *to = next;
    return next;
}
