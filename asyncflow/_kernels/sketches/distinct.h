/* How many different values, about: hashes while there are few, then an UltraLogLog.
 *
 * Up to 1,536 different hashes are kept as they are, in a table that grows from 8 slots to 2,048 (linear probing, at most three quarters
 * full); their number is the answer.  Beyond, 2^14 registers of a byte, 16 KiB.  A hash's first 14 bits choose a register; its rank there is
 * 1 + the number of zeros that follow (51 where nothing but zeros does).  HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007) keeps a
 * register's greatest rank; here two bits more say whether the two ranks below it came too (Ertl, "UltraLogLog", VLDB 2024):
 *
 *   register = greatest rank * 4 + (rank one below seen) * 2 + (rank two below seen); 0: nothing came
 *
 * That takes the standard error from 0.81 % to 0.6 % in the same room.  The estimate is the likeliest number if values came as a Poisson
 * stream of `rate` values to a register: rank k not seen has the probability exp(-rate / 2^k), so the likelihood's derivative is zero where
 *
 *   sum over seen ranks k of 2^-k / (exp(rate / 2^k) - 1) = sum over ranks known not to have come of 2^-k
 *
 * whose left side falls and is convex: Newton's method climbs to the root from a bound below it.  exp(x) - 1 comes by doubling x from where it
 * is x, so nothing hangs on a library's rounding.  What is kept depends on the set of values alone, not on their order or on merges.
 *
 * Hashes never change and can be inverted, so values may be chosen to fill registers as no random ones would: the estimate is kept between
 * the number of ranks seen, each of which takes a value, and the number of values.  The table's places go by a secret seed. */
#ifndef ASYNCFLOW_SKETCH_DISTINCT_H
#define ASYNCFLOW_SKETCH_DISTINCT_H

#include <math.h>

#include "accumulators/saved.h"
#include "base/words.h"
#include "sketches/words_sort.h"

enum { AF_REGISTER_BITS = 14, AF_REGISTERS = 1 << AF_REGISTER_BITS, AF_LAST_RANK = 64 - AF_REGISTER_BITS, AF_MAX_SLOTS = 2048, AF_MAX_HASHES = AF_MAX_SLOTS / 4 * 3 };

typedef struct {
    int64_t values;        /* how many came */
    uint32_t slots, count; /* of the table of hashes, where 0 is free; slots 0: registers */
    uint64_t words[];
} af_distinct;

static uint64_t af_distinct_seed; /* to be set once, before the first value */

AF_INLINE size_t af_distinct_bytes(const af_distinct *distinct) {
    return sizeof *distinct + (distinct->slots ? distinct->slots * sizeof(uint64_t) : AF_REGISTERS);
}

AF_INLINE void af_distinct_drop(af_distinct *distinct, af_pool *pool) {
    if (distinct == NULL) return;
    const size_t bytes = af_distinct_bytes(distinct);
    pool->held -= bytes;
    af_pool_give(pool, distinct, bytes);
}

/* The register after this rank came too. */
AF_INLINE uint8_t af_register_with(uint8_t reg, uint32_t rank) {
    const uint32_t top = reg >> 2;
    if (rank > top) {
        const uint32_t seen = (reg ? 4u : 0u) | (reg & 3u), up = rank - top;
        return (uint8_t)(rank << 2 | (up > 2 ? 0 : seen >> up));
    }
    return top - rank <= 2 && rank < top ? (uint8_t)(reg | 4u >> (top - rank)) : reg;
}

AF_INLINE uint8_t af_register_merge(uint8_t one, uint8_t other) {
    if (one < other) {
        const uint8_t swapped = one;
        one = other;
        other = swapped;
    }
    const uint32_t below = (one >> 2) - (other >> 2), seen = (other ? 4u : 0u) | (other & 3u);
    return (uint8_t)(one | (below > 2 ? 0 : (seen >> below & 3u)));
}

AF_INLINE void af_registers_add(uint8_t *registers, uint64_t hash) {
    const uint64_t rest = hash << AF_REGISTER_BITS;
    uint8_t *reg = &registers[hash >> AF_LAST_RANK];
    *reg = af_register_with(*reg, rest ? (uint32_t)__builtin_clzll(rest) + 1 : AF_LAST_RANK + 1);
}

/* Where a hash is in a table, or would be. */
AF_INLINE uint32_t af_hash_place(const uint64_t *slots, uint32_t count, uint64_t hash) {
    uint32_t at = (uint32_t)af_keyed_word(af_distinct_seed, hash) & (count - 1);
    while (slots[at] != 0 && slots[at] != hash) at = (at + 1) & (count - 1);
    return at;
}

/* Puts a hash into a table with room: 1 where it is new. */
AF_INLINE uint32_t af_slots_add(uint64_t *slots, uint32_t count, uint64_t hash) {
    const uint32_t at = af_hash_place(slots, count, hash);
    const uint32_t added = slots[at] == 0;
    slots[at] = hash;
    return added;
}

/* The same values with room for so many slots; 0: in registers. */
static bool af_distinct_resize(af_distinct **place, uint32_t slots, af_pool *pool) {
    const size_t bytes = sizeof(af_distinct) + (slots ? slots * sizeof(uint64_t) : AF_REGISTERS);
    af_distinct *old = *place, *grown = af_pool_take(pool, bytes);
    if (grown == NULL) return false;
    memset(grown, 0, bytes);
    grown->slots = slots;
    grown->values = old != NULL ? old->values : 0;
    for (uint32_t i = 0; old != NULL && i < old->slots; i++) {
        if (old->words[i] == 0) continue;
        if (slots)
            grown->count += af_slots_add(grown->words, slots, old->words[i]);
        else
            af_registers_add((uint8_t *)grown->words, old->words[i]);
    }
    pool->held += af_distinct_bytes(grown);
    af_distinct_drop(old, pool);
    *place = grown;
    return true;
}

/* Takes a hash, without counting a value; false: no memory. */
static bool af_distinct_put(af_distinct **place, uint64_t hash, af_pool *pool) {
    af_distinct *distinct = *place;
    if (distinct->slots) {
        if ((distinct->count + 1) * 4 <= distinct->slots * 3) {
            distinct->count += af_slots_add(distinct->words, distinct->slots, hash);
            return true;
        }
        if (distinct->words[af_hash_place(distinct->words, distinct->slots, hash)] == hash) return true;
        if (!af_distinct_resize(place, distinct->slots < AF_MAX_SLOTS ? distinct->slots * 2 : 0, pool)) return false;
        return af_distinct_put(place, hash, pool);
    }
    af_registers_add((uint8_t *)distinct->words, hash);
    return true;
}

/* false: no memory. */
AF_INLINE bool af_distinct_add(af_distinct **place, uint64_t hash, af_pool *pool) {
    if (*place == NULL && !af_distinct_resize(place, 8, pool)) return false;
    (*place)->values++;
    return af_distinct_put(place, hash + (hash == 0), pool);
}

static bool af_distinct_merge(af_distinct **into, const af_distinct *from, af_pool *pool) {
    if (*into == NULL) { /* a copy */
        if ((*into = af_pool_take(pool, af_distinct_bytes(from))) == NULL) return false;
        memcpy(*into, from, af_distinct_bytes(from));
        pool->held += af_distinct_bytes(from);
        return true;
    }
    (*into)->values += from->values;
    if (from->slots) {
        for (uint32_t i = 0; i < from->slots; i++)
            if (from->words[i] != 0 && !af_distinct_put(into, from->words[i], pool)) return false;
        return true;
    }
    if ((*into)->slots && !af_distinct_resize(into, 0, pool)) return false;
    uint8_t *registers = (uint8_t *)(*into)->words;
    const uint8_t *others = (const uint8_t *)from->words;
    for (uint32_t i = 0; i < AF_REGISTERS; i++) registers[i] = af_register_merge(registers[i], others[i]);
    return true;
}

static int64_t af_distinct_result(const af_distinct *distinct) {
    if (distinct == NULL) return 0;
    if (distinct->slots) return distinct->count;
    const uint8_t *registers = (const uint8_t *)distinct->words;
    int64_t kinds[256] = {0}, seen[AF_LAST_RANK + 1] = {0}; /* registers of each value; seen ranks, the last two in one */
    for (uint32_t i = 0; i < AF_REGISTERS; i++) kinds[registers[i]]++;
    double missing = (double)kinds[0], total = 0.0, weighted = 0.0;
    for (int value = 4; value < 4 * (AF_LAST_RANK + 2); value++) {
        const int top = value >> 2;
        if (kinds[value] == 0) continue;
        if (top <= AF_LAST_RANK) missing += ldexp((double)kinds[value], -top);
        seen[top < AF_LAST_RANK ? top : AF_LAST_RANK] += kinds[value];
        for (int below = 1; below <= 2 && below < top; below++) {
            if (value & 4 >> below)
                seen[top - below] += kinds[value];
            else
                missing += ldexp((double)kinds[value], below - top);
        }
    }
    for (int rank = 1; rank <= AF_LAST_RANK; rank++) {
        total += (double)seen[rank];
        weighted += ldexp((double)seen[rank], -rank);
    }
    double rate = total / (missing + 0.5 * weighted);
    for (int round = 0; round < 64; round++) {
        double left = 0.0, slope = 0.0, minus_one = ldexp(rate, -90), weight = ldexp(1.0, -89);
        for (int rank = 89; rank > 0 && minus_one < 1e16; rank--, weight *= 2.0) {
            minus_one *= 2.0 + minus_one;
            if (rank > AF_LAST_RANK || seen[rank] == 0) continue;
            const double share = (double)seen[rank] * weight / minus_one;
            left += share;
            slope += share * weight * ((1.0 + minus_one) / minus_one);
        }
        const double step = (left - missing) / slope;
        if (!(step > rate * 1e-12)) break;
        rate += step;
    }
    const double estimate = rate * AF_REGISTERS, greatest = (double)distinct->values;
    return !(estimate < greatest) ? distinct->values : estimate < total ? (int64_t)total : llrint(estimate);
}

/* -- saved ------------------------------------------------------------------------------------------------------------ */

/* How many values came, how many hashes there are (0: registers), and those in the order of signed words, or the registers. */
static void af_distinct_save(af_saving *saving, const af_distinct *distinct) {
    int64_t hashes[AF_MAX_HASHES];
    uint32_t count = 0;
    af_block_word(saving, distinct->values);
    af_block_word(saving, distinct->slots ? distinct->count : 0);
    if (distinct->slots == 0) {
        af_block_bytes(saving, distinct->words, AF_REGISTERS);
        return;
    }
    for (uint32_t i = 0; i < distinct->slots; i++)
        if (distinct->words[i] != 0) hashes[count++] = (int64_t)distinct->words[i];
    af_words_sort(hashes, count, false);
    af_block_bytes(saving, hashes, count * sizeof *hashes);
}

/* Whether a register can have come about: its greatest rank, and none below the first among the two before it. */
AF_INLINE bool af_register_fits(uint8_t reg) {
    const int top = reg >> 2;
    return reg == 0 || (top >= 1 && top <= AF_LAST_RANK + 1 && (top > 1 || (reg & 3) == 0) && (top > 2 || (reg & 1) == 0));
}

static int af_distinct_load(af_loading *loading, const af_op *op, af_view *view, af_distinct **place) {
    af_pool *pool = &loading->store->sketches;
    int64_t values, count, hash = 0;
    if (!af_view_word(view, &values) || !af_view_word(view, &count)) return AF_UNFIT;
    if (values < 1 || values > AF_MOST_ROWS || count < 0 || count > AF_MAX_HASHES || count > values) return AF_UNFIT;
    if (!af_distinct_resize(place, count ? 8 : 0, pool)) return AF_NO_MEMORY;
    (*place)->values = values;
    if (count == 0) {
        uint8_t *registers = (uint8_t *)(*place)->words;
        bool fits = values > AF_MAX_HASHES && af_view_bytes(view, registers, AF_REGISTERS);
        for (uint32_t i = 0; i < AF_REGISTERS; i++) fits &= af_register_fits(registers[i]);
        return fits ? AF_FITS : AF_UNFIT;
    }
    for (int64_t i = 0, before = 0; i < count; i++, before = hash) {
        if (!af_view_word(view, &hash) || hash == 0 || (i > 0 && hash <= before)) return AF_UNFIT;
        if (!af_distinct_put(place, (uint64_t)hash, pool)) return AF_NO_MEMORY;
    }
    return AF_FITS;
}

#endif
