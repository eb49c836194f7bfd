/* Quantiles by rank: the values themselves up to 4,096, then a sketch whose quantiles are within 1 % of the rank asked for.
 *
 * The sketch is a tower of levels (Manku, Rajagopalan, Lindsay, "Approximate medians and other quantiles in one pass and with limited
 * memory", SIGMOD 1998; as compactors: Karnin, Lang, Liberty, "Optimal quantile approximation in streams", FOCS 2016).  A value of level h
 * stands for 2^h values.  Level 0 takes the values as they come; full, it is put in order and halved: every second value goes to level 1,
 * the others are gone.  A higher level is kept in order and halved when it comes to 1,024 values.  Which of each two goes on is fixed: by
 * the bits of a hash of how often the level was halved before, and after each first choice the other one.
 *
 * Error.  Halving a level moves the rank of any value by 0 or by 2^h one way, the next halving by 0 or 2^h the other way.  So of n values
 * in one sketch a rank is off by at most n / 2048 for each level above the third and n / 1024 for those below: 1 % holds for 10^8 values
 * whatever their order.  Where sketches are merged the halvings of each may err the same way, twice that: 1 % holds for 10^6 values of any
 * tree of merges.  Those are bounds against chosen data; otherwise errors cancel, and 0.2 % is the most that was seen.
 *
 * What is kept depends on the order of values, and on nothing else: levels are sets, and
 * a merge puts levels together whole before it halves them, so left and right may change places.  Reading changes nothing but the order in
 * which level 0 lies.
 *
 * Words, which sort like the values; 8 bytes each, 56 for the rest, room for 8 to 128 values at first (sketches/pool.h); past 4,096 values
 * 32 KiB and 8 KiB at most for each time that the number doubles.  Cost: a store a value, 10 ns for putting it in order; with AVX-512 2 to 5. */
#ifndef ASYNCFLOW_SKETCH_RANKS_H
#define ASYNCFLOW_SKETCH_RANKS_H

#include <math.h>

#include "accumulators/saved.h"
#include "base/words.h"
#include "sketches/words_sort.h"

enum { AF_EXACT = 4096, AF_LEVEL_FULL = 1024, AF_MOST_LEVELS = 46 /* more than AF_MOST_ROWS values need */ };

typedef struct {
    int64_t *words; /* in order; fewer than AF_LEVEL_FULL */
    uint32_t length, capacity;
    uint64_t halved; /* how often */
} af_rank_level;

typedef struct {
    uint32_t length, capacity; /* of level 0 */
    int64_t count;             /* of values; it and those before it are in one line */
    int64_t least, greatest;   /* of those that went up from level 0 */
    af_rank_level *levels;     /* 1, 2, ... */
    uint64_t halved;           /* level 0: how often */
    uint16_t level_count;
    uint16_t wide;             /* AVX-512 is to be used */
    uint32_t sorted;           /* of level 0; so many, from the first on, are in order */
    int64_t words[];           /* level 0 */
} af_ranks;

AF_INLINE size_t af_ranks_bytes(const af_ranks *ranks) {
    size_t bytes = sizeof *ranks + ranks->capacity * sizeof(int64_t) + ranks->level_count * sizeof *ranks->levels;
    for (uint32_t i = 0; i < ranks->level_count; i++) bytes += ranks->levels[i].capacity * sizeof(int64_t);
    return bytes;
}

static void af_ranks_drop(af_ranks *ranks, af_pool *pool) {
    if (ranks == NULL) return;
    const size_t bytes = sizeof *ranks + ranks->capacity * sizeof(int64_t);
    pool->held -= af_ranks_bytes(ranks);
    for (uint32_t i = 0; i < ranks->level_count; i++) free(ranks->levels[i].words);
    free(ranks->levels);
    af_pool_note(pool, ranks->count < AF_MOST_FIRST_ROOM ? (uint32_t)ranks->count : AF_MOST_FIRST_ROOM);
    af_pool_give(pool, ranks, bytes);
}

/* Room for so many values in level 0. */
static bool af_ranks_reserve(af_ranks **place, uint32_t wanted, af_pool *pool) {
    af_ranks *ranks = *place;
    const uint32_t before = ranks != NULL ? ranks->capacity : 0;
    if (AF_LIKELY(wanted <= before)) return true;
    uint32_t capacity = before ? before : af_pool_room(pool);
    while (capacity < wanted) capacity *= 2;
    const size_t held = ranks != NULL ? sizeof *ranks + before * sizeof(int64_t) : 0;
    af_ranks *grown = af_pool_resize(pool, ranks, held, sizeof *ranks + capacity * sizeof(int64_t));
    if (grown == NULL) return false;
    if (ranks == NULL) {
        *grown = (af_ranks){.least = INT64_MAX, .greatest = INT64_MIN, .wide = pool->wide};
        pool->held += sizeof *grown;
    }
    pool->held += (capacity - before) * sizeof(int64_t);
    grown->capacity = capacity;
    *place = grown;
    return true;
}

/* -- levels --------------------------------------------------------------------------------------------------------- */

/* Puts words in order among others in order, which have room for them; how many they are then. */
static uint32_t af_run_merge(int64_t *run, uint32_t length, const int64_t *words, uint32_t count) {
    uint32_t left = length, right = count, at = length + count;
    while (left && right) {
        const int64_t mine = run[left - 1], theirs = words[right - 1];
        const bool greater = mine > theirs;
        run[--at] = greater ? mine : theirs;
        left -= greater;
        right -= !greater;
    }
    if (right) memcpy(run, words, right * sizeof *run);
    return length + count;
}

/* Which of each two words goes on: the first (0) or the second. */
AF_INLINE uint32_t af_halving_takes(uint32_t level, uint64_t halved) {
    return (uint32_t)((af_finish(halved >> 1 << 6 | level) ^ halved) & 1);
}

static bool af_level_reserve(af_rank_level *level, uint32_t wanted, af_pool *pool) {
    if (wanted <= level->capacity) return true;
    uint32_t capacity = level->capacity ? level->capacity : 64;
    while (capacity < wanted) capacity *= 2;
    int64_t *words = realloc(level->words, capacity * sizeof *words);
    if (words == NULL) return false;
    pool->held += (capacity - level->capacity) * sizeof *words;
    level->words = words;
    level->capacity = capacity;
    return true;
}

/* At least so many levels above level 0. */
static bool af_levels_reserve(af_ranks *ranks, uint32_t count, af_pool *pool) {
    if (count <= ranks->level_count) return true;
    af_rank_level *levels = realloc(ranks->levels, count * sizeof *levels);
    if (levels == NULL) return false;
    memset(levels + ranks->level_count, 0, (count - ranks->level_count) * sizeof *levels);
    pool->held += (count - ranks->level_count) * sizeof *levels;
    ranks->levels = levels;
    ranks->level_count = (uint16_t)count;
    return true;
}

/* Puts a run in order, which may be overwritten, into level 1, and what levels are too many for into the next ones.  `from`: its levels are
 * put in, too.  The run's memory has room for those of a level of either besides.  False: no memory. */
static bool af_ranks_rise(af_ranks *ranks, int64_t *run, uint32_t length, const af_ranks *from, af_pool *pool) {
    const uint32_t beside = from != NULL ? from->level_count : 0;
    for (uint32_t i = 0; length || i < beside; i++) {
        if (!af_levels_reserve(ranks, i + 1, pool)) return false;
        af_rank_level *level = &ranks->levels[i];
        if (i < beside) length = af_run_merge(run, length, from->levels[i].words, from->levels[i].length);
        if (level->length + length < AF_LEVEL_FULL) {
            if (!af_level_reserve(level, level->length + length, pool)) return false;
            level->length = af_run_merge(level->words, level->length, run, length);
            length = 0;
            continue;
        }
        length = af_run_merge(run, length, level->words, level->length);
        level->length = length & 1; /* the greatest waits where there is one too many */
        if (level->length) {
            if (!af_level_reserve(level, 1, pool)) return false;
            level->words[0] = run[length - 1];
        }
        const uint32_t second = af_halving_takes(i + 1, level->halved++);
        length /= 2;
        for (uint32_t j = 0; j < length; j++) run[j] = run[2 * j + second];
    }
    return true;
}

/* -- level 0 -------------------------------------------------------------------------------------------------------- */

/* Takes every second word of a run in order, which is all of level 0; how many they are. */
static uint32_t af_ranks_halve(af_ranks *ranks, int64_t *run, uint32_t length) {
    if (run[0] < ranks->least) ranks->least = run[0];
    if (run[length - 1] > ranks->greatest) ranks->greatest = run[length - 1];
    ranks->sorted = ranks->length = length & 1;
    if (ranks->length) ranks->words[0] = run[length - 1];
    const uint32_t second = af_halving_takes(0, ranks->halved++);
    for (uint32_t i = 0; i < length / 2; i++) run[i] = run[2 * i + second];
    return length / 2;
}

AF_NOINLINE bool af_ranks_full(af_ranks *ranks, af_pool *pool) {
    int64_t *run = malloc(AF_EXACT * sizeof *run);
    if (run == NULL) return false;
    memcpy(run, ranks->words, AF_EXACT * sizeof *run);
    af_words_sort(run, AF_EXACT, ranks->wide);
    const bool done = af_ranks_rise(ranks, run, af_ranks_halve(ranks, run, AF_EXACT), NULL, pool);
    free(run);
    return done;
}

/* false: no memory. */
AF_INLINE bool af_ranks_add(af_ranks **place, int64_t word, af_pool *pool) {
    uint32_t length = *place != NULL ? (*place)->length : 0;
    if (AF_UNLIKELY(*place == NULL || length == (*place)->capacity)) {
        if (length == AF_EXACT) {
            if (!af_ranks_full(*place, pool)) return false;
            length = 0;
        } else if (!af_ranks_reserve(place, length + 1, pool)) {
            return false;
        }
    }
    (*place)->words[length] = word;
    (*place)->length = length + 1;
    (*place)->count++;
    return true;
}

static bool af_ranks_copy(af_ranks **into, const af_ranks *from, af_pool *pool) {
    if (!af_ranks_reserve(into, from->length ? from->length : 1, pool)) return false;
    af_ranks *ranks = *into;
    const uint32_t capacity = ranks->capacity;
    memcpy(ranks, from, sizeof *from + from->length * sizeof *from->words);
    ranks->capacity = capacity;
    ranks->levels = NULL;
    ranks->level_count = 0;
    if (!af_levels_reserve(ranks, from->level_count, pool)) return false;
    for (uint32_t i = 0; i < from->level_count; i++) {
        af_rank_level *level = &ranks->levels[i];
        if (!af_level_reserve(level, from->levels[i].length, pool)) return false;
        if (from->levels[i].length) memcpy(level->words, from->levels[i].words, from->levels[i].length * sizeof *level->words);
        level->length = from->levels[i].length;
        level->halved = from->levels[i].halved;
    }
    return true;
}

static bool af_ranks_merge(af_ranks **into, const af_ranks *from, af_pool *pool) {
    if (*into == NULL) return af_ranks_copy(into, from, pool);
    const uint32_t length = (*into)->length + from->length;
    if (length <= AF_EXACT) {
        if (!af_ranks_reserve(into, length, pool)) return false;
        memcpy((*into)->words + (*into)->length, from->words, from->length * sizeof *from->words);
    }
    af_ranks *ranks = *into;
    ranks->count += from->count;
    if (length <= AF_EXACT && from->level_count == 0) {
        ranks->length = length;
        return true;
    }
    int64_t *run = malloc(2 * AF_EXACT * sizeof *run);
    if (run == NULL || !af_levels_reserve(ranks, from->level_count, pool)) {
        free(run);
        return false;
    }
    if (from->least < ranks->least) ranks->least = from->least;
    if (from->greatest > ranks->greatest) ranks->greatest = from->greatest;
    ranks->halved += from->halved;
    for (uint32_t i = 0; i < from->level_count; i++) ranks->levels[i].halved += from->levels[i].halved;
    uint32_t rising = 0;
    if (length > AF_EXACT) {
        memcpy(run, ranks->words, ranks->length * sizeof *run);
        memcpy(run + ranks->length, from->words, from->length * sizeof *run);
        af_words_sort(run, length, ranks->wide);
        rising = af_ranks_halve(ranks, run, length);
    } else {
        ranks->length = length;
    }
    const bool done = af_ranks_rise(ranks, run, rising, from, pool);
    free(run);
    return done;
}

/* -- results -------------------------------------------------------------------------------------------------------- */

/* How many values the words up to this one stand for; level 0 is in order. */
static int64_t af_ranks_upto(const af_ranks *ranks, int64_t word) {
    int64_t count = 0;
    for (uint32_t i = 0; i <= ranks->level_count; i++) {
        const int64_t *words = i ? ranks->levels[i - 1].words : ranks->words;
        uint32_t low = 0, length = i ? ranks->levels[i - 1].length : ranks->length;
        while (length > 0) {
            const uint32_t half = length / 2;
            const bool upto = words[low + half] <= word;
            low += upto ? length - half : 0;
            length = half;
        }
        count += (int64_t)low << i;
    }
    return count;
}

/* The word at a rank (from 0), or one near it. */
static int64_t af_ranks_at(af_ranks *ranks, int64_t rank) {
    if (ranks->sorted < ranks->length) {
        af_words_sort(ranks->words, ranks->length, ranks->wide);
        ranks->sorted = ranks->length;
    }
    if (ranks->level_count == 0) return ranks->words[rank];
    int64_t least = ranks->least, greatest = ranks->greatest;
    if (ranks->length && ranks->words[0] < least) least = ranks->words[0];
    if (ranks->length && ranks->words[ranks->length - 1] > greatest) greatest = ranks->words[ranks->length - 1];
    if (rank == 0) return least;
    if (rank == ranks->count - 1) return greatest;
    while (least < greatest) { /* the least word up to which there are more than `rank` */
        const int64_t middle = least + (int64_t)(((uint64_t)greatest - (uint64_t)least) >> 1);
        if (af_ranks_upto(ranks, middle) > rank)
            greatest = middle;
        else
            least = middle + 1;
    }
    return least;
}

/* The value at a share `q` of the way from the least to the greatest, between two values by a straight line. */
static double af_ranks_between(af_ranks *ranks, bool is_float, double q) {
    const double place = (double)(ranks->count - 1) * q, rank = floor(place), part = place - rank;
    const int64_t low = af_ranks_at(ranks, (int64_t)rank), high = part == 0.0 ? low : af_ranks_at(ranks, (int64_t)rank + 1);
    return is_float ? af_between(af_float_of(low), af_float_of(high), part) : af_between((double)low, (double)high, part);
}

/* The word at that share of the values. */
static int64_t af_ranks_of_share(af_ranks *ranks, double q) {
    const double count = (double)ranks->count;
    const int64_t place = ranks->count - (int64_t)floor(count - count * q);
    return af_ranks_at(ranks, place > 1 ? place - 1 : 0);
}

/* -- saved ------------------------------------------------------------------------------------------------------------ */

/* How many values, how many levels above level 0, and of those that went up the least and the greatest word; then of each level from 0 on its
 * length and how often it was halved; then the words of each level, in order. */
static void af_ranks_save(af_saving *saving, const af_ranks *ranks) {
    int64_t words[AF_EXACT];
    const int64_t head[] = {ranks->count, ranks->level_count, ranks->least, ranks->greatest, ranks->length, (int64_t)ranks->halved};
    af_block_bytes(saving, head, sizeof head);
    for (uint32_t i = 0; i < ranks->level_count; i++) {
        af_block_word(saving, ranks->levels[i].length);
        af_block_word(saving, (int64_t)ranks->levels[i].halved);
    }
    memcpy(words, ranks->words, ranks->length * sizeof *words);
    af_words_sort(words, ranks->length, ranks->wide);
    af_block_bytes(saving, words, ranks->length * sizeof *words);
    for (uint32_t i = 0; i < ranks->level_count; i++) af_block_bytes(saving, ranks->levels[i].words, ranks->levels[i].length * sizeof *words);
}

/* Words in ascending order into a level. */
static bool af_view_words(af_view *view, int64_t *words, uint32_t count) {
    if (!af_view_bytes(view, words, count * sizeof *words)) return false;
    for (uint32_t i = 1; i < count; i++)
        if (words[i] < words[i - 1]) return false;
    return true;
}

static int af_ranks_load(af_loading *loading, const af_op *op, af_view *view, af_ranks **place) {
    af_pool *pool = &loading->store->sketches;
    int64_t count, levels, least, greatest, length, halved;
    if (!af_view_word(view, &count) || !af_view_word(view, &levels) || !af_view_word(view, &least) || !af_view_word(view, &greatest) ||
        !af_view_word(view, &length) || !af_view_word(view, &halved))
        return AF_UNFIT;
    if (count < 1 || levels < 0 || levels > AF_MOST_LEVELS || length < 0 || length > AF_EXACT) return AF_UNFIT;
    if (levels ? least > greatest : least != INT64_MAX || greatest != INT64_MIN || halved != 0) return AF_UNFIT;
    if (!af_ranks_reserve(place, length ? (uint32_t)length : 1, pool) || !af_levels_reserve(*place, (uint32_t)levels, pool)) return AF_NO_MEMORY;
    af_ranks *ranks = *place;
    ranks->count = count;
    ranks->least = least;
    ranks->greatest = greatest;
    ranks->halved = (uint64_t)halved;
    int64_t weight = length;
    for (uint32_t i = 0; i < ranks->level_count; i++) {
        int64_t of_level;
        if (!af_view_word(view, &of_level) || !af_view_word(view, &halved) || of_level < 0 || of_level >= AF_LEVEL_FULL) return AF_UNFIT;
        ranks->levels[i].halved = (uint64_t)halved;
        if (!af_level_reserve(&ranks->levels[i], (uint32_t)of_level, pool)) return AF_NO_MEMORY;
        ranks->levels[i].length = (uint32_t)of_level;
        weight += of_level << (i + 1);
    }
    if (weight != count || !af_view_words(view, ranks->words, (uint32_t)length)) return AF_UNFIT;
    ranks->length = ranks->sorted = (uint32_t)length;
    for (uint32_t i = 0; i < ranks->level_count; i++)
        if (!af_view_words(view, ranks->levels[i].words, ranks->levels[i].length)) return AF_UNFIT;
    return AF_FITS;
}

#endif
