/* NUMBER: count, sum, mean, least and greatest of one column.
 *
 * Words of the cell, the later ones only where a result needs them:
 *   left out         how many rows are null or excluded by the mask, so that counting costs nothing where every row is taken
 *   sum              two words: of float64 an exact sum (sums/sums.h); of int64 128 bits, the low word first
 *   least, greatest  as words that sort like the values */
#ifndef ASYNCFLOW_ACCUMULATORS_NUMBER_H
#define ASYNCFLOW_ACCUMULATORS_NUMBER_H

#include "sums/saved.h"

/* Bytes from the accumulator's first word on. */
enum { AF_NUMBER_LEFT_OUT = 0, AF_NUMBER_SUM = 8, AF_NUMBER_SUM_MORE = 16, AF_NUMBER_SUM_END = 24, AF_NUMBER_EXTREMES_BYTES = 16 };
_Static_assert(AF_NUMBER_SUM_END == AF_NUMBER_SUM + sizeof(af_wide) && sizeof(af_sum) == sizeof(af_wide), "a sum is two words");

/* Where the least value is; the greatest is behind it. */
AF_INLINE int af_number_least(int sum) { return sum ? AF_NUMBER_SUM_END : AF_NUMBER_SUM; }

AF_INLINE int af_number_words(const af_op *op, const af_store *store) {
    return (af_number_least(op->sum) + (op->extremes ? AF_NUMBER_EXTREMES_BYTES : 0)) / 8;
}

AF_INLINE int af_number_saved_words(const af_op *op) { return af_number_words(op, NULL); }
AF_INLINE bool af_number_blocks(const af_op *op, const af_store *store) { return false; }

AF_INLINE af_sum *af_number_sum(const af_op *op, int64_t *slot) {
    return op->sum && op->input_kind == AF_KIND_FLOAT64 ? (af_sum *)(slot + AF_NUMBER_SUM / 8) : NULL;
}

AF_INLINE bool af_number_copy(af_store *store, const af_op *op, int64_t *slot) {
    af_sum *sum = af_number_sum(op, slot);
    return sum == NULL || af_sum_copy(&sum->high, &sum->low, &store->sum_bytes);
}

AF_INLINE void af_number_drop(af_store *store, const af_op *op, int64_t *slot) {
    af_sum *sum = af_number_sum(op, slot);
    if (sum != NULL) af_sum_drop(&sum->high, &sum->low, &store->sum_bytes);
}

AF_INLINE void af_number_empty(const af_op *op, int64_t *slot) {
    if (!op->extremes) return;
    slot[af_number_least(op->sum) / 8] = INT64_MAX;
    slot[af_number_least(op->sum) / 8 + 1] = INT64_MIN;
}

/* -- rows ------------------------------------------------------------------------------------------------------------- */

AF_INLINE void af_wide_add(int64_t *low, int64_t *high, int64_t value) {
    uint64_t sum = (uint64_t)*low + (uint64_t)value;
    *high += (value >> 63) + (sum < (uint64_t)value);
    *low = (int64_t)sum;
}

AF_INLINE void af_number_between(uint8_t *cell, int least, int64_t word) {
    const int64_t low = *af_i64(cell, least), high = *af_i64(cell, least + 8);
    *af_i64(cell, least) = word < low ? word : low;
    *af_i64(cell, least + 8) = word > high ? word : high;
}

#if AF_X86
/* Sums of float64, and extremes too where they are wanted, four rows at a time from row k on, where the block's rows are values[0], values[1], ...; gives
 * the first row that it did not take: fewer than four are left, or of these four two are in one cell or a sum leaves a rest (as with a NaN). */
AF_TARGET_V4 AF_NOINLINE uint32_t af_number_fours(const af_block *block, uint32_t k, const double *values, int offset, bool extremes) {
    const int total = offset + AF_NUMBER_SUM, least = offset + af_number_least(1);
    for (; k + 4 <= block->count; k += 4) {
        uint8_t *const *cells = block->cells + k;
        const __m256i places = _mm256_loadu_si256((const __m256i *)cells);
        const __m256d value = _mm256_loadu_pd(values + k);
        __m256d even = _mm256_castpd128_pd256(_mm_loadu_pd((double *)(cells[0] + total)));
        __m256d odd = _mm256_castpd128_pd256(_mm_loadu_pd((double *)(cells[1] + total)));
        even = _mm256_insertf128_pd(even, _mm_loadu_pd((double *)(cells[2] + total)), 1);
        odd = _mm256_insertf128_pd(odd, _mm_loadu_pd((double *)(cells[3] + total)), 1);
        const __m256d old_high = _mm256_unpacklo_pd(even, odd), old_low = _mm256_unpackhi_pd(even, odd);
        const __m256d high = _mm256_add_pd(old_high, value), part = _mm256_sub_pd(high, old_high); /* af_two_sum */
        const __m256d error = _mm256_add_pd(_mm256_sub_pd(old_high, _mm256_sub_pd(high, part)), _mm256_sub_pd(value, part));
        const __m256d low = _mm256_add_pd(old_low, error), low_part = _mm256_sub_pd(low, old_low);
        const __m256d rest = _mm256_add_pd(_mm256_sub_pd(old_low, _mm256_sub_pd(low, low_part)), _mm256_sub_pd(error, low_part));
        const uint32_t same = _mm256_cmpeq_epi64_mask(places, _mm256_permute4x64_epi64(places, 0x39)) |
                              _mm256_cmpeq_epi64_mask(places, _mm256_permute4x64_epi64(places, 0x4E));
        if (AF_UNLIKELY((same | _mm256_cmp_pd_mask(rest, _mm256_setzero_pd(), _CMP_NEQ_UQ)) != 0)) return k;
        even = _mm256_unpacklo_pd(high, low);
        odd = _mm256_unpackhi_pd(high, low);
        _mm_storeu_pd((double *)(cells[0] + total), _mm256_castpd256_pd128(even));
        _mm_storeu_pd((double *)(cells[1] + total), _mm256_castpd256_pd128(odd));
        _mm_storeu_pd((double *)(cells[2] + total), _mm256_extractf128_pd(even, 1));
        _mm_storeu_pd((double *)(cells[3] + total), _mm256_extractf128_pd(odd, 1));
        if (!extremes) continue;
        int64_t words[4] __attribute__((aligned(32)));
        const __m256i bits = _mm256_castpd_si256(value);
        _mm256_store_si256((__m256i *)words, _mm256_xor_si256(bits, _mm256_srli_epi64(_mm256_srai_epi64(bits, 63), 1))); /* af_sorting_float */
        for (int i = 0; i < 4; i++) {
            __m128i *const between = (__m128i *)(cells[i] + least);
            const __m128i known = _mm_loadu_si128(between), word = _mm_set1_epi64x(words[i]);
            _mm_storeu_si128(between, _mm_mask_max_epi64(_mm_min_epi64(known, word), 2, known, word));
        }
    }
    return k;
}
#endif

/* Rows k to stop of a block; `kind`, `sum` and `extremes` are constants where it is inlined.  False: no memory. */
AF_INLINE bool af_number_some(af_store *store, const af_block *block, uint32_t k, uint32_t stop, int64_t begin, const void *values, int offset, int kind,
                              int sum, int extremes) {
    const int total = offset + AF_NUMBER_SUM, more = offset + AF_NUMBER_SUM_MORE, least = offset + af_number_least(sum);
    const double *floats = values;
    for (; sum && kind == AF_KIND_FLOAT64 && k + 1 < stop; k += 2) {
        uint8_t *cell = block->cells[k], *other = block->cells[k + 1];
        const int64_t row = begin + block->rows[k], other_row = begin + block->rows[k + 1];
        if (!af_sum_add_both((af_sum *)(cell + total), floats[row], (af_sum *)(other + total), floats[other_row], &store->sum_bytes)) return false;
        if (extremes) af_number_between(cell, least, af_word_at(values, kind, row));
        if (extremes) af_number_between(other, least, af_word_at(values, kind, other_row));
    }
    for (; k < stop; k++) {
        uint8_t *cell = block->cells[k];
        const int64_t row = begin + block->rows[k];
        if (sum && kind == AF_KIND_FLOAT64 && !af_sum_add((af_sum *)(cell + total), floats[row], &store->sum_bytes)) return false;
        if (sum && kind == AF_KIND_INT64) af_wide_add(af_i64(cell, total), af_i64(cell, more), ((const int64_t *)values)[row]);
        if (extremes) af_number_between(cell, least, af_word_at(values, kind, row));
    }
    return true;
}

/* A block whose rows are in several cells. */
AF_INLINE bool af_number_rows(af_store *store, const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    uint32_t k = 0;
#if AF_X86
    if (sum && kind == AF_KIND_FLOAT64 && store->wide && block->rows[block->count - 1] == block->count - 1) /* all of the rows up to the last */
        while ((k = af_number_fours(block, k, (const double *)values + begin, offset, extremes)) + 4 <= block->count) {
            if (!af_number_some(store, block, k, k + 4, begin, values, offset, kind, sum, extremes)) return false;
            k += 4;
        }
#endif
    return af_number_some(store, block, k, block->count, begin, values, offset, kind, sum, extremes);
}

/* The same where all rows of the block are in one cell: the accumulator stays in registers. */
AF_INLINE bool af_number_run(af_store *store, const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    uint8_t *cell = block->cells[0];
    const int total = offset + AF_NUMBER_SUM, more = offset + AF_NUMBER_SUM_MORE, least = offset + af_number_least(sum);
    double taken[AF_ROWS + 2 * AF_SUM_PAIRS];
    int64_t low_word = 0, high_word = 0, minimum = INT64_MAX, maximum = INT64_MIN;
    if (sum && kind == AF_KIND_INT64) {
        low_word = *af_i64(cell, total);
        high_word = *af_i64(cell, more);
    }
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t row = begin + block->rows[k];
        if (sum && kind == AF_KIND_FLOAT64) taken[k] = ((const double *)values)[row];
        if (sum && kind == AF_KIND_INT64) af_wide_add(&low_word, &high_word, ((const int64_t *)values)[row]);
        if (extremes) {
            int64_t word = af_word_at(values, kind, row);
            minimum = word < minimum ? word : minimum;
            maximum = word > maximum ? word : maximum;
        }
    }
    if (sum && kind == AF_KIND_INT64) {
        *af_i64(cell, total) = low_word;
        *af_i64(cell, more) = high_word;
    }
    if (extremes) {
        if (minimum < *af_i64(cell, least)) *af_i64(cell, least) = minimum;
        if (maximum > *af_i64(cell, least + 8)) *af_i64(cell, least + 8) = maximum;
    }
    return !sum || kind != AF_KIND_FLOAT64 || af_sum_add_all((af_sum *)(cell + total), taken, block->count, &store->sum_bytes);
}

#define AF_NUMBER_CASE(KIND, SUM, EXTREMES)                                                                     \
    if (op->input_kind == KIND && !op->sum == !SUM && !op->extremes == !EXTREMES)                               \
        return feed->one_cell ? af_number_run(feed->store, block, feed->begin, values, op->offset, KIND, SUM, EXTREMES) \
                              : af_number_rows(feed->store, block, feed->begin, values, op->offset, KIND, SUM, EXTREMES);

AF_NOINLINE bool af_number_block(const af_feed *feed, const af_op *op, const af_block *block) {
    const void *values = feed->rows->inputs[op->input].values;
    AF_NUMBER_CASE(AF_KIND_FLOAT64, 1, 1)
    AF_NUMBER_CASE(AF_KIND_FLOAT64, 1, 0)
    AF_NUMBER_CASE(AF_KIND_FLOAT64, 0, 1)
    AF_NUMBER_CASE(AF_KIND_INT64, 1, 1)
    AF_NUMBER_CASE(AF_KIND_INT64, 1, 0)
    AF_NUMBER_CASE(AF_KIND_INT64, 0, 1)
    AF_NUMBER_CASE(AF_KIND_BOOL, 0, 1)
    return true;
}

AF_INLINE bool af_number_add(const af_feed *feed, const af_op *op, const af_block *block) {
    return op->sum || op->extremes ? af_number_block(feed, op, block) : true; /* a count alone: what was left out is noted before */
}

AF_INLINE bool af_number_merge(af_store *store, const af_op *op, int64_t *into_slot, const int64_t *from_slot) {
    uint8_t *into = (uint8_t *)into_slot, *from = (uint8_t *)from_slot;
    const int least = af_number_least(op->sum);
    *af_i64(into, AF_NUMBER_LEFT_OUT) += *af_i64(from, AF_NUMBER_LEFT_OUT);
    if (op->sum && op->input_kind == AF_KIND_FLOAT64) {
        if (!af_sum_merge((af_sum *)(into + AF_NUMBER_SUM), (const af_sum *)(from + AF_NUMBER_SUM), &store->sum_bytes)) return false;
    } else if (op->sum) {
        const uint64_t theirs = (uint64_t)*af_i64(from, AF_NUMBER_SUM), low = (uint64_t)*af_i64(into, AF_NUMBER_SUM) + theirs;
        const uint64_t high = (uint64_t)*af_i64(into, AF_NUMBER_SUM_MORE) + (uint64_t)*af_i64(from, AF_NUMBER_SUM_MORE);
        *af_i64(into, AF_NUMBER_SUM_MORE) = (int64_t)(high + (low < theirs));
        *af_i64(into, AF_NUMBER_SUM) = (int64_t)low;
    }
    if (op->extremes) {
        if (*af_i64(from, least) < *af_i64(into, least)) *af_i64(into, least) = *af_i64(from, least);
        if (*af_i64(from, least + 8) > *af_i64(into, least + 8)) *af_i64(into, least + 8) = *af_i64(from, least + 8);
    }
    return true;
}

/* -- results ---------------------------------------------------------------------------------------------------------- */

AF_INLINE int64_t af_number_taken(const af_op *op, uint8_t *cell) { return *af_i64(cell, 0) - *af_i64(cell, op->offset + AF_NUMBER_LEFT_OUT); }

AF_INLINE bool af_result_rows_all(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    *word = *af_i64(cell, 0);
    return true;
}

AF_INLINE bool af_result_count(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    *word = af_number_taken(op, cell);
    return true;
}

AF_INLINE bool af_result_sum(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    if (af_number_taken(op, cell) == 0) return false;
    if (kind == AF_KIND_FLOAT64) {
        *word = af_bits(af_sum_rounded((const af_sum *)(cell + op->offset + AF_NUMBER_SUM)));
        return true;
    }
    const int64_t low = *af_i64(cell, op->offset + AF_NUMBER_SUM), high = *af_i64(cell, op->offset + AF_NUMBER_SUM_MORE);
    *word = low;
    if (high == low >> 63) return true;
    ++*overflows;
    return false;
}

/* A sum of int64 over their number, rounded once. */
AF_NOINLINE double af_wide_over(int64_t low, int64_t high, int64_t count) {
    af_exact total, divisor;
    unsigned __int128 magnitude = (unsigned __int128)(uint64_t)high << 64 | (uint64_t)low;
    if (high < 0) magnitude = -magnitude;
    af_exact_of_words(&total, magnitude, high < 0);
    af_exact_of_words(&divisor, (uint64_t)count, false);
    return af_exact_ratio(&total, &divisor, 1);
}

AF_INLINE bool af_result_mean(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const int64_t taken = af_number_taken(op, cell);
    if (taken == 0) return false;
    if (kind == AF_KIND_FLOAT64) {
        *word = af_bits(af_sum_over((const af_sum *)(cell + op->offset + AF_NUMBER_SUM), taken));
        return true;
    }
    const int64_t low = *af_i64(cell, op->offset + AF_NUMBER_SUM), high = *af_i64(cell, op->offset + AF_NUMBER_SUM_MORE);
    const bool small = high == low >> 63 && low < (int64_t)1 << 53 && low > -((int64_t)1 << 53) && taken < (int64_t)1 << 53;
    *word = af_bits(small ? (double)low / (double)taken : af_wide_over(low, high, taken));
    return true;
}

AF_INLINE bool af_number_extreme(const af_op *op, uint8_t *cell, int kind, int at, int64_t *word) {
    if (af_number_taken(op, cell) == 0) return false;
    *word = *af_i64(cell, op->offset + at);
    if (kind == AF_KIND_FLOAT64) *word = af_bits(af_float_of(*word));
    return true;
}

AF_INLINE bool af_result_least(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    return af_number_extreme(op, cell, kind, af_number_least(op->sum), word);
}

AF_INLINE bool af_result_greatest(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    return af_number_extreme(op, cell, kind, af_number_least(op->sum) + 8, word);
}

/* -- saved ------------------------------------------------------------------------------------------------------------ */

static void af_number_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    int64_t *slot = af_i64(cell, op->offset);
    const af_sum *sum = af_number_sum(op, slot);
    const int words = af_number_saved_words(op);
    for (int i = 0; i < words; i++) {
        if (sum != NULL && i == AF_NUMBER_SUM / 8) {
            af_sum_save(saving, AF_BLOCK_VALUE, sum);
            i = AF_NUMBER_SUM_END / 8 - 1;
        } else {
            af_save_word(saving, slot[i]);
        }
    }
}

static int af_number_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    int64_t *slot = af_i64(cell, op->offset);
    af_sum *sum = af_number_sum(op, slot);
    const int words = af_number_saved_words(op);
    for (int i = 0; i < words; i++) {
        if (sum != NULL && i == AF_NUMBER_SUM / 8) {
            const int done = af_sum_load(loading, AF_BLOCK_VALUE, sum);
            if (done != AF_FITS) return done;
            i = AF_NUMBER_SUM_END / 8 - 1;
        } else {
            slot[i] = af_load_word(loading);
        }
    }
    return slot[0] >= 0 && slot[0] <= loading->rows ? AF_FITS : AF_UNFIT;
}

#endif
