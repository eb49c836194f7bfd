/* PICK: the value of one row: of the first or last one, or of that with the least or greatest key.
 *
 * Of equal keys the one that came first, or last, is kept.  A text key or a text value is a block of the cell; least and greatest texts
 * are keys without a value. */
#ifndef ASYNCFLOW_ACCUMULATORS_PICK_H
#define ASYNCFLOW_ACCUMULATORS_PICK_H

#include "accumulators/saved.h"

/* -- texts, each in a block of its own ---------------------------------------------------------------------------------- */

typedef struct {
    uint32_t capacity, length;
    uint8_t bytes[];
} af_text;

static bool af_text_set(af_store *store, int64_t *slot, const uint8_t *bytes, uint32_t length) {
    af_text *text = (af_text *)(intptr_t)*slot;
    if (text == NULL || text->capacity < length || text->capacity / 4 > length + 64) {
        uint32_t capacity = length < 16 ? 16 : length;
        if (text != NULL) store->text_bytes -= text->capacity;
        af_text *grown = realloc(text, sizeof(af_text) + capacity);
        if (grown == NULL) return false;
        text = grown;
        text->capacity = capacity;
        store->text_bytes += capacity;
        *slot = (int64_t)(intptr_t)text;
    }
    text->length = length;
    if (length) memcpy(text->bytes, bytes, length);
    return true;
}

static void af_text_drop(af_store *store, int64_t *slot) {
    af_text *text = (af_text *)(intptr_t)*slot;
    if (text != NULL) store->text_bytes -= text->capacity;
    free(text);
    *slot = 0;
}

/* A text gets a block of its own in place of the one that the word points to. */
static bool af_text_copy(af_store *store, int64_t *slot) {
    const af_text *text = (const af_text *)(intptr_t)*slot;
    *slot = 0;
    return text == NULL || af_text_set(store, slot, text->bytes, text->length);
}

/* -- the accumulator ---------------------------------------------------------------------------------------------------- */

typedef struct {
    int64_t arrival;    /* of its row; -1: none came */
    int64_t key, value; /* words, or where the texts are */
} af_pick;

enum { AF_PICK_WORDS = 3 };
_Static_assert(sizeof(af_pick) == 8 * AF_PICK_WORDS, "a cell's words");

AF_INLINE bool af_pick_text_key(const af_op *op) { return op->key == AF_KEY_VALUE && op->key_kind == AF_KIND_STRING; }
AF_INLINE bool af_pick_text_value(const af_op *op) { return op->valued && op->input_kind == AF_KIND_STRING; }

AF_INLINE int af_pick_words(const af_op *op, const af_store *store) { return AF_PICK_WORDS; }
AF_INLINE int af_pick_saved_words(const af_op *op) { return 1 + !af_pick_text_key(op) + (op->valued && !af_pick_text_value(op)); }
AF_INLINE bool af_pick_blocks(const af_op *op, const af_store *store) { return af_pick_text_key(op) || af_pick_text_value(op); }
AF_INLINE void af_pick_empty(const af_op *op, int64_t *slot) { ((af_pick *)slot)->arrival = -1; }

static bool af_pick_copy(af_store *store, const af_op *op, int64_t *slot) {
    af_pick *pick = (af_pick *)slot;
    const bool key = !af_pick_text_key(op) || af_text_copy(store, &pick->key);
    const bool value = !af_pick_text_value(op) || af_text_copy(store, &pick->value);
    return key && value;
}

static void af_pick_drop(af_store *store, const af_op *op, int64_t *slot) {
    if (af_pick_text_key(op)) af_text_drop(store, &((af_pick *)slot)->key);
    if (af_pick_text_value(op)) af_text_drop(store, &((af_pick *)slot)->value);
}

/* Whether the new (order: < 0 its key is less than the kept one, 0 equal, > 0 greater) takes the place of the kept. */
AF_INLINE bool af_better(const af_op *op, int order, int64_t arrival, int64_t kept_arrival) {
    if (order == 0) return op->last ? arrival > kept_arrival : arrival < kept_arrival;
    return op->greatest ? order > 0 : order < 0;
}

/* Its row came so much later. */
AF_INLINE void af_pick_shift(int64_t *slot, int64_t rows) {
    af_pick *pick = (af_pick *)slot;
    if (pick->arrival >= 0) pick->arrival += rows;
}

AF_NOINLINE bool af_pick_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin, arrivals = feed->arrivals; /* in registers: cells may be anywhere */
    const af_rows *rows = feed->rows;
    af_store *store = feed->store;
    const af_input *keys = op->key == AF_KEY_VALUE ? &rows->inputs[op->key_input] : NULL, *values = &rows->inputs[op->input];
    for (uint32_t k = 0; k < block->count; k++) {
        const int64_t row = begin + block->rows[k], arrival = arrivals + (rows->places != NULL ? rows->places[row] : row);
        af_pick *pick = (af_pick *)(block->cells[k] + op->offset);
        int64_t word = 0;
        int order = 0;
        const bool text_key = keys != NULL && op->key_kind == AF_KIND_STRING;
        if (text_key) {
            const af_text *kept = (const af_text *)(intptr_t)pick->key;
            if (pick->arrival >= 0)
                order = af_text_compare(keys->data + keys->starts[row], (uint32_t)keys->lengths[row], kept->bytes, kept->length);
        } else {
            if (op->key == AF_KEY_TIME) word = rows->time != NULL ? rows->time[row] : 0;
            if (keys != NULL) word = af_word_at(keys->values, op->key_kind, row);
            if (word == -1 && keys != NULL && op->key_kind == AF_KIND_FLOAT64) word = 0; /* -0.0 and 0.0 tie */
            order = (word > pick->key) - (word < pick->key);
        }
        if (pick->arrival >= 0 && !af_better(op, order, arrival, pick->arrival)) continue;
        pick->arrival = arrival;
        if (text_key) {
            if (!af_text_set(store, &pick->key, keys->data + keys->starts[row], (uint32_t)keys->lengths[row])) return false;
        } else {
            pick->key = word;
        }
        if (!op->valued) continue;
        if (op->input_kind == AF_KIND_STRING) {
            if (!af_text_set(store, &pick->value, values->data + values->starts[row], (uint32_t)values->lengths[row])) return false;
        } else {
            pick->value = af_raw_word(values, op->input_kind, row);
        }
    }
    return true;
}

static bool af_pick_merge(af_store *store, const af_op *op, int64_t *into_slot, const int64_t *from_slot) {
    af_pick *into = (af_pick *)into_slot;
    const af_pick *from = (const af_pick *)from_slot;
    if (from->arrival < 0) return true;
    const bool text_key = af_pick_text_key(op);
    const af_text *theirs = text_key ? (const af_text *)(intptr_t)from->key : NULL;
    if (into->arrival >= 0) {
        int order;
        if (text_key) {
            const af_text *mine = (const af_text *)(intptr_t)into->key;
            order = af_text_compare(theirs->bytes, theirs->length, mine->bytes, mine->length);
        } else {
            order = (from->key > into->key) - (from->key < into->key);
        }
        if (!af_better(op, order, from->arrival, into->arrival)) return true;
    }
    into->arrival = from->arrival;
    if (text_key) {
        if (!af_text_set(store, &into->key, theirs->bytes, theirs->length)) return false;
    } else {
        into->key = from->key;
    }
    if (!op->valued) return true;
    if (op->input_kind == AF_KIND_STRING) {
        const af_text *value = (const af_text *)(intptr_t)from->value;
        return af_text_set(store, &into->value, value->bytes, value->length);
    }
    into->value = from->value;
    return true;
}

/* The word is the value's, or where its text is. */
AF_INLINE bool af_result_picked(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    const af_pick *pick = (const af_pick *)(cell + op->offset);
    if (pick->arrival < 0) return false;
    *word = op->valued ? pick->value : pick->key;
    return true;
}

static void af_text_save(af_saving *saving, int32_t kind, int64_t slot) {
    const af_text *text = (const af_text *)(intptr_t)slot;
    af_block_begin(saving, kind);
    af_block_bytes(saving, text->bytes, text->length);
    af_block_end(saving);
}

static void af_pick_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    const af_pick *pick = (const af_pick *)(cell + op->offset);
    const bool some = pick->arrival >= 0, is_float = op->valued && op->input_kind == AF_KIND_FLOAT64;
    af_save_word(saving, pick->arrival);
    if (!af_pick_text_key(op))
        af_save_word(saving, pick->key);
    else if (some)
        af_text_save(saving, AF_BLOCK_KEY, pick->key);
    if (!op->valued) return;
    if (!af_pick_text_value(op))
        af_save_word(saving, is_float && af_f64(cell, op->offset)[2] != af_f64(cell, op->offset)[2] ? af_one_nan(NAN) : pick->value);
    else if (some)
        af_text_save(saving, AF_BLOCK_VALUE, pick->value);
}

static int af_text_load(af_loading *loading, int32_t kind, int64_t *slot) {
    af_view view;
    if (!af_block_take(loading, kind, &view) || view.left > INT32_MAX) return AF_UNFIT;
    return af_text_set(loading->store, slot, view.at, (uint32_t)view.left) ? AF_FITS : AF_NO_MEMORY;
}

static int af_pick_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    af_pick *pick = (af_pick *)(cell + op->offset);
    const int64_t arrival = af_load_word(loading);
    int done = arrival >= -1 && arrival < loading->arrivals ? AF_FITS : AF_UNFIT;
    if (!af_pick_text_key(op))
        pick->key = af_load_word(loading);
    else if (done == AF_FITS && arrival >= 0)
        done = af_text_load(loading, AF_BLOCK_KEY, &pick->key);
    if (op->valued && !af_pick_text_value(op))
        pick->value = af_load_word(loading);
    else if (op->valued && done == AF_FITS && arrival >= 0)
        done = af_text_load(loading, AF_BLOCK_VALUE, &pick->value);
    if (done == AF_FITS) pick->arrival = arrival;
    return done;
}

#endif
