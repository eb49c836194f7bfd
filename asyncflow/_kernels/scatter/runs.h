/* Sorted runs into one order: a tournament of the runs' heads, a pass from a leaf to the root for each row.
 *
 * A head has, of each column, a word that sorts as the value does: of fixed values the value itself, of texts the first eight bytes.  Values
 * are compared only where words are equal and do not decide: texts, and nulls (whose word is the greatest). */
#ifndef ASYNCFLOW_SCATTER_RUNS_H
#define ASYNCFLOW_SCATTER_RUNS_H

#include "base/words.h"

typedef enum { AF_RUN_INT64, AF_RUN_FLOAT64, AF_RUN_BOOL, AF_RUN_TEXT } af_run_kind;

typedef struct {
    const void *values; /* of texts: their bytes */
    const int32_t *starts, *lengths;
    const uint8_t *valid;
    int64_t data_bytes;
} af_run_column;

typedef struct {
    const af_run_column *columns;
    uint64_t *words; /* of the head */
    int64_t at, count;
    bool more;
} af_run;

static inline uint64_t af_run_word(const af_run_column *column, af_run_kind kind, int64_t row) {
    if (column->valid != NULL && !column->valid[row]) return UINT64_MAX;
    switch (kind) {
    case AF_RUN_INT64: return (uint64_t)((const int64_t *)column->values)[row] ^ 1ull << 63;
    case AF_RUN_BOOL: return ((const uint8_t *)column->values)[row];
    case AF_RUN_FLOAT64: {
        const double value = ((const double *)column->values)[row] + 0.0;
        int64_t bits;
        memcpy(&bits, &value, 8);
        if (value != value) bits = 0x7FFll << 52 | 1ll << 51;
        return (uint64_t)(bits ^ (bits >> 63 & INT64_MAX)) ^ 1ull << 63;
    }
    default: break;
    }
    const int32_t length = column->lengths[row];
    return af_leading_word(length ? (const uint8_t *)column->values + column->starts[row] : NULL, length);
}

/* Of equal words: below 0, 0 or above 0 as the value of `a` comes before that of `b`. */
static inline int af_run_compare(const af_run_column *a, int64_t row, const af_run_column *b, int64_t other, af_run_kind kind) {
    const bool null = a->valid != NULL && !a->valid[row], other_null = b->valid != NULL && !b->valid[other];
    if (null | other_null) return (int)null - (int)other_null;
    if (kind != AF_RUN_TEXT) return 0;
    const int32_t length = a->lengths[row], other_length = b->lengths[other], common = length < other_length ? length : other_length;
    const int told = common > 0 ? memcmp((const uint8_t *)a->values + a->starts[row], (const uint8_t *)b->values + b->starts[other], (size_t)common) : 0;
    return told ? told : (length > other_length) - (length < other_length);
}

static inline void af_run_head(af_run *run, const af_run_kind *kinds, int64_t columns) {
    for (int64_t c = 0; c < columns; c++) run->words[c] = af_run_word(&run->columns[c], kinds[c], run->at);
}

/* Which of two runs has the row that comes first; -1: none.  `a` is the earlier run. */
static inline int af_run_first(const af_run *runs, const af_run_kind *kinds, int64_t columns, int a, int b) {
    if (a < 0 || b < 0) return a < 0 ? b : a;
    const af_run *one = &runs[a], *other = &runs[b];
    for (int64_t c = 0; c < columns; c++) {
        if (one->words[c] != other->words[c]) return one->words[c] < other->words[c] ? a : b;
        if (kinds[c] != AF_RUN_TEXT && one->words[c] != UINT64_MAX) continue;
        const int told = af_run_compare(&one->columns[c], one->at, &other->columns[c], other->at, kinds[c]);
        if (told) return told < 0 ? a : b;
    }
    return a;
}

/* Fills `sources` with the run of each merged row, at most `most`; returns how many there are. */
static int64_t af_merge_runs(af_run *runs, int64_t count, const af_run_kind *kinds, int64_t columns, int64_t most, uint8_t *sources) {
    int tree[128];
    int64_t leaves = 1, done = 0;
    while (leaves < count) leaves *= 2;
    for (int64_t r = 0; r < leaves; r++) {
        tree[leaves + r] = r < count && runs[r].count ? (int)r : -1;
        if (r >= count) continue;
        if (runs[r].count) af_run_head(&runs[r], kinds, columns);
        else if (runs[r].more) return 0;
    }
    for (int64_t node = leaves - 1; node > 0; node--)
        tree[node] = af_run_first(runs, kinds, columns, tree[2 * node], tree[2 * node + 1]);
    while (done < most && tree[1] >= 0) {
        const int first = tree[1];
        af_run *run = &runs[first];
        sources[done++] = (uint8_t)first;
        if (++run->at < run->count) af_run_head(run, kinds, columns);
        else if (run->more) break;
        else tree[leaves + first] = -1;
        for (int64_t node = (leaves + first) / 2; node > 0; node /= 2)
            tree[node] = af_run_first(runs, kinds, columns, tree[2 * node], tree[2 * node + 1]);
    }
    return done;
}

/* Whether the columns, of these numbers of rows, have the rows that `sources` takes. */
static bool af_sources_fit(const uint8_t *sources, int64_t rows, const int64_t *counts, int64_t columns) {
    int64_t taken[256] = {0};
    for (int64_t i = 0; i < rows; i++) taken[sources[i]]++;
    for (int64_t s = 0; s < 256; s++)
        if (taken[s] > (s < columns ? counts[s] : 0)) return false;
    return true;
}

static void af_interleave(const uint8_t *sources, int64_t rows, const void *const *from, int width, void *to) {
    int64_t at[256] = {0};
    if (width == 8)
        for (int64_t i = 0; i < rows; i++) ((uint64_t *)to)[i] = ((const uint64_t *)from[sources[i]])[at[sources[i]]++];
    else
        for (int64_t i = 0; i < rows; i++) {
            const uint8_t *values = from[sources[i]];
            ((uint8_t *)to)[i] = values == NULL ? 1 : values[at[sources[i]]];
            at[sources[i]]++;
        }
}

/* Lengths of the texts, and the sum of these. */
static int64_t af_interleave_lengths(const uint8_t *sources, int64_t rows, const af_run_column *from, int32_t *lengths) {
    int64_t at[256] = {0}, sum = 0;
    for (int64_t i = 0; i < rows; i++) sum += lengths[i] = from[sources[i]].lengths[at[sources[i]]++];
    return sum;
}

static void af_interleave_texts(const uint8_t *sources, int64_t rows, const af_run_column *from, const int32_t *lengths, int32_t *starts,
                                uint8_t *data) {
    int64_t at[256] = {0};
    int32_t end = 0;
    for (int64_t i = 0; i < rows; i++) {
        const af_run_column *column = &from[sources[i]];
        const int32_t start = column->starts[at[sources[i]]++];
        starts[i] = end;
        if (lengths[i]) memcpy(data + end, (const uint8_t *)column->values + start, (size_t)lengths[i]);
        end += lengths[i];
    }
}

#endif
