/* Column loops with AVX-512, eight rows at a time: part of columns/level.h at level 4.
 *
 * Bounds of eight rows are one vector.  Texts of at most 16 bytes are loaded by their ends, four to a register; where their bytes are kept, and where
 * there is a point or a minus, are masks of 16 bits a row, so that no row has a branch of its own.  Where one of the eight rows is not [-]digits or
 * [-]digits[.digits], the eight are done one by one, and so are the next groups: such values seldom come alone. */

enum { AF_EIGHT = 8, AF_EIGHT_NEAR = 4, AF_EIGHT_APART = 8 };

/* How to load the bounds of eight rows. */
typedef struct {
    size_t stride;
    uint32_t rows; /* that must be there from the first of the eight on: more than eight, because the last of all is read apart */
    __m512i begins;
    __m256i far;
} AF_AT(eight_rows);

AF_LEVEL_INLINE AF_AT(eight_rows) AF_AT(eight_of)(const af_texts *texts) {
    const __m256i far = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int32_t)texts->stride));
    const uint32_t near = texts->stride <= AF_EIGHT_NEAR ? (31 + texts->stride) / texts->stride : 0; /* two registers of bounds */
    return (AF_AT(eight_rows)){texts->stride, near > AF_EIGHT ? near : AF_EIGHT + 1, _mm512_castsi256_si512(far), far};
}

/* Where the texts of eight rows begin, and how long they are; gives where they end. */
AF_LEVEL_INLINE __m256i AF_AT(eight_ends)(const AF_AT(eight_rows) * eight, const uint32_t *bound, __m256i *begins, __m256i *lengths) {
    __m256i before, ends;
    if (AF_LIKELY(eight->stride <= AF_EIGHT_NEAR)) {
        const __m512i low = _mm512_loadu_si512(bound), high = _mm512_loadu_si512(bound + 16);
        before = _mm512_castsi512_si256(_mm512_permutex2var_epi32(low, eight->begins, high));
        ends = _mm512_castsi512_si256(_mm512_permutex2var_epi32(low, _mm512_add_epi32(eight->begins, _mm512_set1_epi32(1)), high));
    } else {
        before = _mm256_i32gather_epi32((const int *)bound, eight->far, 4);
        ends = _mm256_i32gather_epi32((const int *)(bound + 1), eight->far, 4);
    }
    *begins = _mm256_add_epi32(before, _mm256_set1_epi32(1));
    *lengths = _mm256_sub_epi32(ends, *begins);
    return ends;
}

/* Four texts by their ends. */
AF_LEVEL_INLINE __m512i AF_AT(four_texts)(const uint8_t *data, const uint32_t *ends) {
    __m512i texts = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(data + ends[0] - 16)));
    texts = _mm512_inserti32x4(texts, _mm_loadu_si128((const __m128i *)(data + ends[1] - 16)), 1);
    texts = _mm512_inserti32x4(texts, _mm_loadu_si128((const __m128i *)(data + ends[2] - 16)), 2);
    return _mm512_inserti32x4(texts, _mm_loadu_si128((const __m128i *)(data + ends[3] - 16)), 3);
}

/* Four times 16 digits to four times four numbers of four digits. */
AF_LEVEL_INLINE __m512i AF_AT(four_digits)(__m512i digits) {
    return _mm512_madd_epi16(_mm512_maddubs_epi16(digits, _mm512_set1_epi16(0x010A)), _mm512_set1_epi32(0x00010064));
}

/* The digits of eight texts as numbers; `points`: where they have a point, a bit for each of the 16 bytes before their ends.  False: a text is not
 * of this form, or is too long. */
AF_LEVEL_INLINE bool AF_AT(read_eight)(const AF_AT(eight_rows) * eight, const uint8_t *data, const uint32_t *bound, bool fractions, __m512i *numbers,
                                       __mmask8 *negative, __m128i *points) {
    uint32_t stops[AF_EIGHT] __attribute__((aligned(32)));
    __m256i begins, lengths;
    const __m256i ends = AF_AT(eight_ends)(eight, bound, &begins, &lengths);
    _mm256_store_si256((__m256i *)stops, ends);
    uint32_t odd = _mm256_cmpge_epu32_mask(_mm256_sub_epi32(lengths, _mm256_set1_epi32(1)), _mm256_set1_epi32(16));
    const __m128i keep = _mm256_cvtepi32_epi16(_mm256_srlv_epi32(_mm256_set1_epi32((int32_t)0xFFFF0000), lengths));
    const __mmask64 keep_low = (__mmask64)_mm_cvtsi128_si64(keep), keep_high = (__mmask64)_mm_extract_epi64(keep, 1);
    const __m512i low = AF_AT(four_texts)(data, stops), high = AF_AT(four_texts)(data, stops + 4);
    const __m512i minus = _mm512_set1_epi8('-'), dot = _mm512_set1_epi8('.'), zero = _mm512_set1_epi8('0'), nine = _mm512_set1_epi8(9);
    const __m128i minuses = _mm_set_epi64x((int64_t)_mm512_mask_cmpeq_epi8_mask(keep_high, high, minus),
                                           (int64_t)_mm512_mask_cmpeq_epi8_mask(keep_low, low, minus));
    const __m128i signs = _mm_and_si128(minuses, _mm_andnot_si128(_mm_slli_epi16(keep, 1), keep)); /* the first byte that is kept */
    __m128i digits = _mm_andnot_si128(signs, keep);
    *negative = _mm_test_epi16_mask(signs, signs);
    if (fractions) {
        *points = _mm_set_epi64x((int64_t)_mm512_mask_cmpeq_epi8_mask(keep_high, high, dot),
                                 (int64_t)_mm512_mask_cmpeq_epi8_mask(keep_low, low, dot));
        digits = _mm_andnot_si128(*points, digits);
        odd |= _mm_cmpeq_epi16_mask(digits, _mm_set1_epi16(-1)); /* 16 digits are more than a float64 takes */
    }
    odd |= _mm_testn_epi16_mask(digits, digits);
    const __mmask64 digits_low = (__mmask64)_mm_cvtsi128_si64(digits), digits_high = (__mmask64)_mm_extract_epi64(digits, 1);
    __m512i low_digits = _mm512_maskz_sub_epi8(digits_low, low, zero), high_digits = _mm512_maskz_sub_epi8(digits_high, high, zero);
    const __mmask64 wrong = _mm512_cmpgt_epu8_mask(_mm512_max_epu8(low_digits, high_digits), nine);
    if (fractions) { /* the digits before a point move up by one */
        const __mmask8 pointed = _mm_test_epi16_mask(*points, *points);
        const __m128i less = _mm_maskz_sub_epi16(pointed, *points, _mm_set1_epi16(1)), up_to = _mm_xor_si128(*points, less);
        odd |= _mm_test_epi16_mask(*points, less); /* two points */
        low_digits = _mm512_mask_blend_epi8((__mmask64)_mm_cvtsi128_si64(up_to), low_digits, _mm512_bslli_epi128(low_digits, 1));
        high_digits = _mm512_mask_blend_epi8((__mmask64)_mm_extract_epi64(up_to, 1), high_digits, _mm512_bslli_epi128(high_digits, 1));
    }
    const __m512i fours = _mm512_packus_epi32(AF_AT(four_digits)(low_digits), AF_AT(four_digits)(high_digits));
    const __m512i halves = _mm512_madd_epi16(fours, _mm512_set1_epi32(0x00012710));
    const __m512i mixed = _mm512_add_epi64(_mm512_mul_epu32(halves, _mm512_set1_epi64(100000000)), _mm512_srli_epi64(halves, 32));
    *numbers = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), mixed);
    return (odd == 0) & (wrong == 0);
}

/* A loop over rows: `do_eight` does eight and is false where it cannot, `fast` does one. */
#define AF_FILL_EIGHT(do_eight, fast)                                                                  \
    do {                                                                                               \
        const uint8_t *const data = texts->data;                                                       \
        const uint32_t *bound = texts->bounds;                                                         \
        const uint32_t rows = texts->rows, stride = texts->stride;                                     \
        const AF_AT(eight_rows) eight = AF_AT(eight_of)(texts);                                        \
        uint32_t row = 0, one_by_one = 0;                                                              \
        for (; row < rows && bound[1] < AF_REACH; row++, bound += stride) af_fill_slowly(texts, column, row); \
        while (rows - row >= eight.rows) {                                                             \
            if (AF_LIKELY(one_by_one == 0)) {                                                          \
                if (AF_LIKELY(do_eight)) {                                                             \
                    row += AF_EIGHT;                                                                   \
                    bound += AF_EIGHT * (size_t)stride;                                                \
                    continue;                                                                          \
                }                                                                                      \
                one_by_one = AF_EIGHT_APART;                                                           \
            }                                                                                          \
            one_by_one--;                                                                              \
            for (uint32_t k = 0; k < AF_EIGHT; k++, row++, bound += stride) {                          \
                const uint8_t *begin = data + (uint32_t)(bound[0] + 1), *end = data + bound[1];        \
                if (!(fast)) af_fill_slowly(texts, column, row);                                       \
            }                                                                                          \
        }                                                                                              \
        for (; row + 1 < rows; row++, bound += stride) {                                               \
            const uint8_t *begin = data + (uint32_t)(bound[0] + 1), *end = data + bound[1];            \
            if (!(fast)) af_fill_slowly(texts, column, row);                                           \
        }                                                                                              \
        if (row < rows) af_fill_slowly(texts, column, row);                                            \
    } while (0)

AF_LEVEL_INLINE bool AF_AT(eight_floats)(const AF_AT(eight_rows) * eight, const uint8_t *data, const uint32_t *bound, double *out) {
    __m512i numbers;
    __m128i points;
    __mmask8 negative;
    if (!AF_AT(read_eight)(eight, data, bound, true, &numbers, &negative, &points)) return false;
    /* A point at bit p is 2^p, so its exponent names the power of ten; a text without a point is not divided. */
    const __m512d tens_low = _mm512_setr_pd(1e14, 1e13, 1e12, 1e11, 1e10, 1e9, 1e8, 1e7);
    const __m512d tens_high = _mm512_setr_pd(1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0, 1e15);
    const __m512i place = _mm512_srli_epi64(_mm512_castpd_si512(_mm512_cvtepu32_pd(_mm256_cvtepu16_epi32(points))), 52);
    const __m512d scale = _mm512_permutex2var_pd(tens_low, place, tens_high), whole = _mm512_cvtepi64_pd(numbers);
    const __m512d values = _mm512_mask_div_pd(whole, _mm_test_epi16_mask(points, points), whole, scale); /* both are exact: one rounding */
    const __m512i bits = _mm512_castpd_si512(values);
    _mm512_storeu_si512(out, _mm512_mask_xor_epi64(bits, negative, bits, _mm512_set1_epi64(INT64_MIN)));
    return true;
}

AF_LEVEL_FUNCTION void AF_AT(fill_float64)(const af_texts *texts, af_column *column) {
    double *out = column->values;
    AF_FILL_EIGHT(AF_AT(eight_floats)(&eight, data, bound, out + row), AF_AT(fast_float64)(begin, end, out + row));
}

AF_LEVEL_INLINE bool AF_AT(eight_epochs)(const AF_AT(eight_rows) * eight, const uint8_t *data, const uint32_t *bound, int64_t unit_ns, uint64_t limit,
                                         int64_t *out) {
    __m512i numbers;
    __m128i points;
    __mmask8 negative;
    if (!AF_AT(read_eight)(eight, data, bound, false, &numbers, &negative, &points)) return false;
    if (_mm512_cmpgt_epu64_mask(numbers, _mm512_set1_epi64((int64_t)limit)) != 0) return false;
    numbers = _mm512_mullo_epi64(numbers, _mm512_set1_epi64(unit_ns));
    _mm512_storeu_si512(out, _mm512_mask_sub_epi64(numbers, negative, _mm512_setzero_si512(), numbers));
    return true;
}

AF_LEVEL_FUNCTION void AF_AT(fill_epoch)(const af_texts *texts, af_column *column, int64_t unit_ns) {
    int64_t *out = column->values;
    const uint64_t limit = (uint64_t)(INT64_MAX / unit_ns);
    AF_FILL_EIGHT(AF_AT(eight_epochs)(&eight, data, bound, unit_ns, limit, out + row), AF_AT(fast_epoch)(begin, end, unit_ns, limit, out + row));
}

AF_LEVEL_FUNCTION void AF_AT(fill_int64)(const af_texts *texts, af_column *column) { AF_AT(fill_epoch)(texts, column, 1); }

/* The texts themselves, where none is quoted and only an empty one is null. */
AF_LEVEL_FUNCTION void AF_AT(fill_texts)(const af_texts *texts, af_column *column) {
    int32_t *starts = column->values, *lengths = column->lengths;
    const uint32_t *bound = texts->bounds;
    const AF_AT(eight_rows) eight = AF_AT(eight_of)(texts);
    uint32_t row = 0, empty = 0;
    for (; texts->rows - row >= eight.rows; row += AF_EIGHT, bound += AF_EIGHT * (size_t)texts->stride) {
        __m256i begins, sizes;
        AF_AT(eight_ends)(&eight, bound, &begins, &sizes);
        const __mmask8 there = _mm256_test_epi32_mask(sizes, sizes);
        _mm256_storeu_si256((__m256i *)(starts + row), begins);
        _mm256_storeu_si256((__m256i *)(lengths + row), sizes);
        _mm_storel_epi64((__m128i *)(column->valid + row), _mm_maskz_set1_epi8(there, 1));
        empty += 8 - (uint32_t)__builtin_popcount(there);
    }
    af_fill_views(texts, column, row, empty);
}

#undef AF_FILL_EIGHT
