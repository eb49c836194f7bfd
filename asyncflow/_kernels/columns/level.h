/* The fast paths of columns.h, once per instruction-set level.  A row function reads the common forms of a value (and up to
 * AF_REACH bytes before `end`); for any other text it returns false, and the slow path reads the text.  So what is accepted does
 * not depend on the level. */

#if AF_LEVEL >= 2
/* The number of 16 digit values, one per byte, first digit first: combined in pairs, fours, eights. */
AF_LEVEL_INLINE uint64_t AF_AT(sum_digits)(__m128i digits) {
    const __m128i tens = _mm_set1_epi16(0x010A), hundreds = _mm_set1_epi32(0x00010064), ten_thousands = _mm_set1_epi32(0x00012710);
    digits = _mm_madd_epi16(_mm_maddubs_epi16(digits, tens), hundreds);
    digits = _mm_madd_epi16(_mm_packus_epi32(digits, digits), ten_thousands);
    uint64_t halves = (uint64_t)_mm_cvtsi128_si64(digits);
    return (uint32_t)halves * (uint64_t)100000000 + (halves >> 32);
}

/* The number of the `count` (0..16) digits before `end`; false where a byte is no digit. */
AF_LEVEL_INLINE bool AF_AT(read_digits)(const uint8_t *end, uint32_t count, uint64_t *value) {
    __m128i digits = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(end - 16)), _mm_set1_epi8('0'));
    digits = _mm_and_si128(digits, _mm_loadu_si128((const __m128i *)(af_last + count)));
    __m128i excess = _mm_subs_epu8(digits, _mm_set1_epi8(9));
    *value = AF_AT(sum_digits)(digits);
    return _mm_testz_si128(excess, excess);
}
#else
AF_LEVEL_INLINE bool AF_AT(read_digits)(const uint8_t *end, uint32_t count, uint64_t *value) {
    uint64_t sum = 0;
    unsigned bad = 0;
    for (const uint8_t *p = end - count; p < end; p++) {
        bad |= (uint8_t)(*p - '0') > 9;
        sum = sum * 10 + (uint8_t)(*p - '0');
    }
    *value = sum;
    return !bad;
}
#endif

/* [-]digits, 1 to 19 of them. */
AF_LEVEL_INLINE bool AF_AT(fast_int64)(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    uint32_t negative = af_equal(*begin, '-');
    uint32_t count = (uint32_t)(end - begin) - negative;
    uint64_t value;
    if (AF_LIKELY(count - 1 < 16)) {
        if (AF_UNLIKELY(!AF_AT(read_digits)(end, count, &value))) return false;
    } else {
        uint64_t head;
        if (count - 17 >= 3 || !AF_AT(read_digits)(end, 16, &value) || !AF_AT(read_digits)(end - 16, count - 16, &head)) return false;
        value += head * 10000000000000000u;
        if (value > (uint64_t)INT64_MAX) return false;
    }
    *out = (int64_t)((value ^ (0 - (uint64_t)negative)) + negative);
    return true;
}

/* The loop of all types that are read row by row.  `fast`: the call of a row function, with `begin`, `end` and `row` in scope. */
#define AF_FILL_ROWS(fast)                                                                   \
    do {                                                                                     \
        const uint8_t *const data = texts->data;                                             \
        const uint32_t *bound = texts->bounds;                                               \
        const uint32_t rows = texts->rows, stride = texts->stride;                           \
        for (uint32_t row = 0; row < rows; row++, bound += stride) {                         \
            const uint8_t *begin = data + (uint32_t)(bound[0] + 1), *end = data + bound[1];  \
            bool apart = bound[1] < AF_REACH || row + 1 == rows;                             \
            if (AF_UNLIKELY(apart) || !(fast)) af_fill_slowly(texts, column, row);           \
        }                                                                                    \
    } while (0)

AF_LEVEL_INLINE bool AF_AT(fast_epoch)(const uint8_t *begin, const uint8_t *end, int64_t unit_ns, uint64_t limit, int64_t *out) {
    int64_t value;
    if (!AF_AT(fast_int64)(begin, end, &value) || (uint64_t)value + limit > 2 * limit) return false;
    *out = value * unit_ns;
    return true;
}

AF_LEVEL_FUNCTION void AF_AT(fill_bool)(const af_texts *texts, af_column *column) {
    uint8_t *out = column->values;
    AF_FILL_ROWS(af_parse_bool(begin, end, out + row) == AF_OK);
}

/* A time with the minute (16 bytes) and the zone of the row before: only the seconds are read. */
AF_LEVEL_INLINE bool AF_AT(fast_timestamp)(const uint8_t *begin, const uint8_t *end, af_minute *minute, int64_t *out) {
    uint32_t length = (uint32_t)(end - begin);
    if (AF_UNLIKELY(length - 19 > 16)) return false; /* 19 to 35 bytes: from seconds to nine digits and +hh:mm */
    uint32_t zone_length = 0;
    const uint8_t *stop = end - (end[-1] == 'Z');
    if (AF_UNLIKELY(length >= 25 && (end[-6] == '+' || end[-6] == '-'))) {
        zone_length = 6;
        stop = end - 6;
    }
    uint64_t differs = (af_load64(begin) ^ af_load64(minute->prefix)) | (af_load64(begin + 8) ^ af_load64(minute->prefix + 8)) |
                       (zone_length ^ minute->zone_length) | !minute->set;
    if (AF_UNLIKELY(zone_length > 0)) differs |= memcmp(minute->zone, stop, 6) != 0;
    if (AF_UNLIKELY(differs != 0) && !af_remember_minute(minute, begin, stop, zone_length)) return false;
    const uint8_t *tail = begin + 16; /* :SS or :SS.digits, ends at `stop` */
    uint32_t tens = (uint8_t)(tail[1] - '0'), ones = (uint8_t)(tail[2] - '0');
    if (AF_UNLIKELY(tail[0] != ':' || tens > 5 || ones > 9)) return false;
    int64_t ns = minute->base_ns + (int64_t)(tens * 10 + ones) * 1000000000;
    uint32_t places = (uint32_t)(stop - tail) - 3;
    if (places > 0) {
        uint64_t fraction;
        places--;
        if (AF_UNLIKELY(places - 1 > 8 || tail[3] != '.' || !AF_AT(read_digits)(stop, places, &fraction))) return false;
        ns += (int64_t)(fraction * af_integer_tens[9 - places]);
    }
    *out = ns;
    return true;
}

AF_LEVEL_FUNCTION void AF_AT(fill_timestamp)(const af_texts *texts, af_column *column) {
    int64_t *out = column->values;
    af_minute minute = {.set = false};
    AF_FILL_ROWS(AF_LIKELY(AF_AT(fast_timestamp)(begin, end, &minute, out + row)));
}

#if AF_LEVEL >= 2
/* [-]digits[.digits], at most 16 bytes after the sign: all digits as one number, and the number of digits after the point. */
AF_LEVEL_INLINE bool AF_AT(read_decimal)(const uint8_t *begin, const uint8_t *end, uint32_t *negative, uint64_t *mantissa, uint32_t *places) {
    *negative = af_equal(*begin, '-');
    uint32_t length = (uint32_t)(end - begin) - *negative;
    __m128i raw = _mm_loadu_si128((const __m128i *)(end - 16)), keep = _mm_loadu_si128((const __m128i *)(af_last + (length & 31)));
    uint32_t points = (uint32_t)_mm_movemask_epi8(_mm_and_si128(_mm_cmpeq_epi8(raw, _mm_set1_epi8('.')), keep));
    uint32_t point = (uint32_t)__builtin_ctz(points | 0x10000), has_point = point != 16;
    __m128i digits = _mm_and_si128(_mm_xor_si128(raw, _mm_set1_epi8('0')), keep);
    digits = _mm_shuffle_epi8(digits, _mm_load_si128((const __m128i *)af_without[point]));
    __m128i excess = _mm_subs_epu8(digits, _mm_set1_epi8(9));
    *mantissa = AF_AT(sum_digits)(digits);
    *places = (15 - point) & (0 - has_point);
    return (length - 1 - has_point < 15) & _mm_testz_si128(excess, excess);
}

/* Up to 19 digits with a point: whole part and fraction are read apart, then Clinger or Eisel-Lemire. */
AF_LEVEL_INLINE bool AF_AT(long_float64)(const uint8_t *begin, const uint8_t *end, double *out) {
    uint32_t negative = af_equal(*begin, '-'), length = (uint32_t)(end - begin) - negative;
    if (length - 1 >= 20) return false;
    const __m128i dot = _mm_set1_epi8('.');
    uint32_t points = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(end - 32)), dot)) |
                      (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(end - 16)), dot)) << 16;
    points &= ~(uint32_t)0 << (32 - length);
    uint32_t places = points != 0 ? 31 - (uint32_t)__builtin_ctz(points) : 0;
    uint32_t digits = length - places - (points != 0);
    if (digits > 16 || places > 16 || digits + places - 1 >= 19) return false;
    uint64_t whole, fraction;
    if (!AF_AT(read_digits)(end - places - (points != 0), digits, &whole) || !AF_AT(read_digits)(end, places, &fraction)) return false;
    uint64_t mantissa = whole * af_integer_tens[places] + fraction;
    double value;
    if (mantissa <= (uint64_t)1 << 53)
        value = (double)(int64_t)mantissa / af_tens[places];
    else if (!af_scale(mantissa, -(int64_t)places, &value))
        return false;
    *out = negative ? -value : value;
    return true;
}

AF_LEVEL_INLINE bool AF_AT(fast_float64)(const uint8_t *begin, const uint8_t *end, double *out) {
    uint32_t negative, places;
    uint64_t mantissa;
    if (AF_UNLIKELY(!AF_AT(read_decimal)(begin, end, &negative, &mantissa, &places))) return AF_AT(long_float64)(begin, end, out);
    *out = (double)(int64_t)mantissa / af_signed_tens[negative * 32 + places]; /* both operands are exact: one rounding */
    return true;
}

AF_LEVEL_INLINE bool AF_AT(fast_seconds)(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    uint32_t negative, places;
    uint64_t mantissa;
    if (!AF_AT(read_decimal)(begin, end, &negative, &mantissa, &places) || places > 9) return false;
    uint64_t scale = af_integer_tens[9 - places], ns;
    if (__builtin_mul_overflow(mantissa, scale, &ns) || ns > (uint64_t)INT64_MAX) return false;
    *out = negative ? -(int64_t)ns : (int64_t)ns;
    return true;
}
#else
AF_LEVEL_INLINE bool AF_AT(fast_float64)(const uint8_t *begin, const uint8_t *end, double *out) {
    return af_parse_float64(begin, end, out) == AF_OK;
}

AF_LEVEL_INLINE bool AF_AT(fast_seconds)(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    return af_parse_epoch_seconds(begin, end, out) == AF_OK;
}
#endif

AF_LEVEL_FUNCTION void AF_AT(fill_seconds)(const af_texts *texts, af_column *column) {
    int64_t *out = column->values;
    AF_FILL_ROWS(AF_LIKELY(AF_AT(fast_seconds)(begin, end, out + row)));
}

#if AF_LEVEL == 4
#include "columns/eight.h"
#else
AF_LEVEL_FUNCTION void AF_AT(fill_int64)(const af_texts *texts, af_column *column) {
    int64_t *out = column->values;
    AF_FILL_ROWS(AF_LIKELY(AF_AT(fast_int64)(begin, end, out + row)));
}

AF_LEVEL_FUNCTION void AF_AT(fill_epoch)(const af_texts *texts, af_column *column, int64_t unit_ns) {
    int64_t *out = column->values;
    const uint64_t limit = (uint64_t)(INT64_MAX / unit_ns);
    AF_FILL_ROWS(AF_LIKELY(AF_AT(fast_epoch)(begin, end, unit_ns, limit, out + row)));
}

AF_LEVEL_FUNCTION void AF_AT(fill_texts)(const af_texts *texts, af_column *column) { af_fill_views(texts, column, 0, 0); }

#if AF_LEVEL == 3
/* Four rows at a time: two per 256-bit register as far as the digits go, then all four mantissas in one.  Where a row of the four is not
 * [-]digits[.digits] of at most 15 digits, the four are done one by one, and so are the next groups: such values seldom come alone. */
AF_LEVEL_FUNCTION void AF_AT(fill_float64)(const af_texts *texts, af_column *column) {
    double *out = column->values;
    const uint8_t *data = texts->data;
    const size_t stride = texts->stride;
    const uint32_t *bound = texts->bounds;
    const uint32_t rows = texts->rows;
    const __m256i zero_digit = _mm256_set1_epi8('0'), dot = _mm256_set1_epi8('.'), nine = _mm256_set1_epi8(9);
    const __m256i tens = _mm256_set1_epi16(0x010A), hundreds = _mm256_set1_epi32(0x00010064), ten_thousands = _mm256_set1_epi32(0x00012710);
    __m256i eight = _mm256_set1_epi64x(100000000), magic = _mm256_set1_epi64x(0x4330000000000000);
    uint32_t row = 0, one_by_one = 0;
    while (row < rows && bound[1] < AF_REACH) {
        af_fill_slowly(texts, column, row++);
        bound += stride;
    }
    for (; row + 4 < rows; row += 4, bound += 4 * stride) { /* the last row is never among them */
        if (AF_LIKELY(one_by_one == 0)) {
            uint32_t odd = 0, scale[4];
            __m256i fours[2], excess = _mm256_setzero_si256();
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) { /* rows half and half + 2 */
                const uint32_t *low = bound + stride * (size_t)half, *high = bound + stride * (size_t)(half + 2);
                uint32_t start0 = low[0] + 1, stop0 = low[1], start1 = high[0] + 1, stop1 = high[1];
                uint32_t minus0 = af_equal(data[start0], '-'), minus1 = af_equal(data[start1], '-');
                uint32_t length0 = stop0 - start0 - minus0, length1 = stop1 - start1 - minus1;
                __m256i raw = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(data + stop0 - 16))),
                                                      _mm_loadu_si128((const __m128i *)(data + stop1 - 16)), 1);
                __m256i keep =
                    _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(af_last + (length0 & 31)))),
                                            _mm_loadu_si128((const __m128i *)(af_last + (length1 & 31))), 1);
                uint32_t points = (uint32_t)_mm256_movemask_epi8(_mm256_and_si256(_mm256_cmpeq_epi8(raw, dot), keep));
                uint32_t point0 = (uint32_t)__builtin_ctz((points & 0xFFFF) | 0x10000), has0 = point0 != 16;
                uint32_t point1 = (uint32_t)__builtin_ctz((points >> 16) | 0x10000), has1 = point1 != 16;
                __m256i digits = _mm256_and_si256(_mm256_xor_si256(raw, zero_digit), keep);
                digits = _mm256_shuffle_epi8(
                    digits, _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const __m128i *)af_without[point0])),
                                                    _mm_load_si128((const __m128i *)af_without[point1]), 1));
                excess = _mm256_or_si256(excess, _mm256_subs_epu8(digits, nine));
                fours[half] = _mm256_madd_epi16(_mm256_maddubs_epi16(digits, tens), hundreds);
                odd |= (length0 - 1 - has0 >= 15) | (length1 - 1 - has1 >= 15);
                scale[half] = minus0 * 32 + ((15 - point0) & (0 - has0));
                scale[half + 2] = minus1 * 32 + ((15 - point1) & (0 - has1));
            }
            __m256i halves = _mm256_madd_epi16(_mm256_packus_epi32(fours[0], fours[1]), ten_thousands);
            __m256i mantissas = _mm256_add_epi64(_mm256_mul_epu32(halves, eight), _mm256_srli_epi64(halves, 32));
            /* the mantissa is below 2**52, so under the exponent of 2**52 its bits are the number */
            __m256d numbers = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(mantissas, magic)), _mm256_castsi256_pd(magic));
            __m256d scales = _mm256_set_pd(af_signed_tens[scale[3]], af_signed_tens[scale[2]], af_signed_tens[scale[1]],
                                           af_signed_tens[scale[0]]);
            if (AF_LIKELY(!odd && _mm256_testz_si256(excess, excess))) {
                _mm256_storeu_pd(out + row, _mm256_div_pd(numbers, scales));
                continue;
            }
            one_by_one = 16;
        }
        one_by_one--;
        for (uint32_t k = 0; k < 4; k++) {
            const uint32_t *at = bound + stride * (size_t)k;
            if (!AF_AT(fast_float64)(data + (uint32_t)(at[0] + 1), data + at[1], out + row + k)) af_fill_slowly(texts, column, row + k);
        }
    }
    for (; row < rows; row++) af_fill_slowly(texts, column, row);
}
#else
AF_LEVEL_FUNCTION void AF_AT(fill_float64)(const af_texts *texts, af_column *column) {
    double *out = column->values;
    AF_FILL_ROWS(AF_LIKELY(AF_AT(fast_float64)(begin, end, out + row)));
}
#endif
#endif

/* Fills one column from its texts: see columns.h. */
AF_LEVEL_FUNCTION void AF_AT(fill_column)(const af_texts *texts, af_column *column) {
    if (texts->rows == 0) return;
    if (column->kind == AF_STRING) {
        if (texts->null_length > 0 || texts->quoted != NULL)
            af_fill_strings(texts, column);
        else
            AF_AT(fill_texts)(texts, column);
        return;
    }
    memset(column->valid, 1, texts->rows);
    switch (column->kind) {
    case AF_BOOL: AF_AT(fill_bool)(texts, column); break;
    case AF_INT64: AF_AT(fill_int64)(texts, column); break;
    case AF_FLOAT64: AF_AT(fill_float64)(texts, column); break;
    case AF_TIMESTAMP: AF_AT(fill_timestamp)(texts, column); break;
    case AF_EPOCH_S: AF_AT(fill_seconds)(texts, column); break;
    case AF_EPOCH_MS: AF_AT(fill_epoch)(texts, column, 1000000); break;
    case AF_EPOCH_US: AF_AT(fill_epoch)(texts, column, 1000); break;
    case AF_EPOCH_NS: AF_AT(fill_epoch)(texts, column, 1); break;
    case AF_STRING: break;
    }
    if (texts->null_length > 0) af_apply_null_text(texts, column);
}

#undef AF_FILL_ROWS
