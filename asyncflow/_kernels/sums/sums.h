/* Exact sums of float64, and of products of two: what accumulators keep of them, row by row and merged.
 *
 * A sum is a pair of float64 whose sum is the sum of all values, exactly.  A value is added to the first with its error (Knuth's two-sum), the
 * error to the second; what that leaves is checked to be 0.  Where it is not (values over more than 106 bits, or beyond float64 on the
 * way), the sum becomes a fixed-point number outside of the cell (sums/fixed.h) and remains one.  So a sum depends on its values alone, not
 * on their order nor on how parts of them were merged.
 *
 *   high, low                finite: the sum is high + low
 *   AF_SUM_FIXED, address    of the fixed-point number
 *   infinity or NaN, 0       what the values come to once one of them is not finite
 *
 * A sum of products is two pairs: of the products rounded, and of their errors (Dekker's product).  A product that may leave float64's range
 * makes the sum a fixed-point number; a product with an infinity or NaN is left out.
 *
 * These functions need IEEE arithmetic as written: no contraction to fused multiply-add (-ffp-contract=off), no reordering. */
#ifndef ASYNCFLOW_SUMS_H
#define ASYNCFLOW_SUMS_H

#include "sums/rounded.h"

typedef struct {
    double high, low;
} af_sum;

typedef struct {
    double high, low, error_high, error_low;
} af_products;

#define AF_SUM_FIXED 0x7FFB5C0DE5C0DE5Cull /* a NaN that no arithmetic makes; one in the data is made the usual NaN */

/* -- pairs ------------------------------------------------------------------------------------------------------------ */

/* A sum rounded, and its error: total + error = a + b, and not finite where that is beyond float64. */
AF_INLINE double af_two_sum(double a, double b, double *error) {
    const double total = a + b, part = total - a;
    *error = (a - (total - part)) + (b - part);
    return total;
}

/* A product rounded, and its error: exact where both factors are 0 or usual. */
AF_INLINE double af_two_product(double x, double y, double *error) {
    const double product = x * y, x_scaled = 134217729.0 * x, y_scaled = 134217729.0 * y;
    const double x_high = x_scaled - (x_scaled - x), y_high = y_scaled - (y_scaled - y);
    const double x_low = x - x_high, y_low = y - y_high;
    *error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low;
    return product;
}

/* Whether products of such values have an exact error. */
AF_INLINE bool af_usual(double value) {
    const double size = fabs(value);
    return (size < 0x1p500) & ((size > 0x1p-480) | (size == 0.0));
}

AF_INLINE af_fixed *af_sum_fixed(double high, double low) {
    uint64_t tag;
    intptr_t address;
    _Static_assert(sizeof address == sizeof low, "an address in place of a float64");
    memcpy(&tag, &high, sizeof tag);
    memcpy(&address, &low, sizeof address);
    return tag == AF_SUM_FIXED ? (af_fixed *)address : NULL;
}

AF_INLINE void af_sum_put_fixed(double *high, double *low, const af_fixed *fixed) {
    const uint64_t tag = AF_SUM_FIXED;
    const intptr_t address = (intptr_t)fixed;
    memcpy(high, &tag, sizeof tag);
    memcpy(low, &address, sizeof address);
}

/* The fixed-point number of a sum that was `count` finite values; false: no memory.  One that is there already is kept. */
static bool af_sum_fix(double *values, int count, uint64_t *held) {
    af_fixed_room room;
    if (af_sum_fixed(values[0], values[1]) != NULL) return true;
    af_fixed *fixed = af_fixed_for(&room, values, count);
    for (int i = 0; i < count; i++) af_fixed_add(&fixed, values[i], held);
    if ((fixed = af_fixed_copy(fixed, held)) == NULL) return false;
    memset(values, 0, (size_t)count * sizeof *values);
    af_sum_put_fixed(&values[0], &values[1], fixed);
    return true;
}

/* Frees the fixed-point number of a sum, or of a sum of products. */
AF_INLINE void af_sum_drop(double *high, double *low, uint64_t *held) {
    af_fixed *fixed = af_sum_fixed(*high, *low);
    if (fixed == NULL) return;
    af_fixed_drop(fixed, held);
    *high = *low = 0.0;
}

/* Gives a copied sum a fixed-point number of its own; false: no memory, and the sum is 0. */
AF_INLINE bool af_sum_copy(double *high, double *low, uint64_t *held) {
    const af_fixed *from = af_sum_fixed(*high, *low);
    if (from == NULL) return true;
    const af_fixed *made = af_fixed_copy(from, held);
    *high = *low = 0.0;
    if (made != NULL) af_sum_put_fixed(high, low, made);
    return made != NULL;
}

/* -- sums ------------------------------------------------------------------------------------------------------------- */

/* Adds a value that the pair does not take; false: no memory. */
AF_NOINLINE bool af_sum_add_far(af_sum *sum, double value, uint64_t *held) {
    const bool fixed = af_sum_fixed(sum->high, sum->low) != NULL;
    if (AF_UNLIKELY(!isfinite(value)) || (!fixed && !isfinite(sum->high))) {
        const double come_to = fixed || isfinite(sum->high) ? value : sum->high + value;
        if (fixed) af_sum_drop(&sum->high, &sum->low, held);
        *sum = (af_sum){come_to == come_to ? come_to : NAN, 0.0};
        return true;
    }
    if (!af_sum_fix(&sum->high, 2, held)) return false;
    af_fixed *number = af_sum_fixed(sum->high, sum->low);
    const bool done = af_fixed_add(&number, value, held);
    af_sum_put_fixed(&sum->high, &sum->low, number);
    return done;
}

/* Adds a value; false: no memory. */
AF_INLINE bool af_sum_add(af_sum *sum, double value, uint64_t *held) {
    double error, rest;
    const double high = af_two_sum(sum->high, value, &error), low = af_two_sum(sum->low, error, &rest);
    if (AF_UNLIKELY(!(rest == 0.0))) return af_sum_add_far(sum, value, held);
    sum->high = high;
    sum->low = low;
    return true;
}

/* into = into + from; false: no memory. */
AF_INLINE bool af_sum_merge(af_sum *into, const af_sum *from, uint64_t *held) {
    const af_fixed *theirs = af_sum_fixed(from->high, from->low);
    double error, rest, error_rest;
    const double high = af_two_sum(into->high, from->high, &error), low = af_two_sum(af_two_sum(into->low, from->low, &rest), error, &error_rest);
    if (AF_LIKELY(rest == 0.0 && error_rest == 0.0)) {
        *into = (af_sum){high, low};
        return true;
    }
    if (theirs == NULL) return af_sum_add(into, from->high, held) && af_sum_add(into, from->low, held);
    if (af_sum_fixed(into->high, into->low) == NULL && !isfinite(into->high)) return true;
    if (!af_sum_fix(&into->high, 2, held)) return false;
    af_fixed *number = af_sum_fixed(into->high, into->low);
    const bool done = af_fixed_merge(&number, theirs, held);
    af_sum_put_fixed(&into->high, &into->low, number);
    return done;
}

/* -- several at once ---------------------------------------------------------------------------------------------------- */

typedef double af_two_floats __attribute__((vector_size(16)));
typedef int64_t af_two_words __attribute__((vector_size(16)));

typedef struct {
    af_two_floats high, low;
} af_two_sums;

/* Two sums, two values; gives which of them leave a rest. */
AF_INLINE af_two_words af_two_sums_add(af_two_sums *sums, af_two_floats value) {
    const af_two_floats high = sums->high + value, part = high - sums->high;
    const af_two_floats error = (sums->high - (high - part)) + (value - part);
    const af_two_floats low = sums->low + error, low_part = low - sums->low;
    const af_two_floats rest = (sums->low - (low - low_part)) + (error - low_part);
    *sums = (af_two_sums){high, low};
    return (af_two_words)(rest != (af_two_floats){0.0, 0.0});
}

/* Adds a value to each of two sums, which may be one; false: no memory. */
AF_INLINE bool af_sum_add_both(af_sum *one, double value, af_sum *other, double other_value, uint64_t *held) {
    af_two_floats first, second;
    memcpy(&first, one, sizeof first);
    memcpy(&second, other, sizeof second);
    af_two_sums sums = {{first[0], second[0]}, {first[1], second[1]}};
    const af_two_words left = af_two_sums_add(&sums, (af_two_floats){value, other_value});
    if (AF_UNLIKELY((left[0] | left[1]) || one == other)) return af_sum_add(one, value, held) && af_sum_add(other, other_value, held);
    first = (af_two_floats){sums.high[0], sums.low[0]};
    second = (af_two_floats){sums.high[1], sums.low[1]};
    memcpy(one, &first, sizeof first);
    memcpy(other, &second, sizeof second);
    return true;
}

enum { AF_SUM_PAIRS = 4, AF_PRODUCTS_ROOM = 64 + 2 * AF_SUM_PAIRS };

/* The sum of `count` values, behind which there is room for 8 more: on eight sums at once, so that no row waits for the one before.  False: no
 * pair is the sum. */
static bool af_sum_of_all(af_sum *sum, double *values, uint32_t count) {
    af_two_sums sums[AF_SUM_PAIRS];
    af_two_words left = {0, 0};
    memset(sums, 0, sizeof sums);
    for (uint32_t i = count; i % (2 * AF_SUM_PAIRS); i++) values[i] = 0.0;
    for (uint32_t i = 0; i < count; i += 2 * AF_SUM_PAIRS)
        for (int k = 0; k < AF_SUM_PAIRS; k++) {
            af_two_floats value;
            memcpy(&value, values + i + 2 * k, sizeof value);
            left |= af_two_sums_add(&sums[k], value);
        }
    for (int half = AF_SUM_PAIRS / 2; half; half /= 2)
        for (int k = 0; k < half; k++) {
            left |= af_two_sums_add(&sums[k], sums[k + half].high);
            left |= af_two_sums_add(&sums[k], sums[k + half].low);
        }
    double error, rest, error_rest;
    sum->high = af_two_sum(sums[0].high[0], sums[0].high[1], &error);
    sum->low = af_two_sum(af_two_sum(sums[0].low[0], sums[0].low[1], &rest), error, &error_rest);
    return !(left[0] | left[1]) && rest == 0.0 && error_rest == 0.0;
}

/* Adds such values to one sum; false: no memory. */
static bool af_sum_add_all(af_sum *sum, double *values, uint32_t count, uint64_t *held) {
    af_sum all;
    if (AF_LIKELY(af_sum_of_all(&all, values, count))) return af_sum_merge(sum, &all, held);
    bool done = true;
    for (uint32_t i = 0; i < count && done; i++) done = af_sum_add(sum, values[i], held);
    return done;
}

/* A sum's exact number; it is finite. */
static void af_sum_exact(af_exact *into, const af_sum *sum) {
    const af_fixed *fixed = af_sum_fixed(sum->high, sum->low);
    if (fixed != NULL)
        af_exact_of_fixed(into, fixed);
    else
        af_exact_of_values(into, &sum->high, 2);
}

AF_INLINE bool af_sum_finite(const af_sum *sum) { return isfinite(sum->high) || af_sum_fixed(sum->high, sum->low) != NULL; }

AF_NOINLINE double af_sum_far(const af_sum *sum) {
    af_exact exact;
    if (!af_sum_finite(sum)) return sum->high;
    af_sum_exact(&exact, sum);
    return af_exact_rounded(&exact);
}

/* The sum, rounded once. */
AF_INLINE double af_sum_rounded(const af_sum *sum) { return AF_LIKELY(isfinite(sum->high)) ? sum->high + sum->low : af_sum_far(sum); }

AF_NOINLINE double af_sum_over_far(const af_sum *sum, int64_t count) {
    af_exact exact, divisor;
    if (!af_sum_finite(sum)) return sum->high;
    af_sum_exact(&exact, sum);
    af_exact_of_words(&divisor, (uint64_t)count, false);
    return af_exact_ratio(&exact, &divisor, 1);
}

/* The sum over a count above 0, rounded once: the quotient of the rounded sum, and what that leaves, where this decides the rounding. */
AF_INLINE double af_sum_over(const af_sum *sum, int64_t count) {
    double error, product_error;
    const double high = af_two_sum(sum->high, sum->low, &error), divisor = (double)count, quotient = high / divisor;
    if (AF_LIKELY(af_usual(high) && af_usual(quotient) && count < (int64_t)1 << 53)) {
        const double product = af_two_product(quotient, divisor, &product_error);
        const double rest = (((high - product) - product_error) + error) / divisor;
        const double most = quotient + rest * (1.0 + 0x1p-49), least = quotient + rest * (1.0 - 0x1p-49);
        if (AF_LIKELY(least == most)) return most;
    }
    return af_sum_over_far(sum, count);
}

/* -- sums of products --------------------------------------------------------------------------------------------------- */

/* Adds a product that the pairs do not take; false: no memory. */
AF_NOINLINE bool af_products_add_far(af_products *sum, double x, double y, uint64_t *held) {
    if (!isfinite(x) || !isfinite(y)) return true;
    if (!af_sum_fix(&sum->high, 4, held)) return false;
    af_fixed *number = af_sum_fixed(sum->high, sum->low);
    const bool done = af_fixed_add_product(&number, x, y, held);
    af_sum_put_fixed(&sum->high, &sum->low, number);
    return done;
}

/* Adds x * y, where `usual` says that both are; false: no memory. */
AF_INLINE bool af_products_add(af_products *sum, double x, double y, bool usual, uint64_t *held) {
    double error, rest, error_rest, product_error;
    const double product = af_two_product(x, y, &product_error);
    const double high = af_two_sum(sum->high, product, &error), low = af_two_sum(sum->low, error, &rest);
    const double error_high = af_two_sum(sum->error_high, product_error, &error), error_low = af_two_sum(sum->error_low, error, &error_rest);
    if (AF_UNLIKELY(!usual || !(rest == 0.0) || !(error_rest == 0.0))) return af_products_add_far(sum, x, y, held);
    *sum = (af_products){high, low, error_high, error_low};
    return true;
}

/* The products of some rows with their errors, and behind them room for 8 more. */
typedef struct {
    const double *x, *y;
    bool usual; /* all of them */
    double products[AF_PRODUCTS_ROOM], errors[AF_PRODUCTS_ROOM];
} af_product_rows;

static void af_products_of_rows(af_product_rows *rows, const double *x, const double *y, bool usual, uint32_t count) {
    rows->x = x;
    rows->y = y;
    rows->usual = usual;
    for (uint32_t i = 0; i < count; i++) rows->products[i] = af_two_product(x[i], y[i], &rows->errors[i]);
}

AF_INLINE bool af_products_add_row(af_products *sum, const af_product_rows *rows, uint32_t k, uint64_t *held) {
    const double x = rows->x[k], y = rows->y[k];
    return af_products_add(sum, x, y, af_usual(x) && af_usual(y), held);
}

/* Adds rows k and k + 1 each to a sum, which may be one; false: no memory. */
AF_INLINE bool af_products_add_both(af_products *one, af_products *other, const af_product_rows *rows, uint32_t k, uint64_t *held) {
    af_two_floats first, second, first_error, second_error, products, errors;
    memcpy(&first, &one->high, sizeof first);
    memcpy(&second, &other->high, sizeof second);
    memcpy(&first_error, &one->error_high, sizeof first_error);
    memcpy(&second_error, &other->error_high, sizeof second_error);
    memcpy(&products, &rows->products[k], sizeof products);
    memcpy(&errors, &rows->errors[k], sizeof errors);
    af_two_sums sums = {{first[0], second[0]}, {first[1], second[1]}};
    af_two_sums of_errors = {{first_error[0], second_error[0]}, {first_error[1], second_error[1]}};
    const af_two_words left = af_two_sums_add(&sums, products) | af_two_sums_add(&of_errors, errors);
    if (AF_UNLIKELY((left[0] | left[1]) || one == other || !rows->usual))
        return af_products_add_row(one, rows, k, held) && af_products_add_row(other, rows, k + 1, held);
    *one = (af_products){sums.high[0], sums.low[0], of_errors.high[0], of_errors.low[0]};
    *other = (af_products){sums.high[1], sums.low[1], of_errors.high[1], of_errors.low[1]};
    return true;
}

/* The sum of usual products; false: no pairs are the sum. */
static bool af_products_of_all(af_products *sum, af_product_rows *rows, uint32_t count) {
    af_sum product, error;
    const bool paired = af_sum_of_all(&product, rows->products, count) & af_sum_of_all(&error, rows->errors, count);
    *sum = (af_products){product.high, product.low, error.high, error.low};
    return paired && rows->usual;
}

/* into = into + from; false: no memory. */
static bool af_products_merge(af_products *into, const af_products *from, uint64_t *held) {
    const af_fixed *theirs = af_sum_fixed(from->high, from->low);
    if (theirs == NULL && af_sum_fixed(into->high, into->low) == NULL) {
        af_products sum = *into;
        const double values[4] = {from->high, from->low, from->error_high, from->error_low};
        double left = 0.0;
        for (int i = 0; i < 4; i++) {
            double error, rest;
            double *high = i < 2 ? &sum.high : &sum.error_high, *low = i < 2 ? &sum.low : &sum.error_low;
            *high = af_two_sum(*high, values[i], &error);
            *low = af_two_sum(*low, error, &rest);
            left += fabs(rest);
        }
        if (AF_LIKELY(left == 0.0)) {
            *into = sum;
            return true;
        }
    }
    if (!af_sum_fix(&into->high, 4, held)) return false;
    af_fixed *number = af_sum_fixed(into->high, into->low);
    bool done = true;
    if (theirs != NULL)
        done = af_fixed_merge(&number, theirs, held);
    else
        for (int i = 0; i < 4 && done; i++) done = af_fixed_add(&number, (&from->high)[i], held);
    af_sum_put_fixed(&into->high, &into->low, number);
    return done;
}

static void af_products_exact(af_exact *into, const af_products *sum) {
    const af_fixed *fixed = af_sum_fixed(sum->high, sum->low);
    if (fixed != NULL)
        af_exact_of_fixed(into, fixed);
    else
        af_exact_of_values(into, &sum->high, 4);
}

#endif
