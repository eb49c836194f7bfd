/* How cells are saved and loaded: what accumulators write to and read from.
 *
 * Cells are rows of words: the group, the number of rows, then `saved_words` of each accumulator.  Blocks (texts, sketches, sets) are listed
 * beside them, each with its cell, accumulator, kind and length, in that order; their bytes follow one another.  No address is saved,
 * and nothing that depends on a seed, on a table's capacity or on the order of rows where the accumulator does not: equal states are
 * equal bytes.  Words and bytes are little-endian; every NaN is one.
 *
 * Loading believes nothing: what C would index, add up or free by is checked, and a block must be the next one that the cell needs.
 * Invariant: what is loaded, saved again, is the same bytes. */
#ifndef ASYNCFLOW_ACCUMULATORS_SAVED_H
#define ASYNCFLOW_ACCUMULATORS_SAVED_H

#include "accumulators/cell.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "states are saved as they lie in memory: little-endian");

/* Beyond all that a stream comes to; sums of a few cannot overflow. */
#define AF_MOST_ROWS ((int64_t)1 << 56)

enum { AF_NO_MEMORY = -1, AF_UNFIT = 0, AF_FITS = 1 };
enum { AF_BLOCK_KEY, AF_BLOCK_VALUE };

typedef struct {
    uint8_t *bytes;
    uint64_t length, capacity;
} af_bytes;

typedef struct {
    int64_t cell;
    int32_t accumulator, kind;
    int64_t bytes;
} af_saved_block;

typedef struct {
    int64_t number_high, number_low, first_high, first_low, cells;
} af_saved_pane;

_Static_assert(sizeof(af_saved_block) == 24 && sizeof(af_saved_pane) == 40, "records are saved as they lie in memory");

/* A value of a set in the order of what is saved: by its group's rank, then by value. */
typedef struct {
    int64_t rank, word;
    const uint8_t *text; /* NULL: a word */
    uint32_t length;
} af_placed;

typedef struct {
    const af_store *store;
    af_bytes panes, cells, blocks, data;
    int64_t cell;        /* the one that is being saved */
    int32_t accumulator; /* of it */
    int64_t rank;        /* of its group */
    af_placed **placed;  /* of the pane's sets, sorted; those of this cell are next */
    uint64_t *placed_at, *placed_count;
    bool failed; /* no memory */
} af_saving;

typedef struct {
    const uint8_t *at;
    uint64_t left;
} af_view;

typedef struct {
    af_store *store;
    const int64_t *words;
    const af_saved_block *blocks;
    int64_t blocks_left, arrivals;
    af_view data;
    int64_t cell;        /* the one that is being loaded */
    int32_t accumulator; /* of it */
    int32_t group;
    int64_t rows;
    af_pane *pane;
} af_loading;

/* -- saving ----------------------------------------------------------------------------------------------------------- */

/* Room for so many bytes at the end; NULL: no memory. */
static uint8_t *af_bytes_more(af_bytes *bytes, uint64_t count) {
    if (bytes->length + count > bytes->capacity) {
        uint64_t capacity = bytes->capacity ? bytes->capacity * 2 : 1024;
        while (capacity < bytes->length + count) capacity *= 2;
        uint8_t *grown = realloc(bytes->bytes, capacity);
        if (grown == NULL) return NULL;
        bytes->bytes = grown;
        bytes->capacity = capacity;
    }
    bytes->length += count;
    return bytes->bytes + bytes->length - count;
}

static void af_save_bytes(af_saving *saving, af_bytes *into, const void *from, uint64_t count) {
    if (saving->failed || count == 0) return;
    uint8_t *to = af_bytes_more(into, count);
    if (to == NULL)
        saving->failed = true;
    else
        memcpy(to, from, count);
}

AF_INLINE void af_save_word(af_saving *saving, int64_t word) { af_save_bytes(saving, &saving->cells, &word, sizeof word); }

AF_INLINE int64_t af_one_nan(double value) { return value != value ? 0x7FF8000000000000ll : af_bits(value); }

AF_INLINE void af_save_double(af_saving *saving, double value) { af_save_word(saving, af_one_nan(value)); }

/* A block of the accumulator that is being saved; its bytes follow, by af_block_bytes and af_block_word, up to af_block_end. */
static void af_block_begin(af_saving *saving, int32_t kind) {
    const af_saved_block block = {saving->cell, saving->accumulator, kind, -(int64_t)saving->data.length};
    af_save_bytes(saving, &saving->blocks, &block, sizeof block);
}

AF_INLINE void af_block_bytes(af_saving *saving, const void *from, uint64_t count) { af_save_bytes(saving, &saving->data, from, count); }

AF_INLINE void af_block_word(af_saving *saving, int64_t word) { af_block_bytes(saving, &word, sizeof word); }

static void af_block_end(af_saving *saving) {
    if (saving->failed) return;
    af_saved_block *block = (af_saved_block *)(saving->blocks.bytes + saving->blocks.length) - 1;
    block->bytes += (int64_t)saving->data.length;
}

/* -- loading ---------------------------------------------------------------------------------------------------------- */

AF_INLINE int64_t af_load_word(af_loading *loading) { return *loading->words++; }

AF_INLINE double af_load_double(af_loading *loading) {
    double value;
    memcpy(&value, loading->words++, sizeof value);
    return value;
}

/* Takes the next block where it is this one of the accumulator; false: there is none, or its bytes are not all there. */
static bool af_block_take(af_loading *loading, int32_t kind, af_view *view) {
    const af_saved_block *block = loading->blocks;
    if (loading->blocks_left == 0 || block->cell != loading->cell || block->accumulator != loading->accumulator || block->kind != kind) return false;
    if (block->bytes < 0 || (uint64_t)block->bytes > loading->data.left) return false;
    *view = (af_view){loading->data.at, (uint64_t)block->bytes};
    loading->data.at += block->bytes;
    loading->data.left -= (uint64_t)block->bytes;
    loading->blocks++;
    loading->blocks_left--;
    return true;
}

AF_INLINE bool af_view_bytes(af_view *view, void *to, uint64_t count) {
    if (count > view->left) return false;
    if (count) memcpy(to, view->at, count);
    view->at += count;
    view->left -= count;
    return true;
}

AF_INLINE bool af_view_word(af_view *view, int64_t *word) { return af_view_bytes(view, word, sizeof *word); }

/* A text with its length before it. */
static bool af_view_text(af_view *view, const uint8_t **text, uint32_t *length) {
    if (!af_view_bytes(view, length, sizeof *length) || *length > view->left || *length > INT32_MAX) return false;
    *text = view->at;
    view->at += *length;
    view->left -= *length;
    return true;
}

#endif
