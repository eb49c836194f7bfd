/* MOMENTS: variance and standard deviation, of the exact sums of the values and of their squares: rounded once, in any order.
 *
 * Of n values the variance is (n * sum of squares - square of the sum) / (n * (n - correction)), worked out in whole numbers.  Values that
 * are not finite make it NaN. */
#ifndef ASYNCFLOW_ACCUMULATORS_MOMENTS_H
#define ASYNCFLOW_ACCUMULATORS_MOMENTS_H

#include "sums/estimates.h"
#include "sums/saved.h"

typedef struct {
    int64_t count;
    af_sum sum;
    af_products squares;
} af_moments;

enum { AF_MOMENTS_WORDS = 7, AF_MOMENTS_SAVED_WORDS = 3 };
enum { AF_BLOCK_SUM = AF_BLOCK_VALUE, AF_BLOCK_SQUARES };
_Static_assert(sizeof(af_moments) == 8 * AF_MOMENTS_WORDS, "a cell's words");

AF_INLINE int af_moments_words(const af_op *op, const af_store *store) { return AF_MOMENTS_WORDS; }
AF_INLINE int af_moments_saved_words(const af_op *op) { return AF_MOMENTS_SAVED_WORDS; }
AF_INLINE bool af_moments_blocks(const af_op *op, const af_store *store) { return false; }
AF_INLINE void af_moments_empty(const af_op *op, int64_t *slot) {}

static bool af_moments_copy(af_store *store, const af_op *op, int64_t *slot) {
    af_moments *m = (af_moments *)slot;
    const bool done = af_sum_copy(&m->sum.high, &m->sum.low, &store->sum_bytes);
    return af_sum_copy(&m->squares.high, &m->squares.low, &store->sum_bytes) && done;
}

static void af_moments_drop(af_store *store, const af_op *op, int64_t *slot) {
    af_moments *m = (af_moments *)slot;
    af_sum_drop(&m->sum.high, &m->sum.low, &store->sum_bytes);
    af_sum_drop(&m->squares.high, &m->squares.low, &store->sum_bytes);
}

static bool af_moments_plus(af_moments *into, const af_moments *from, uint64_t *held) {
    into->count += from->count;
    return af_sum_merge(&into->sum, &from->sum, held) && af_products_merge(&into->squares, &from->squares, held);
}

static bool af_moments_merge(af_store *store, const af_op *op, int64_t *into, const int64_t *from) {
    return af_moments_plus((af_moments *)into, (const af_moments *)from, &store->sum_bytes);
}

/* Values of a block, and behind them room for 8 more; whether all are usual. */
AF_INLINE bool af_block_values(const af_block *block, const void *values, int kind, int64_t begin, double *into) {
    bool usual = true;
    for (uint32_t k = 0; k < block->count; k++) into[k] = af_double_at(values, kind, begin + block->rows[k]);
    for (uint32_t k = 0; k < block->count; k++) usual &= af_usual(into[k]);
    return usual;
}
_Static_assert(AF_PRODUCTS_ROOM == AF_ROWS + 2 * AF_SUM_PAIRS, "a block's values");

#if AF_X86
/* Usual values of a block to several cells, two rows at a time from row k on; gives the first row that it did not take: one is left, or two are
 * in one cell or a sum leaves a rest.  The three sums of a cell are lanes 0 to 2 of a row's four: of values, squares and their errors. */
AF_TARGET_V4 AF_NOINLINE uint32_t af_moments_twos(const af_block *block, uint32_t k, const double *x, int offset) {
    const __m512i high_words = _mm512_set_epi64(8, 14, 12, 10, 0, 6, 4, 2), low_words = _mm512_set_epi64(8, 15, 13, 11, 0, 7, 5, 3);
    const __m512i first = _mm512_set_epi64(10, 2, 9, 1, 8, 0, 0, 0), second = _mm512_set_epi64(14, 6, 13, 5, 12, 4, 0, 0);
    const __m512i a_row = _mm512_set1_epi64(1);
    for (; k + 2 <= block->count; k += 2) {
        int64_t *one = af_i64(block->cells[k], offset) - 1, *other = af_i64(block->cells[k + 1], offset) - 1; /* where a line begins */
        const __m512i my_words = _mm512_maskz_loadu_epi64(0xFE, one), their_words = _mm512_maskz_loadu_epi64(0xFE, other);
        const __m512d mine = _mm512_castsi512_pd(my_words), theirs = _mm512_castsi512_pd(their_words);
        const __m512d old_high = _mm512_permutex2var_pd(mine, high_words, theirs), old_low = _mm512_permutex2var_pd(mine, low_words, theirs);
        const __m512d values = _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_set1_pd(x[k])), _mm256_set1_pd(x[k + 1]), 1);
        const __m512d squares = _mm512_mul_pd(values, values), errors = _mm512_fmsub_pd(values, values, squares);
        const __m512d value = _mm512_mask_mov_pd(_mm512_mask_mov_pd(_mm512_maskz_mov_pd(0x77, values), 0x22, squares), 0x44, errors);
        const __m512d high = _mm512_add_pd(old_high, value), part = _mm512_sub_pd(high, old_high); /* af_two_sum */
        const __m512d error = _mm512_add_pd(_mm512_sub_pd(old_high, _mm512_sub_pd(high, part)), _mm512_sub_pd(value, part));
        const __m512d low = _mm512_add_pd(old_low, error), low_part = _mm512_sub_pd(low, old_low);
        const __m512d rest = _mm512_add_pd(_mm512_sub_pd(old_low, _mm512_sub_pd(low, low_part)), _mm512_sub_pd(error, low_part));
        if (AF_UNLIKELY(one == other || _mm512_cmp_pd_mask(rest, _mm512_setzero_pd(), _CMP_NEQ_UQ) != 0)) return k;
        const __m512i my_sums = _mm512_castpd_si512(_mm512_permutex2var_pd(high, first, low));
        const __m512i their_sums = _mm512_castpd_si512(_mm512_permutex2var_pd(high, second, low));
        _mm512_mask_storeu_epi64(one, 0xFE, _mm512_mask_add_epi64(my_sums, 0x02, my_words, a_row));
        _mm512_mask_storeu_epi64(other, 0xFE, _mm512_mask_add_epi64(their_sums, 0x02, their_words, a_row));
    }
    return k;
}
#endif

AF_NOINLINE bool af_moments_add(const af_feed *feed, const af_op *op, const af_block *block) {
    double x[AF_PRODUCTS_ROOM];
    af_product_rows squares;
    uint64_t *held = &feed->store->sum_bytes;
    const bool usual = af_block_values(block, feed->rows->inputs[op->input].values, op->input_kind, feed->begin, x);
    const uint32_t count = block->count;
    af_moments all = {.count = count};
    uint32_t k = 0;
#if AF_X86
    if (feed->store->wide && usual && !feed->one_cell && (k = af_moments_twos(block, k, x, op->offset)) == count) return true;
#endif
    af_products_of_rows(&squares, x, x, usual, count);
    if (feed->one_cell && af_sum_of_all(&all.sum, x, count) && af_products_of_all(&all.squares, &squares, count))
        return af_moments_plus((af_moments *)(block->cells[0] + op->offset), &all, held);
    for (; k + 1 < count; k += 2) {
#if AF_X86
        if (feed->store->wide && usual && (k = af_moments_twos(block, k, x, op->offset)) + 1 >= count) break;
#endif
        af_moments *one = (af_moments *)(block->cells[k] + op->offset), *other = (af_moments *)(block->cells[k + 1] + op->offset);
        one->count++;
        other->count++;
        if (!af_sum_add_both(&one->sum, x[k], &other->sum, x[k + 1], held)) return false;
        if (!af_products_add_both(&one->squares, &other->squares, &squares, k, held)) return false;
    }
    if (k == count) return true;
    af_moments *last = (af_moments *)(block->cells[k] + op->offset);
    last->count++;
    return af_sum_add(&last->sum, x[k], held) && af_products_add_row(&last->squares, &squares, k, held);
}

/* into = count * sum of products - product of the sums: `count` squared times the covariance of `count` finite rows. */
static void af_exact_spread(af_exact *into, int64_t count, const af_products *products, const af_sum *x, const af_sum *y) {
    af_exact one, other, left;
    af_products_exact(&one, products);
    af_exact_of_words(&other, (uint64_t)count, false);
    af_exact_multiply(&left, &one, &other);
    af_sum_exact(&one, x);
    if (x != y) af_sum_exact(&other, y);
    af_exact right;
    af_exact_multiply(&right, &one, x != y ? &other : &one);
    af_exact_minus(into, &left, &right);
}

AF_INLINE af_estimate af_sum_estimate(const af_sum *sum) { return af_estimate_of(sum->high, sum->low, 0.0); }

AF_INLINE af_estimate af_count_estimate(int64_t count) { return (af_estimate){(double)count, 0.0, count < (int64_t)1 << 53 ? 0.0 : INFINITY}; }

/* The same, about; NaN where a sum is no pair or is too far from 1. */
static af_estimate af_estimate_spread(int64_t count, const af_products *products, const af_sum *x, const af_sum *y) {
    const af_estimate of_x = af_sum_estimate(x), of_y = af_sum_estimate(y);
    const af_estimate sum = af_estimate_plus(af_estimate_of(products->high, products->low, 0.0), af_estimate_of(products->error_high, products->error_low, 0.0));
    af_estimate right = af_estimate_times(of_x, of_y);
    right.high = -right.high;
    right.low = -right.low;
    if (af_estimate_far(of_x) || af_estimate_far(of_y) || af_estimate_far(sum)) return (af_estimate){NAN, NAN, NAN};
    return af_estimate_plus(af_estimate_times(af_count_estimate(count), sum), right);
}

/* The variance's root or the variance (`power` 2, 1).  One below 0, which only a state that was tampered with has, is NaN. */
AF_NOINLINE double af_moments_spread(const af_moments *m, int64_t correction, int power) {
    af_exact spread, divisor;
    double rounded;
    af_estimate about = af_estimate_spread(m->count, &m->squares, &m->sum, &m->sum);
    if (af_estimate_clear(about)) {
        about = af_estimate_over(about, af_estimate_times(af_count_estimate(m->count), af_count_estimate(m->count - correction)));
        if (af_estimate_decided(power == 2 ? af_estimate_root(about) : about, &rounded)) return rounded;
    }
    if (!af_sum_finite(&m->sum)) return NAN;
    af_exact_spread(&spread, m->count, &m->squares, &m->sum, &m->sum);
    if (spread.count && spread.negative) return NAN;
    af_exact_of_words(&divisor, (unsigned __int128)m->count * (uint64_t)(m->count - correction), false);
    return af_exact_ratio(&spread, &divisor, power);
}

AF_INLINE bool af_result_variance(const af_op *op, uint8_t *cell, int kind, double correction, int64_t *word, int64_t *overflows) {
    const af_moments *m = (const af_moments *)(cell + op->offset);
    if (m->count <= (int64_t)correction) return false;
    *word = af_bits(af_moments_spread(m, (int64_t)correction, 1));
    return true;
}

AF_INLINE bool af_result_deviation(const af_op *op, uint8_t *cell, int kind, double correction, int64_t *word, int64_t *overflows) {
    const af_moments *m = (const af_moments *)(cell + op->offset);
    if (m->count <= (int64_t)correction) return false;
    *word = af_bits(af_moments_spread(m, (int64_t)correction, 2));
    return true;
}

static void af_moments_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    const af_moments *m = (const af_moments *)(cell + op->offset);
    af_save_word(saving, m->count);
    af_sum_save(saving, AF_BLOCK_SUM, &m->sum);
    af_products_save(saving, AF_BLOCK_SQUARES, &m->squares);
}

static int af_moments_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    af_moments *m = (af_moments *)(cell + op->offset);
    m->count = af_load_word(loading);
    if (m->count < 0 || m->count > loading->rows) return AF_UNFIT;
    const int done = af_sum_load(loading, AF_BLOCK_SUM, &m->sum);
    return done == AF_FITS ? af_products_load(loading, AF_BLOCK_SQUARES, &m->squares) : done;
}

#endif
