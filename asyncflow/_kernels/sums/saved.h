/* Exact sums saved and loaded: equal sums are equal bytes, whatever order their values came in.
 *
 * A sum is two words: the sum rounded, and the rest where that is a float64.  Where it is none both are 0, and the sum is a block: which limb
 * its first one is, then its limbs, without zeros below or more signs than one above.  A sum of products is such a block, none where it is 0.
 * The blocks of an accumulator are told apart by their kinds, in the order of the sums. */
#ifndef ASYNCFLOW_SUMS_SAVED_H
#define ASYNCFLOW_SUMS_SAVED_H

#include "accumulators/saved.h"
#include "sums/sums.h"

static void af_fixed_save(af_saving *saving, int kind, const af_exact *exact) {
    af_fixed_room room;
    uint64_t carry = 0;
    if (exact->count == 0) return;
    for (int32_t i = 0; i < exact->count; i++)
        room.words[i] = exact->negative ? af_limb_subtract(0, exact->limbs[i], &carry) : exact->limbs[i];
    const bool sign = room.words[exact->count - 1] >> 63;
    int32_t count = exact->count;
    room.words[count] = exact->negative ? UINT64_MAX : 0;
    if (sign != exact->negative) count++;
    while (count > 1 && room.words[count - 1] == (exact->negative ? UINT64_MAX : 0) && room.words[count - 2] >> 63 == exact->negative) count--;
    af_block_begin(saving, kind);
    af_block_word(saving, exact->first + AF_FIXED_POINT);
    af_block_bytes(saving, room.words, (uint64_t)count * sizeof(uint64_t));
    af_block_end(saving);
}

/* A block's number, without more room than for its sign: AF_FITS, AF_UNFIT or AF_NO_MEMORY; `fixed` stays NULL where there is no block. */
static int af_fixed_load(af_loading *loading, int kind, af_fixed **fixed) {
    af_view view;
    int64_t first;
    if (!af_block_take(loading, kind, &view)) return AF_FITS;
    if (!af_view_word(&view, &first) || view.left == 0 || view.left % sizeof(uint64_t)) return AF_UNFIT;
    const uint64_t count = view.left / sizeof(uint64_t);
    if (first < 0 || first >= AF_FIXED_SAVED || count > (uint64_t)(AF_FIXED_SAVED - first)) return AF_UNFIT;
    af_fixed *made = malloc(sizeof *made + (count + 1) * sizeof(uint64_t));
    if (made == NULL) return AF_NO_MEMORY;
    af_view_bytes(&view, made->limbs, count * sizeof(uint64_t));
    made->first = (int32_t)first;
    made->count = (int32_t)count;
    const uint64_t sign = af_fixed_sign(made);
    if (made->limbs[0] == 0 || (count > 1 && made->limbs[count - 1] == sign && made->limbs[count - 2] >> 63 == (sign & 1))) {
        free(made);
        return AF_UNFIT;
    }
    made->limbs[made->count++] = sign;
    loading->store->sum_bytes += af_fixed_bytes(made);
    *fixed = made;
    return AF_FITS;
}

static void af_sum_save(af_saving *saving, int kind, const af_sum *sum) {
    double error;
    af_exact exact;
    const double high = af_two_sum(sum->high, sum->low, &error);
    if (!af_sum_finite(sum) || isfinite(high)) {
        af_save_double(saving, isfinite(high) ? high + 0.0 : sum->high); /* 0.0 where it is -0.0 */
        af_save_double(saving, isfinite(high) ? error + 0.0 : 0.0);
        return;
    }
    af_sum rounded;
    af_sum_exact(&exact, sum);
    const bool paired = af_exact_pair(&exact, &rounded.high, &rounded.low);
    af_save_double(saving, paired ? rounded.high : 0.0);
    af_save_double(saving, paired ? rounded.low : 0.0);
    if (!paired) af_fixed_save(saving, kind, &exact);
}

static int af_sum_load(af_loading *loading, int kind, af_sum *sum) {
    af_fixed *fixed = NULL;
    double error;
    const double high = af_load_double(loading), low = af_load_double(loading), total = af_two_sum(high, low, &error);
    if (isfinite(high) ? af_bits(total + 0.0) != af_bits(high) || af_bits(error + 0.0) != af_bits(low) : af_one_nan(high) != af_bits(high) || af_bits(low) != 0)
        return AF_UNFIT;
    *sum = (af_sum){high, low};
    const int done = af_fixed_load(loading, kind, &fixed);
    if (done != AF_FITS || fixed == NULL) return done;
    af_exact exact;
    af_exact_of_fixed(&exact, fixed);
    const bool paired = af_exact_pair(&exact, &sum->high, &sum->low);
    af_sum_put_fixed(&sum->high, &sum->low, fixed);
    return paired || af_bits(high) != 0 || af_bits(low) != 0 ? AF_UNFIT : AF_FITS;
}

static void af_products_save(af_saving *saving, int kind, const af_products *sum) {
    af_exact exact;
    af_products_exact(&exact, sum);
    af_fixed_save(saving, kind, &exact);
}

static int af_products_load(af_loading *loading, int kind, af_products *sum) {
    af_fixed *fixed = NULL;
    const int done = af_fixed_load(loading, kind, &fixed);
    if (fixed != NULL) af_sum_put_fixed(&sum->high, &sum->low, fixed);
    return done;
}

#endif
