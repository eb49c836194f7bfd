/* Key columns as they are saved: their values in key order, each once, without null; and back into an empty table.
 *
 * What is loaded may come from anywhere.  It is taken in order, each value greater than the one before, so none comes twice, its id is its
 * place, and the table's order is known. */
#ifndef ASYNCFLOW_GROUPS_SAVED_H
#define ASYNCFLOW_GROUPS_SAVED_H

#include "base/utf8.h"
#include "base/words.h"
#include "groups/sort.h"

typedef enum { AF_LOADED, AF_LOAD_NO_MEMORY, AF_LOAD_NO_TEXT, AF_LOAD_OUT_OF_ORDER } af_loaded;

enum { AF_TEXTS_AHEAD = 16, AF_SHORT_TEXT = 32 };

/* Keys in their order lie anywhere in the table: what the rows ahead need is asked for early. */
AF_INLINE void af_offset_ahead(const af_strings *table, const int32_t *ids, int64_t i, int64_t count) {
    if (i < count) __builtin_prefetch(&table->offsets[ids[i]]);
}

/* The lengths of the texts of ids; their sum. */
static uint64_t af_strings_lengths(const af_strings *table, const int32_t *ids, int64_t count, int32_t *lengths) {
    uint64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        af_offset_ahead(table, ids, i + AF_TEXTS_AHEAD, count);
        const uint64_t length = af_text_length(table, ids[i]);
        lengths[i] = (int32_t)length;
        total += length;
    }
    return total;
}

/* The texts of ids, end to end: `bytes` in all. */
static void af_strings_save(const af_strings *table, const int32_t *ids, int64_t count, uint8_t *text, uint64_t bytes) {
    const uint8_t *end = text + bytes;
    for (int64_t i = 0; i < count; i++) {
        af_offset_ahead(table, ids, i + 2 * AF_TEXTS_AHEAD, count);
        if (i + AF_TEXTS_AHEAD < count) __builtin_prefetch(table->text + table->offsets[ids[i + AF_TEXTS_AHEAD]]);
        const uint64_t offset = table->offsets[ids[i]], length = table->offsets[ids[i] + 1] - offset;
        if (length <= AF_SHORT_TEXT && end - text >= AF_SHORT_TEXT && table->text_capacity - offset >= AF_SHORT_TEXT)
            memcpy(text, table->text + offset, AF_SHORT_TEXT); /* the next text is written over what is too much */
        else if (length)
            memcpy(text, table->text + offset, length);
        text += length;
    }
}

/* The bytes of all texts, -1 where a length is below 0. */
static int64_t af_lengths_sum(const int32_t *lengths, int64_t count) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        if (lengths[i] < 0) return -1;
        total += lengths[i];
    }
    return total;
}

/* Puts texts of these lengths, which lie end to end, into an empty table; and null behind them. */
static af_loaded af_strings_load(af_strings *table, const uint8_t *text, const int32_t *lengths, int64_t count, bool null) {
    const uint8_t *before = NULL;
    for (int64_t i = 0; i < count; i++) {
        const uint32_t length = (uint32_t)lengths[i];
        if (!af_utf8_valid(text, length)) return AF_LOAD_NO_TEXT;
        if (i && af_text_compare(before, (uint32_t)lengths[i - 1], text, length) >= 0) return AF_LOAD_OUT_OF_ORDER;
        if (af_strings_intern(table, text, length, af_hash_text(table->seeds, text, length)) < 0) return AF_LOAD_NO_MEMORY;
        before = text;
        text += length;
    }
    return null && af_strings_null(table) < 0 ? AF_LOAD_NO_MEMORY : AF_LOADED;
}

static void af_words_save(const af_words *table, const int32_t *ids, int64_t count, uint64_t *words) {
    for (int64_t i = 0; i < count; i++) words[i] = table->words[ids[i]];
}

/* Puts words into an empty table, and null behind them. */
static af_loaded af_words_load(af_words *table, af_key_kind kind, const uint64_t *words, int64_t count, bool null) {
    for (int64_t i = 0; i < count; i++) {
        const uint64_t word = words[i];
        if (kind == AF_KEY_FLOAT64 && af_canonical_float(word) != word) return AF_LOAD_OUT_OF_ORDER;
        if (i && af_sortable(words[i - 1], kind) >= af_sortable(word, kind)) return AF_LOAD_OUT_OF_ORDER;
        if (af_words_intern_at(table, word, af_slot_of(table, word)) < 0) return AF_LOAD_NO_MEMORY;
    }
    return null && af_words_null(table) < 0 ? AF_LOAD_NO_MEMORY : AF_LOADED;
}

#endif
