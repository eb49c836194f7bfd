/* Cells to result columns: what a window's accumulators come to, as words, texts and lists. */
#ifndef ASYNCFLOW_WINDOW_RESULTS_H
#define ASYNCFLOW_WINDOW_RESULTS_H

#include "window/update.h"

enum { AF_AHEAD = 128 };

typedef enum {
    AF_ROWS_ALL, AF_COUNT, AF_SUM, AF_MEAN, AF_LEAST, AF_GREATEST, AF_VARIANCE, AF_DEVIATION, AF_COVARIANCE, AF_CORRELATION, AF_PICKED,
    AF_DISTINCT_COUNT, AF_ABOUT_DISTINCT, AF_QUANTILE, AF_QUANTILE_VALUE, AF_ABOUT_QUANTILE, AF_MOST_FREQUENT
} af_result_kind;

/* An item of a list: a value (a word, or its text's length) and its count. */
typedef struct {
    int64_t word, count;
} af_item;

/* One result column: words (int64, float64 bits, 0 or 1, a text's length or a list's) and whether each is a value. */
typedef struct {
    int result, op, kind; /* af_result_kind, position of the accumulator (-1: none), af_value_kind of the result (of a list: of its values) */
    double parameter;     /* VARIANCE, DEVIATION: what is taken from n; the QUANTILEs: which; MOST_FREQUENT: how many */
    int64_t *words;
    uint8_t *valid;
    uint8_t *text;
    uint64_t text_bytes, text_capacity;
    int64_t nulls;
    af_item *items; /* of lists, one list after another */
    uint64_t item_count, item_capacity;
} af_output;

typedef struct {
    int64_t *starts, *ends;
    int32_t *groups;
    int64_t count, capacity, overflows;
    af_output *outputs;
    int output_count;
    int32_t *ranks; /* of groups, worked out when first needed */
    uint64_t *present;
    int64_t ranks_capacity, present_capacity;
} af_result;

AF_INLINE int64_t af_bits(double value) {
    int64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

/* One cell's result: false where it is null.  `result` (an output's) and `kind` (of the accumulator's input) are constants where it is
 * inlined for one of them. */
AF_INLINE bool af_result_of(int result, int kind, double parameter, const af_op *op, uint8_t *cell, int64_t *word, int64_t *overflows) {
    int64_t rows = *af_i64(cell, 0);
    const int at = op != NULL ? op->offset : 0;
    const double *m = af_f64(cell, at);
    switch (result) {
    case AF_ROWS_ALL: *word = rows; return true;
    case AF_COUNT: *word = rows - *af_i64(cell, at); return true;
    case AF_DISTINCT_COUNT: *word = *af_i64(cell, at); return true;
    case AF_SUM:
    case AF_MEAN: {
        int64_t n = rows - *af_i64(cell, at);
        if (n == 0) return false;
        if (kind == AF_FLOAT64) {
            double high = m[1], total = isfinite(high) ? high + m[2] : high;
            *word = af_bits(result == AF_MEAN ? total / (double)n : total);
            return true;
        }
        int64_t low = *af_i64(cell, at + 8), high = *af_i64(cell, at + 16);
        if (result == AF_MEAN) {
            af_wide total = (af_wide)((unsigned __int128)(uint64_t)high << 64 | (uint64_t)low);
            *word = af_bits((double)total / (double)n);
            return true;
        }
        *word = low;
        if (high == low >> 63) return true;
        ++*overflows;
        return false;
    }
    case AF_LEAST:
    case AF_GREATEST: {
        if (rows == *af_i64(cell, at)) return false;
        *word = *af_i64(cell, at + 8 + (op->sum ? 16 : 0) + (result == AF_GREATEST ? 8 : 0));
        if (kind == AF_FLOAT64) *word = af_bits(af_float_of(*word));
        return true;
    }
    case AF_VARIANCE:
    case AF_DEVIATION: {
        if (m[0] <= parameter) return false;
        double variance = m[2] / (m[0] - parameter);
        *word = af_bits(result == AF_DEVIATION ? sqrt(variance) : variance);
        return true;
    }
    case AF_COVARIANCE:
        if (m[0] <= 1.0) return false;
        *word = af_bits(m[5] / (m[0] - 1.0));
        return true;
    case AF_CORRELATION: {
        if (m[0] < 1.0) return false;
        double scale = sqrt(m[3]) * sqrt(m[4]);
        *word = af_bits(scale != 0.0 ? m[5] / scale : NAN);
        return true;
    }
    case AF_ABOUT_DISTINCT: *word = af_distinct_result((const af_distinct *)(intptr_t)*af_i64(cell, at)); return true;
    case AF_QUANTILE:
        if (*af_i64(cell, at) == 0) return false;
        *word = af_bits(af_ranks_between((af_ranks *)(intptr_t)*af_i64(cell, at), kind == AF_FLOAT64, parameter));
        return true;
    case AF_QUANTILE_VALUE:
        if (*af_i64(cell, at) == 0) return false;
        *word = af_ranks_of_share((af_ranks *)(intptr_t)*af_i64(cell, at), parameter);
        if (kind == AF_FLOAT64) *word = af_bits(af_float_of(*word));
        return true;
    case AF_ABOUT_QUANTILE:
        if (*af_i64(cell, at) == 0) return false;
        *word = af_bits(af_quantile_result((af_quantile *)(intptr_t)*af_i64(cell, at), parameter));
        return true;
    case AF_MOST_FREQUENT: *word = *af_i64(cell, at); return *word != 0; /* where the sketch is */
    default:
        if (*af_i64(cell, at) < 0) return false;
        *word = *af_i64(cell, at + (op->valued ? 16 : 8));
        return true;
    }
}

static bool af_output_text(af_output *output, const uint8_t *bytes, uint32_t length) {
    if (output->text_bytes + length > output->text_capacity) {
        uint64_t capacity = output->text_capacity ? output->text_capacity * 2 : 1024;
        while (capacity < output->text_bytes + length) capacity *= 2;
        uint8_t *grown = realloc(output->text, capacity);
        if (grown == NULL) return false;
        output->text = grown;
        output->text_capacity = capacity;
    }
    if (length) memcpy(output->text + output->text_bytes, bytes, length);
    output->text_bytes += length;
    return true;
}

/* The most frequent values of a sketch as a list. */
static bool af_output_list(af_output *output, int64_t row, const af_top *top) {
    uint32_t count = 0;
    af_ranked *ranked = af_top_result(top, (uint32_t)output->parameter, &count);
    bool done = ranked != NULL;
    if (done && output->item_count + count > output->item_capacity) {
        uint64_t capacity = output->item_capacity ? output->item_capacity * 2 : 64;
        while (capacity < output->item_count + count) capacity *= 2;
        af_item *grown = realloc(output->items, capacity * sizeof *grown);
        done = grown != NULL;
        if (done) {
            output->items = grown;
            output->item_capacity = capacity;
        }
    }
    for (uint32_t i = 0; done && i < count; i++) {
        const af_counter *counter = ranked[i].counter;
        int64_t word = (int64_t)counter->word;
        if (output->kind == AF_FLOAT64) word = af_bits(af_float_of(word));
        if (output->kind == AF_STRING) {
            word = counter->length;
            done = af_output_text(output, counter->text, counter->length);
        }
        output->items[output->item_count++] = (af_item){word, counter->count};
    }
    output->words[row] = count;
    free(ranked);
    return done;
}

static bool af_result_reserve(af_result *result, int64_t rows) {
    if (rows <= result->capacity) return true;
    size_t wanted = result->capacity ? (size_t)result->capacity : 64;
    while (wanted < (size_t)rows) wanted *= 2;
#define AF_GROW(field)                                                      \
    do {                                                                    \
        void *grown = realloc(field, wanted * sizeof *field);               \
        if (grown == NULL) return false;                                    \
        field = grown;                                                      \
    } while (0)
    AF_GROW(result->starts);
    AF_GROW(result->ends);
    AF_GROW(result->groups);
    for (int i = 0; i < result->output_count; i++) {
        AF_GROW(result->outputs[i].words);
        AF_GROW(result->outputs[i].valid);
    }
#undef AF_GROW
    result->capacity = (int64_t)wanted;
    return true;
}

/* A column of words; `result` and `kind` are constants where it is inlined for one of them. */
AF_INLINE void af_write_words(af_output *output, int result, int kind, const af_op *op, uint8_t *const *cells, int64_t row, int64_t size,
                              int64_t *overflows) {
    int64_t *words = output->words + row, nulls = 0;
    uint8_t *valid = output->valid + row;
    for (int64_t i = 0; i < size; i++) {
        int64_t word = 0;
        const bool has = af_result_of(result, kind, output->parameter, op, cells[i], &word, overflows);
        words[i] = has ? word : 0;
        valid[i] = has;
        nulls += !has;
    }
    output->nulls += nulls;
}

#define AF_WORDS_CASE(RESULT, KIND)                                                         \
    if (output->result == RESULT && kind == KIND) {                                         \
        af_write_words(output, RESULT, KIND, op, cells, row, size, overflows);              \
        return true;                                                                        \
    }

/* Fills rows `row` .. `row + size - 1` of a column; false: no memory. */
static bool af_write_column(const af_store *store, af_output *output, uint8_t *const *cells, int64_t row, int64_t size, int64_t *overflows) {
    const af_op *op = output->op >= 0 ? &store->ops[output->op] : NULL;
    const int kind = op != NULL ? op->input_kind : AF_INT64;
    AF_WORDS_CASE(AF_ROWS_ALL, AF_INT64)
    AF_WORDS_CASE(AF_SUM, AF_FLOAT64)
    AF_WORDS_CASE(AF_MEAN, AF_FLOAT64)
    AF_WORDS_CASE(AF_LEAST, AF_FLOAT64)
    AF_WORDS_CASE(AF_GREATEST, AF_FLOAT64)
    AF_WORDS_CASE(AF_SUM, AF_INT64)
    AF_WORDS_CASE(AF_LEAST, AF_INT64)
    AF_WORDS_CASE(AF_GREATEST, AF_INT64)
    af_write_words(output, output->result, kind, op, cells, row, size, overflows);
    if (output->result != AF_MOST_FREQUENT && output->kind != AF_STRING) return true;
    for (int64_t i = row; i < row + size; i++) { /* words are addresses so far */
        if (!output->valid[i]) continue;
        if (output->result == AF_MOST_FREQUENT) {
            if (!af_output_list(output, i, (const af_top *)(intptr_t)output->words[i])) return false;
            continue;
        }
        const af_text *text = (const af_text *)(intptr_t)output->words[i];
        if (!af_output_text(output, text->bytes, text->length)) return false;
        output->words[i] = text->length;
    }
    return true;
}

/* Appends the results of these cells; there is room for them. */
static bool af_write_cells(const af_store *store, af_result *result, uint8_t *const *cells, int64_t size) {
    for (int j = 0; j < result->output_count; j++)
        if (!af_write_column(store, &result->outputs[j], cells, result->count, size, &result->overflows)) return false;
    result->count += size;
    return true;
}

/* Bytes of its texts; of lists, six times those of their texts (as JSON they may be escaped) and 40 an item. */
AF_INLINE int64_t af_result_texts(const af_result *result) {
    uint64_t total = 0;
    for (int i = 0; i < result->output_count; i++) {
        const af_output *output = &result->outputs[i];
        total += output->result == AF_MOST_FREQUENT ? 6 * output->text_bytes + 40 * output->item_count : output->text_bytes;
    }
    return total > INT64_MAX ? INT64_MAX : (int64_t)total;
}

/* How many of these cells can be written until their texts come to `room` bytes; of a list that is known once it is written. */
static int64_t af_cells_within(const af_store *store, const af_result *result, uint8_t *const *cells, int64_t size, int64_t room) {
    bool texts = false;
    for (int j = 0; j < result->output_count; j++) {
        if (result->outputs[j].result == AF_MOST_FREQUENT) return 1;
        texts |= result->outputs[j].kind == AF_STRING;
    }
    for (int64_t i = 0; texts && i < size; i++)
        for (int j = 0; j < result->output_count; j++) {
            const af_output *output = &result->outputs[j];
            if (output->kind != AF_STRING) continue;
            const af_op *op = &store->ops[output->op];
            const int64_t *slot = af_i64(cells[i], op->offset);
            if (slot[0] >= 0) room -= ((const af_text *)(intptr_t)slot[op->valued ? 2 : 1])->length;
            if (room <= 0) return i + 1;
        }
    return size;
}

/* Appends the results of these cells up to one with which they come to `max_bytes`; gives how many, -1: no memory. */
static int64_t af_write_within(const af_store *store, af_result *result, uint8_t *const *cells, int64_t size, int64_t max_bytes) {
    int64_t done = 0;
    while (done < size && (done == 0 || af_result_texts(result) < max_bytes)) {
        const int64_t part = af_cells_within(store, result, cells + done, size - done, max_bytes - af_result_texts(result));
        if (!af_write_cells(store, result, cells + done, part)) return -1;
        done += part;
    }
    return done;
}

static void af_result_clear(af_result *result) {
    result->count = result->overflows = 0;
    for (int i = 0; i < result->output_count; i++) result->outputs[i].nulls = 0, result->outputs[i].text_bytes = result->outputs[i].item_count = 0;
}

#endif
