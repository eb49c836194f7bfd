/* The most frequent values: counters by value while they suffice, then Space-Saving.
 *
 * At most m counters (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams", ICDT 2005).  A value
 * that has none when there are m takes over the one with the least count, the oldest of those, and counts on from there: counts are never
 * too low, nor too high by more than rows / m.  Merging (Agarwal, Cormode, Huang, Phillips, Wei, Yi, "Mergeable summaries", PODS 2012): counts are
 * added, a value that a full summary does not hold counts as that summary's least count there, and the m greatest stay (the older first
 * among equals); the bound holds for the sum.  Age goes by when a value got its counter; in a merge those of the left summary are older.
 *
 * Counters in an array, found by a hash table of their positions (linear probing, at most half full, shifted back where one goes); once
 * a counter was taken over also in a heap by (count, age).  O(1) a row while there are counters, then O(log m). */
#ifndef ASYNCFLOW_SKETCH_TOP_H
#define ASYNCFLOW_SKETCH_TOP_H

#include "accumulators/saved.h"
#include "base/words.h"

typedef struct {
    int64_t count, age;
    uint64_t hash, word; /* the value: a word that sorts like it, or a text */
    uint8_t *text;
    uint32_t length, at; /* at: in the heap */
} af_counter;

typedef struct {
    uint32_t length, capacity, most;
    int32_t *table; /* of 2 * capacity slots: -1, or a position */
    uint32_t *heap; /* NULL before a counter was taken over (or values were left out of a merge) */
    int64_t ages;
    af_counter *counters;
} af_top;

/* A value as it comes: text NULL: a word. */
typedef struct {
    uint64_t hash, word;
    const uint8_t *text;
    uint32_t length;
} af_top_value;

AF_INLINE af_top_value af_top_text(uint64_t seed, const uint8_t *text, uint32_t length) {
    return (af_top_value){af_keyed_text(seed, text, length), 0, text, length};
}

AF_INLINE af_top_value af_top_word(uint64_t seed, uint64_t word) { return (af_top_value){af_keyed_word(seed, word), word, NULL, 0}; }

AF_INLINE uint64_t af_top_bytes(const af_top *top) {
    return sizeof *top + top->capacity * (sizeof(af_counter) + 2 * sizeof *top->table) + (top->heap ? top->most * sizeof *top->heap : 0);
}

static void af_top_drop(af_top *top, af_pool *pool) {
    if (top == NULL) return;
    for (uint32_t i = 0; i < top->length; i++) {
        if (top->counters[i].text != NULL) pool->held -= top->counters[i].length;
        free(top->counters[i].text);
    }
    pool->held -= af_top_bytes(top);
    free(top->table);
    free(top->heap);
    free(top->counters);
    af_pool_give(pool, top, sizeof *top);
}

AF_INLINE bool af_counts(const af_counter *counter, const af_top_value *value) {
    if (counter->hash != value->hash) return false;
    if (value->text == NULL) return counter->word == value->word;
    return counter->length == value->length && (value->length == 0 || memcmp(counter->text, value->text, value->length) == 0);
}

/* The table's slot of a value: its own, or the free one where it would be. */
AF_INLINE uint32_t af_top_slot(const af_top *top, const af_top_value *value) {
    const uint32_t mask = 2 * top->capacity - 1;
    uint32_t slot = (uint32_t)value->hash & mask;
    while (top->table[slot] >= 0 && !af_counts(&top->counters[top->table[slot]], value)) slot = (slot + 1) & mask;
    return slot;
}

static bool af_top_grow(af_top *top, af_pool *pool) {
    const uint32_t capacity = top->capacity * 2;
    af_counter *counters = realloc(top->counters, capacity * sizeof *counters);
    if (counters == NULL) return false;
    top->counters = counters;
    int32_t *table = malloc(2 * capacity * sizeof *table);
    if (table == NULL) return false;
    pool->held -= af_top_bytes(top);
    free(top->table);
    top->table = table;
    top->capacity = capacity;
    pool->held += af_top_bytes(top);
    memset(table, 0xff, 2 * capacity * sizeof *table);
    for (uint32_t i = 0; i < top->length; i++) {
        uint32_t slot = (uint32_t)counters[i].hash & (2 * capacity - 1);
        while (table[slot] >= 0) slot = (slot + 1) & (2 * capacity - 1);
        table[slot] = (int32_t)i;
    }
    return true;
}

static af_top *af_top_new(uint32_t most, af_pool *pool) {
    af_top *top = af_pool_take(pool, sizeof *top);
    if (top == NULL) return NULL;
    memset(top, 0, sizeof *top);
    top->most = most;
    top->capacity = 4;
    pool->held += af_top_bytes(top);
    if (af_top_grow(top, pool)) return top;
    af_top_drop(top, pool);
    return NULL;
}

/* Gives the value a counter at `position`, which is free or the next one. */
static bool af_top_put(af_top *top, uint32_t position, const af_top_value *value, int64_t count, af_pool *pool) {
    uint8_t *text = NULL;
    if (value->text != NULL) {
        if ((text = malloc(value->length ? value->length : 1)) == NULL) return false;
        if (value->length) memcpy(text, value->text, value->length);
        pool->held += value->length;
    }
    top->table[af_top_slot(top, value)] = (int32_t)position;
    af_counter *counter = &top->counters[position];
    *counter = (af_counter){count, top->ages++, value->hash, value->word, text, value->length, counter->at};
    return true;
}

static bool af_top_append(af_top *top, const af_top_value *value, int64_t count, af_pool *pool) {
    if (top->length == top->capacity && !af_top_grow(top, pool)) return false;
    top->counters[top->length].at = 0;
    if (!af_top_put(top, top->length, value, count, pool)) return false;
    top->length++;
    return true;
}

/* Takes a counter's value away; what was put past its slot moves back. */
static void af_top_take(af_top *top, uint32_t position, af_pool *pool) {
    const uint32_t mask = 2 * top->capacity - 1;
    af_counter *counter = &top->counters[position];
    uint32_t hole = (uint32_t)counter->hash & mask;
    while (top->table[hole] != (int32_t)position) hole = (hole + 1) & mask;
    for (uint32_t next = (hole + 1) & mask; top->table[next] >= 0; next = (next + 1) & mask) {
        const uint32_t home = (uint32_t)top->counters[top->table[next]].hash & mask;
        if (((next - home) & mask) < ((next - hole) & mask)) continue;
        top->table[hole] = top->table[next];
        hole = next;
    }
    top->table[hole] = -1;
    if (counter->text != NULL) pool->held -= counter->length;
    free(counter->text);
    counter->text = NULL;
}

AF_INLINE bool af_counter_before(const af_counter *one, const af_counter *other) {
    return one->count < other->count || (one->count == other->count && one->age < other->age);
}

static void af_top_sift(af_top *top, uint32_t at) {
    const uint32_t moved = top->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= top->length) break;
        if (child + 1 < top->length && af_counter_before(&top->counters[top->heap[child + 1]], &top->counters[top->heap[child]])) child++;
        if (!af_counter_before(&top->counters[top->heap[child]], &top->counters[moved])) break;
        top->heap[at] = top->heap[child];
        top->counters[top->heap[at]].at = at;
        at = child;
    }
    top->heap[at] = moved;
    top->counters[moved].at = at;
}

/* From now on the summary is no longer exact. */
static bool af_top_heap(af_top *top, af_pool *pool) {
    top->heap = malloc(top->most * sizeof *top->heap);
    if (top->heap == NULL) return false;
    pool->held += top->most * sizeof *top->heap;
    for (uint32_t i = 0; i < top->length; i++) {
        top->heap[i] = i;
        top->counters[i].at = i;
    }
    for (uint32_t i = top->length / 2; i-- > 0;) af_top_sift(top, i);
    return true;
}

/* false: no memory. */
static bool af_top_add(af_top **place, uint32_t most, const af_top_value *value, af_pool *pool) {
    if (*place == NULL && (*place = af_top_new(most, pool)) == NULL) return false;
    af_top *top = *place;
    const int32_t found = top->table[af_top_slot(top, value)];
    if (found >= 0) {
        top->counters[found].count++;
        if (top->heap != NULL) af_top_sift(top, top->counters[found].at);
        return true;
    }
    if (top->length < top->most) return af_top_append(top, value, 1, pool);
    if (top->heap == NULL && !af_top_heap(top, pool)) return false;
    const uint32_t least = top->heap[0];
    const int64_t count = top->counters[least].count + 1;
    af_top_take(top, least, pool);
    if (!af_top_put(top, least, value, count, pool)) return false;
    af_top_sift(top, 0);
    return true;
}

typedef struct {
    const af_counter *counter;
    int64_t count, age;
} af_ranked;

static int af_compare_ages(const void *left, const void *right) {
    const int64_t a = ((const af_ranked *)left)->age, b = ((const af_ranked *)right)->age;
    return (a > b) - (a < b);
}

static int af_compare_counts(const void *left, const void *right) {
    const af_ranked *a = left, *b = right;
    return a->count != b->count ? (a->count < b->count) - (a->count > b->count) : af_compare_ages(left, right);
}

AF_INLINE af_top_value af_value_of(const af_counter *counter) {
    return (af_top_value){counter->hash, counter->word, counter->text, counter->length};
}

/* What a value that the summary does not hold may have counted. */
AF_INLINE int64_t af_top_floor(const af_top *top) { return top != NULL && top->heap != NULL ? top->counters[top->heap[0]].count : 0; }

/* The counters of `top` into `ranked`, with what they count in `other` added; with `new_only` those that `other` does not hold. */
static uint32_t af_top_rank(const af_top *top, const af_top *other, bool new_only, int64_t ages, af_ranked *ranked) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < top->length; i++) {
        const af_counter *counter = &top->counters[i];
        const af_top_value value = af_value_of(counter);
        const int32_t found = other != NULL ? other->table[af_top_slot(other, &value)] : -1;
        if (new_only && found >= 0) continue;
        const int64_t more = found >= 0 ? other->counters[found].count : af_top_floor(other);
        ranked[count++] = (af_ranked){counter, counter->count + more, ages + counter->age};
    }
    return count;
}

static bool af_top_merge(af_top **into, const af_top *from, af_pool *pool) {
    const af_top *old = *into;
    af_ranked *ranked = malloc(((size_t)from->length + (old != NULL ? old->length : 0)) * sizeof *ranked);
    af_top *merged = af_top_new(from->most, pool);
    bool done = ranked != NULL && merged != NULL, exact = from->heap == NULL && (old == NULL || old->heap == NULL);
    uint32_t count = 0;
    if (done) {
        if (old != NULL) count = af_top_rank(old, from, false, 0, ranked);
        count += af_top_rank(from, old, true, old != NULL ? old->ages : 0, ranked + count);
        if (count > from->most) {
            qsort(ranked, count, sizeof *ranked, af_compare_counts);
            count = from->most;
            exact = false;
        }
        qsort(ranked, count, sizeof *ranked, af_compare_ages);
    }
    for (uint32_t i = 0; done && i < count; i++) {
        const af_top_value value = af_value_of(ranked[i].counter);
        done = af_top_append(merged, &value, ranked[i].count, pool);
    }
    free(ranked);
    if (done && !exact) done = af_top_heap(merged, pool);
    if (!done) {
        af_top_drop(merged, pool);
        return false;
    }
    af_top_drop(*into, pool);
    *into = merged;
    return true;
}

/* By count, the greatest first, then by value. */
static int af_compare_tops(const void *left, const void *right) {
    const af_counter *a = ((const af_ranked *)left)->counter, *b = ((const af_ranked *)right)->counter;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    if (a->text != NULL) return af_text_compare(a->text, a->length, b->text, b->length);
    return ((int64_t)a->word > (int64_t)b->word) - ((int64_t)a->word < (int64_t)b->word);
}

/* The counters in the order of the result, `*count` of them, at most `most`; to be freed.  NULL: no memory. */
static af_ranked *af_top_result(const af_top *top, uint32_t most, uint32_t *count) {
    af_ranked *ranked = malloc(top->length * sizeof *ranked);
    if (ranked == NULL) return NULL;
    *count = af_top_rank(top, NULL, false, 0, ranked);
    qsort(ranked, *count, sizeof *ranked, af_compare_tops);
    if (*count > most) *count = most;
    return ranked;
}

/* -- saved ------------------------------------------------------------------------------------------------------------ */

/* Whether it is exact, how many counters, and each one's count and value, the oldest first: a word, or a text with its length before it. */
static void af_top_save(af_saving *saving, const af_top *top) {
    af_ranked *ranked = malloc((top->length + 1) * sizeof *ranked);
    if (ranked == NULL) {
        saving->failed = true;
        return;
    }
    const uint32_t count = af_top_rank(top, NULL, false, 0, ranked);
    qsort(ranked, count, sizeof *ranked, af_compare_ages);
    af_block_word(saving, top->heap == NULL);
    af_block_word(saving, count);
    for (uint32_t i = 0; i < count; i++) {
        const af_counter *counter = ranked[i].counter;
        af_block_word(saving, counter->count);
        if (counter->text == NULL) {
            af_block_word(saving, (int64_t)counter->word);
        } else {
            af_block_bytes(saving, &counter->length, sizeof counter->length);
            af_block_bytes(saving, counter->text, counter->length);
        }
    }
    free(ranked);
}

static int af_top_load(af_loading *loading, const af_op *op, af_view *view, af_top **place) {
    af_pool *pool = &loading->store->sketches;
    const uint64_t seed = loading->store->seed;
    int64_t exact, length, count;
    if (!af_view_word(view, &exact) || !af_view_word(view, &length)) return AF_UNFIT;
    if ((exact != 0 && exact != 1) || length < 1 || length > op->counters || (!exact && length != op->counters)) return AF_UNFIT;
    if ((*place = af_top_new((uint32_t)op->counters, pool)) == NULL) return AF_NO_MEMORY;
    for (int64_t i = 0; i < length; i++) {
        af_top_value value;
        if (!af_view_word(view, &count) || count < 1 || count > AF_MOST_ROWS) return AF_UNFIT;
        if (op->input_kind == AF_KIND_STRING) {
            const uint8_t *text;
            uint32_t size;
            if (!af_view_text(view, &text, &size)) return AF_UNFIT;
            value = af_top_text(seed, text, size);
        } else {
            int64_t word;
            if (!af_view_word(view, &word)) return AF_UNFIT;
            value = af_top_word(seed, (uint64_t)word);
        }
        if ((*place)->table[af_top_slot(*place, &value)] >= 0) return AF_UNFIT; /* a value twice */
        if (!af_top_append(*place, &value, count, pool)) return AF_NO_MEMORY;
    }
    return exact || af_top_heap(*place, pool) ? AF_FITS : AF_NO_MEMORY;
}

#endif
