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

/* A block; `kind`, `sum` and `extremes` are constants where it is inlined.  False: no memory. */
AF_INLINE bool af_number_rows(af_store *store, const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    const int total = offset + AF_NUMBER_SUM, more = offset + AF_NUMBER_SUM_MORE, least = offset + af_number_least(sum);
    const double *floats = values;
    uint32_t k = 0;
    for (; sum && kind == AF_KIND_FLOAT64 && k + 1 < block->count; k += 2) {
        uint8_t *cell = block->cells[k], *other = block->cells[k + 1];
        const int64_t row = begin + block->rows[k], other_row = begin + block->rows[k + 1];
        if (!af_sum_add_both((af_sum *)(cell + total), floats[row], (af_sum *)(other + total), floats[other_row], &store->sum_bytes)) return false;
        if (extremes) af_number_between(cell, least, af_word_at(values, kind, row));
        if (extremes) af_number_between(other, least, af_word_at(values, kind, other_row));
    }
    for (; k < block->count; k++) {
        uint8_t *cell = block->cells[k];
        const int64_t row = begin + block->rows[k];
        if (sum && kind == AF_KIND_FLOAT64 && !af_sum_add((af_sum *)(cell + total), floats[row], &store->sum_bytes)) return false;
        if (sum && kind == AF_KIND_INT64) af_wide_add(af_i64(cell, total), af_i64(cell, more), ((const int64_t *)values)[row]);
        if (extremes) af_number_between(cell, least, af_word_at(values, kind, row));
    }
    return true;
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
