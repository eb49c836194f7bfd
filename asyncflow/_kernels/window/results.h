/* Cells to result columns: what a window's accumulators come to, as words, texts and lists. */
#ifndef ASYNCFLOW_WINDOW_RESULTS_H
#define ASYNCFLOW_WINDOW_RESULTS_H

#include "window/update.h"

enum { AF_CELLS_AHEAD = 128 };

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
        if (output->kind == AF_KIND_FLOAT64) word = af_bits(af_float_of(word));
        if (output->kind == AF_KIND_STRING) {
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
    const int kind = op != NULL ? op->input_kind : AF_KIND_INT64;
    AF_WORDS_CASE(AF_ROWS_ALL, AF_KIND_INT64)
    AF_WORDS_CASE(AF_SUM, AF_KIND_FLOAT64)
    AF_WORDS_CASE(AF_MEAN, AF_KIND_FLOAT64)
    AF_WORDS_CASE(AF_LEAST, AF_KIND_FLOAT64)
    AF_WORDS_CASE(AF_GREATEST, AF_KIND_FLOAT64)
    AF_WORDS_CASE(AF_SUM, AF_KIND_INT64)
    AF_WORDS_CASE(AF_LEAST, AF_KIND_INT64)
    AF_WORDS_CASE(AF_GREATEST, AF_KIND_INT64)
    af_write_words(output, output->result, kind, op, cells, row, size, overflows);
    if (output->result != AF_MOST_FREQUENT && output->kind != AF_KIND_STRING) return true;
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
        texts |= result->outputs[j].kind == AF_KIND_STRING;
    }
    for (int64_t i = 0; texts && i < size; i++)
        for (int j = 0; j < result->output_count; j++) {
            const af_output *output = &result->outputs[j];
            if (output->kind != AF_KIND_STRING) continue;
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
