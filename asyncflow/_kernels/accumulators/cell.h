/* A cell and what fills it: the types that all accumulators share.
 *
 * A cell is one group's accumulators in one pane: 8 bytes of row count (0: no such group here), then one accumulator after another, as
 * laid out once per stage (af_op, `offset`).  Blocks that an accumulator keeps outside of the cell (texts, sketches, sets of a cell's own)
 * belong to the cell; their words are addresses, 0 for none. */
#ifndef ASYNCFLOW_ACCUMULATORS_CELL_H
#define ASYNCFLOW_ACCUMULATORS_CELL_H

#include <math.h>

#include "accumulators/list.h"
#include "base/words.h"
#include "sketches/pool.h"

typedef __int128 af_wide; /* pane and window numbers: no int64 time or size makes them overflow */

enum { AF_ROWS = 64, AF_PAGE_CELLS = 64 }; /* of a block of rows; of a page of cells: neighbouring group ids */

typedef enum { AF_KIND_INT64, AF_KIND_FLOAT64, AF_KIND_BOOL, AF_KIND_STRING } af_value_kind;
typedef enum { AF_KEY_NONE, AF_KEY_TIME, AF_KEY_VALUE } af_pick_key;

/* One accumulator: what it reads and where it is in the cell.  Columns and masks by position, -1 for none. */
typedef struct {
    int family; /* af_family */
    int input, second, mask;
    int input_kind, second_kind; /* af_value_kind */
    int offset;
    int sum, extremes;            /* NUMBER: what it keeps besides the number of rows */
    int key, key_input, key_kind; /* PICK: af_pick_key, column and kind of the key */
    int greatest, last, valued;   /* PICK: which is better; whether there is a value besides the key */
    int set;                      /* DISTINCT: which of the pane's sets */
    int counters;                 /* TOP: how many */
} af_op;

/* A value of a DISTINCT. */
typedef struct {
    uint64_t hash, value; /* value: a word, or where the text begins in the set's text */
    int32_t group;        /* -1: empty */
    uint32_t length;
} af_member;

typedef struct {
    af_member *members;
    uint64_t mask, count; /* mask 0: nothing allocated */
    uint8_t *text;
    uint64_t text_bytes, text_capacity;
} af_set;

typedef struct {
    af_wide number, first; /* first: the first window of a sub-pane; AF_NO_FIRST for the pane itself */
    af_wide low, high;     /* the windows it counts in */
    uint8_t **pages;
    uint32_t page_count, used_pages;
    af_set *sets; /* of DISTINCT, one for all groups, where cells have none of their own */
} af_pane;

typedef struct {
    uint8_t *memory;
    size_t bytes;
} af_chunk;

typedef struct {
    af_chunk *chunks;
    size_t chunk_count, carved; /* bytes of the last chunk in use */
    void *free_pages;
    size_t used_pages, bytes, peak_pages;
} af_arena;

/* What all cells of a state have in common. */
typedef struct {
    af_op *ops;
    int op_count, set_count;
    bool wide;    /* AVX-512 is to be used */
    bool own_sets, has_blocks; /* DISTINCT has a set per cell; cells have blocks of their own, besides those of sums (sum_bytes) */
    size_t cell_bytes, page_bytes;
    uint8_t *empty_page;
    af_arena arena;
    uint64_t text_bytes, set_bytes, sum_bytes, table_bytes;
    af_pool sketches;
    uint64_t seed; /* of the places in sets and counters; no result and no saved byte depends on it */
} af_store;

/* A column that accumulators read. */
typedef struct {
    const void *values;   /* int64, float64 or bool; NULL for a string */
    const uint8_t *valid; /* NULL: all are */
    const uint8_t *data;
    const int32_t *starts, *lengths;
} af_input;

/* One batch. */
typedef struct {
    const int32_t *groups;
    int64_t begin, count, group_count; /* rows begin .. count - 1 are taken */
    const int64_t *time, *watermarks;  /* either may be NULL */
    int64_t watermark_before, delay;
    const af_input *inputs;
    const uint8_t *const *masks;
    const int32_t *places; /* of each row its place among those that came; NULL: its own */
    int64_t *late; /* out: positions of late rows */
    int64_t late_count, partly;
} af_rows;

/* Rows of a batch that one accumulator takes, and the cell of each. */
typedef struct {
    uint8_t *cells[AF_ROWS];
    uint32_t rows[AF_ROWS]; /* positions from `begin` of the feed on */
    uint32_t count;
} af_block;

/* Where a block comes from. */
typedef struct {
    af_store *store;
    const af_rows *rows;
    af_pane *const *panes; /* of each row of the block; filled where there are sets */
    int64_t begin, arrivals; /* arrivals: rows that came before this batch */
    bool one_cell;           /* all rows of the block are in one cell */
} af_feed;

AF_INLINE int64_t *af_i64(uint8_t *cell, int offset) { return (int64_t *)(cell + offset); }
AF_INLINE double *af_f64(uint8_t *cell, int offset) { return (double *)(cell + offset); }

AF_INLINE int64_t af_bits(double value) {
    int64_t bits;
    memcpy(&bits, &value, 8);
    return bits;
}

/* -- values of a column ----------------------------------------------------------------------------------------------- */

/* The word that sorts like a value of a fixed type. */
AF_INLINE int64_t af_word_at(const void *values, int kind, int64_t row) {
    if (kind == AF_KIND_BOOL) return ((const uint8_t *)values)[row] != 0;
    if (kind == AF_KIND_FLOAT64) return af_sorting_float(((const double *)values)[row]);
    return ((const int64_t *)values)[row];
}

AF_INLINE double af_double_at(const void *values, int kind, int64_t row) {
    return kind == AF_KIND_FLOAT64 ? ((const double *)values)[row] : (double)((const int64_t *)values)[row];
}

/* The word that stands for a value of a fixed type and gives it back. */
AF_INLINE int64_t af_raw_word(const af_input *column, int kind, int64_t row) {
    return kind == AF_KIND_BOOL ? ((const uint8_t *)column->values)[row] != 0 : ((const int64_t *)column->values)[row];
}

/* The word that stands for a value of a fixed type where equality counts: -0.0 is 0.0, all NaN are one. */
AF_INLINE uint64_t af_equal_word(const af_input *column, int kind, int64_t row) {
    if (kind != AF_KIND_FLOAT64) return (uint64_t)af_raw_word(column, kind, row);
    const int64_t word = af_sorting_float(((const double *)column->values)[row]);
    return (uint64_t)(word == -1 ? 0 : word);
}

#endif
