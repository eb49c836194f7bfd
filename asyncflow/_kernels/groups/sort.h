/* Ids in the order of their keys.
 *
 * (word, id) pairs are sorted by word: insertion for few, else least-significant-digit radix with the digits that are the same everywhere
 * left out.  Strings go by eight bytes at a time, big-endian, each run of equal words by the next eight; short or deep runs by memcmp.
 * Equal words keep their order. */
#ifndef ASYNCFLOW_GROUPS_SORT_H
#define ASYNCFLOW_GROUPS_SORT_H

#include "groups/words.h"

typedef struct {
    uint64_t word;
    int32_t id;
} af_ranked_key;

enum { AF_FEW = 32, AF_DEEP_BYTES = 256 };

/* Sorts items by word; `spare` has room for as many. */
static void af_sort_ranked(af_ranked_key *items, af_ranked_key *spare, int64_t count) {
    if (count <= AF_FEW) {
        for (int64_t i = 1; i < count; i++) {
            af_ranked_key item = items[i];
            int64_t at = i;
            for (; at > 0 && items[at - 1].word > item.word; at--) items[at] = items[at - 1];
            items[at] = item;
        }
        return;
    }
    uint64_t any = 0, all = ~0ull;
    for (int64_t i = 0; i < count; i++) {
        any |= items[i].word;
        all &= items[i].word;
    }
    af_ranked_key *from = items, *to = spare;
    for (int shift = 0; shift < 64; shift += 8) {
        if (((any ^ all) >> shift & 0xFF) == 0) continue;
        int64_t ends[256] = {0};
        for (int64_t i = 0; i < count; i++) ends[from[i].word >> shift & 0xFF]++;
        int64_t total = 0;
        for (int digit = 0; digit < 256; digit++) {
            int64_t here = ends[digit];
            ends[digit] = total;
            total += here;
        }
        for (int64_t i = 0; i < count; i++) to[ends[from[i].word >> shift & 0xFF]++] = from[i];
        af_ranked_key *swap = from;
        from = to;
        to = swap;
    }
    if (from != items) memcpy(items, from, (size_t)count * sizeof *items);
}

static int af_compare_texts(const af_strings *table, int32_t left, int32_t right) {
    uint64_t n = af_text_length(table, left), m = af_text_length(table, right), common = n < m ? n : m;
    int order = common ? memcmp(table->text + table->offsets[left], table->text + table->offsets[right], common) : 0;
    return order ? order : (n > m) - (n < m);
}

static void af_merge_sort_texts(const af_strings *table, af_ranked_key *items, af_ranked_key *spare, int64_t count) {
    if (count <= 8) {
        for (int64_t i = 1; i < count; i++) {
            af_ranked_key item = items[i];
            int64_t at = i;
            for (; at > 0 && af_compare_texts(table, items[at - 1].id, item.id) > 0; at--) items[at] = items[at - 1];
            items[at] = item;
        }
        return;
    }
    int64_t half = count / 2, left = 0, right = half, out = 0;
    af_merge_sort_texts(table, items, spare, half);
    af_merge_sort_texts(table, items + half, spare, count - half);
    memcpy(spare, items, (size_t)half * sizeof *items);
    while (left < half && right < count)
        items[out++] = af_compare_texts(table, spare[left].id, items[right].id) <= 0 ? spare[left++] : items[right++];
    memcpy(items + out, spare + left, (size_t)(half - left) * sizeof *items);
}

/* Eight bytes of a text from `depth` on, the first the most significant, 0 beyond its end. */
static inline uint64_t af_text_word(const af_strings *table, int32_t id, uint64_t depth) {
    const uint64_t length = af_text_length(table, id);
    return length > depth ? af_leading_word(table->text + table->offsets[id] + depth, (int64_t)(length - depth)) : 0;
}

/* Sorts items whose texts are the same up to `depth`. */
static void af_sort_texts(const af_strings *table, af_ranked_key *items, af_ranked_key *spare, int64_t count, uint64_t depth) {
    if (count <= 8 || depth >= AF_DEEP_BYTES) {
        af_merge_sort_texts(table, items, spare, count);
        return;
    }
    for (int64_t i = 0; i < count; i++) items[i].word = af_text_word(table, items[i].id, depth);
    af_sort_ranked(items, spare, count);
    for (int64_t begin = 0, end; begin < count; begin = end) {
        for (end = begin + 1; end < count && items[end].word == items[begin].word; end++) {}
        if (end - begin > 1) af_sort_texts(table, items + begin, spare, end - begin, depth + 8);
    }
}

/* Puts the ids [sorted, size) in their places among order[0 .. sorted), which is in order; null last.  false: no memory. */
static bool af_order_strings(const af_strings *table, int32_t *order, int32_t sorted) {
    int64_t added = table->size - sorted, count = 0;
    af_ranked_key *items = malloc((size_t)(added * 2 + 1) * sizeof *items);
    int32_t *old = malloc((size_t)sorted * 4 + 4);
    bool done = items != NULL && old != NULL;
    if (done) {
        for (int32_t id = sorted; id < table->size; id++)
            if (id != table->null_id) items[count++] = (af_ranked_key){0, id};
        af_sort_texts(table, items, items + added, count, 0);
        int64_t kept = 0, at = 0, out = 0;
        for (int32_t i = 0; i < sorted; i++)
            if (order[i] != table->null_id) old[kept++] = order[i];
        for (int64_t i = 0; i < count; i++) { /* gallop, then halve, to the first old one that is greater */
            int64_t low = at, step = 1;
            while (low + step <= kept && af_compare_texts(table, old[low + step - 1], items[i].id) < 0) {
                low += step;
                step *= 2;
            }
            int64_t high = low + step - 1 < kept ? low + step - 1 : kept;
            while (low < high) {
                int64_t middle = (low + high) / 2;
                if (af_compare_texts(table, old[middle], items[i].id) < 0)
                    low = middle + 1;
                else
                    high = middle;
            }
            memcpy(order + out, old + at, (size_t)(low - at) * 4);
            out += low - at;
            at = low;
            order[out++] = items[i].id;
        }
        memcpy(order + out, old + at, (size_t)(kept - at) * 4);
        out += kept - at;
        if (table->null_id >= 0) order[out] = table->null_id;
    }
    free(items);
    free(old);
    return done;
}

/* A pattern as a word that sorts as the value does. */
AF_INLINE uint64_t af_sortable(uint64_t word, af_key_kind kind) {
    if (kind == AF_KEY_BOOL) return word;
    if (kind == AF_KEY_FLOAT64 && word >> 63) return ~word;
    return word ^ 0x8000000000000000ull;
}

static bool af_order_words(const af_words *table, af_key_kind kind, int32_t *order) {
    af_ranked_key *items = malloc((size_t)(table->size * 2 + 1) * sizeof *items);
    if (items == NULL) return false;
    int64_t count = 0;
    for (int32_t id = 0; id < table->size; id++)
        if (id != table->null_id) items[count++] = (af_ranked_key){af_sortable(table->words[id], kind), id};
    af_sort_ranked(items, items + table->size, count);
    for (int64_t i = 0; i < count; i++) order[i] = items[i].id;
    if (table->null_id >= 0) order[count] = table->null_id;
    free(items);
    return true;
}

/* Pairs go by the rank of their first part, then of their second. */
static bool af_order_pairs(const af_words *table, const int32_t *first_ranks, const int32_t *second_ranks, int32_t *order) {
    af_ranked_key *items = malloc((size_t)(table->size * 2 + 1) * sizeof *items);
    if (items == NULL) return false;
    for (int32_t id = 0; id < table->size; id++) {
        uint64_t word = table->words[id];
        items[id] = (af_ranked_key){(uint64_t)first_ranks[word >> 32] << 32 | (uint32_t)second_ranks[(uint32_t)word], id};
    }
    af_sort_ranked(items, items + table->size, table->size);
    for (int32_t i = 0; i < table->size; i++) order[i] = items[i].id;
    free(items);
    return true;
}

#endif
