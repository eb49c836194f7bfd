/* NUMBER: count, sum, mean, least and greatest of one column.
 *
 * Words of the cell, the later ones only where a result needs them:
 *   left out         how many rows are null or excluded by the mask, so that counting costs nothing where every row is taken
 *   sum              two words: of float64 the sum and its compensation (Neumaier); of int64 128 bits, the low word first
 *   least, greatest  as words that sort like the values */
#ifndef ASYNCFLOW_ACCUMULATORS_NUMBER_H
#define ASYNCFLOW_ACCUMULATORS_NUMBER_H

#include "accumulators/saved.h"

/* Bytes from the accumulator's first word on. */
enum { AF_NUMBER_LEFT_OUT = 0, AF_NUMBER_SUM = 8, AF_NUMBER_SUM_MORE = 16, AF_NUMBER_SUM_END = 24, AF_NUMBER_EXTREMES_BYTES = 16 };
_Static_assert(AF_NUMBER_SUM_END == AF_NUMBER_SUM + sizeof(af_wide), "a sum is two words");

/* Where the least value is; the greatest is behind it. */
AF_INLINE int af_number_least(int sum) { return sum ? AF_NUMBER_SUM_END : AF_NUMBER_SUM; }

AF_INLINE int af_number_words(const af_op *op, const af_store *store) {
    return (af_number_least(op->sum) + (op->extremes ? AF_NUMBER_EXTREMES_BYTES : 0)) / 8;
}

AF_INLINE int af_number_saved_words(const af_op *op) { return af_number_words(op, NULL); }
AF_INLINE bool af_number_blocks(const af_op *op, const af_store *store) { return false; }
AF_INLINE bool af_number_copy(af_store *store, const af_op *op, int64_t *slot) { return true; }
AF_INLINE void af_number_drop(af_store *store, const af_op *op, int64_t *slot) {}

AF_INLINE void af_number_empty(const af_op *op, int64_t *slot) {
    if (!op->extremes) return;
    slot[af_number_least(op->sum) / 8] = INT64_MAX;
    slot[af_number_least(op->sum) / 8 + 1] = INT64_MIN;
}

/* -- rows ------------------------------------------------------------------------------------------------------------- */

/* Adds a value to a compensated sum (Neumaier; the error term by Knuth's two-sum). */
AF_INLINE void af_sum_add(double *high, double *low, double value) {
    double total = *high + value, part = total - *high;
    *low += (*high - (total - part)) + (value - part);
    *high = total;
}

AF_INLINE void af_wide_add(int64_t *low, int64_t *high, int64_t value) {
    uint64_t sum = (uint64_t)*low + (uint64_t)value;
    *high += (value >> 63) + (sum < (uint64_t)value);
    *low = (int64_t)sum;
}

/* A block; `kind`, `sum` and `extremes` are constants where it is inlined. */
AF_INLINE void af_number_rows(const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    const int total = offset + AF_NUMBER_SUM, more = offset + AF_NUMBER_SUM_MORE, least = offset + af_number_least(sum);
    for (uint32_t k = 0; k < block->count; k++) {
        uint8_t *cell = block->cells[k];
        int64_t row = begin + block->rows[k];
        if (sum && kind == AF_KIND_FLOAT64) af_sum_add(af_f64(cell, total), af_f64(cell, more), ((const double *)values)[row]);
        if (sum && kind == AF_KIND_INT64) af_wide_add(af_i64(cell, total), af_i64(cell, more), ((const int64_t *)values)[row]);
        if (extremes) {
            int64_t word = af_word_at(values, kind, row), low = *af_i64(cell, least), high = *af_i64(cell, least + 8);
            *af_i64(cell, least) = word < low ? word : low;
            *af_i64(cell, least + 8) = word > high ? word : high;
        }
    }
}

/* The same where all rows of the block are in one cell: the accumulator stays in registers. */
AF_INLINE void af_number_run(const af_block *block, int64_t begin, const void *values, int offset, int kind, int sum, int extremes) {
    uint8_t *cell = block->cells[0];
    const int total = offset + AF_NUMBER_SUM, more = offset + AF_NUMBER_SUM_MORE, least = offset + af_number_least(sum);
    double high = 0, low = 0;
    int64_t low_word = 0, high_word = 0, minimum = INT64_MAX, maximum = INT64_MIN;
    if (sum && kind == AF_KIND_FLOAT64) {
        high = *af_f64(cell, total);
        low = *af_f64(cell, more);
    }
    if (sum && kind == AF_KIND_INT64) {
        low_word = *af_i64(cell, total);
        high_word = *af_i64(cell, more);
    }
    for (uint32_t k = 0; k < block->count; k++) {
        int64_t row = begin + block->rows[k];
        if (sum && kind == AF_KIND_FLOAT64) af_sum_add(&high, &low, ((const double *)values)[row]);
        if (sum && kind == AF_KIND_INT64) af_wide_add(&low_word, &high_word, ((const int64_t *)values)[row]);
        if (extremes) {
            int64_t word = af_word_at(values, kind, row);
            minimum = word < minimum ? word : minimum;
            maximum = word > maximum ? word : maximum;
        }
    }
    if (sum && kind == AF_KIND_FLOAT64) {
        *af_f64(cell, total) = high;
        *af_f64(cell, more) = low;
    }
    if (sum && kind == AF_KIND_INT64) {
        *af_i64(cell, total) = low_word;
        *af_i64(cell, more) = high_word;
    }
    if (extremes) {
        if (minimum < *af_i64(cell, least)) *af_i64(cell, least) = minimum;
        if (maximum > *af_i64(cell, least + 8)) *af_i64(cell, least + 8) = maximum;
    }
}

#define AF_NUMBER_CASE(KIND, SUM, EXTREMES)                                                          \
    if (op->input_kind == KIND && !op->sum == !SUM && !op->extremes == !EXTREMES) {                  \
        if (feed->one_cell)                                                                          \
            af_number_run(block, feed->begin, values, op->offset, KIND, SUM, EXTREMES);              \
        else                                                                                         \
            af_number_rows(block, feed->begin, values, op->offset, KIND, SUM, EXTREMES);             \
        return true;                                                                                 \
    }

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
        af_sum_add(af_f64(into, AF_NUMBER_SUM), af_f64(into, AF_NUMBER_SUM_MORE), *af_f64(from, AF_NUMBER_SUM));
        *af_f64(into, AF_NUMBER_SUM_MORE) += *af_f64(from, AF_NUMBER_SUM_MORE);
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

AF_INLINE double af_number_float_sum(const af_op *op, uint8_t *cell) {
    const double high = *af_f64(cell, op->offset + AF_NUMBER_SUM);
    return isfinite(high) ? high + *af_f64(cell, op->offset + AF_NUMBER_SUM_MORE) : high;
}

AF_INLINE bool af_result_sum(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    if (af_number_taken(op, cell) == 0) return false;
    if (kind == AF_KIND_FLOAT64) {
        *word = af_bits(af_number_float_sum(op, cell));
        return true;
    }
    const int64_t low = *af_i64(cell, op->offset + AF_NUMBER_SUM), high = *af_i64(cell, op->offset + AF_NUMBER_SUM_MORE);
    *word = low;
    if (high == low >> 63) return true;
    ++*overflows;
    return false;
}

AF_INLINE bool af_result_mean(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const int64_t taken = af_number_taken(op, cell);
    if (taken == 0) return false;
    if (kind == AF_KIND_FLOAT64) {
        *word = af_bits(af_number_float_sum(op, cell) / (double)taken);
        return true;
    }
    const uint64_t low = (uint64_t)*af_i64(cell, op->offset + AF_NUMBER_SUM), high = (uint64_t)*af_i64(cell, op->offset + AF_NUMBER_SUM_MORE);
    *word = af_bits((double)(af_wide)((unsigned __int128)high << 64 | low) / (double)taken);
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
    const int words = af_number_saved_words(op);
    for (int i = 0; i < words; i++) {
        const int at = 8 * i;
        if (op->sum && op->input_kind == AF_KIND_FLOAT64 && at >= AF_NUMBER_SUM && at < AF_NUMBER_SUM_END)
            af_save_double(saving, *af_f64(cell, op->offset + at));
        else
            af_save_word(saving, *af_i64(cell, op->offset + at));
    }
}

static int af_number_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    const int words = af_number_saved_words(op);
    for (int i = 0; i < words; i++) *af_i64(cell, op->offset + 8 * i) = af_load_word(loading);
    const int64_t left_out = *af_i64(cell, op->offset + AF_NUMBER_LEFT_OUT);
    return left_out >= 0 && left_out <= loading->rows ? AF_FITS : AF_UNFIT;
}

#endif
