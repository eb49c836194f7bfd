/* Texts that belong to a cell, each in a block of its own. */
#ifndef ASYNCFLOW_ACCUMULATORS_TEXTS_H
#define ASYNCFLOW_ACCUMULATORS_TEXTS_H

#include "accumulators/cell.h"

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

#endif
