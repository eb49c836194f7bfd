/* Column loops: the texts of one column, row by row, to an array of values.  All text formats share these loops.
 *
 * A format first finds where the fields are (separators of a CSV tile, spans of JSON values).  Then each column of the tile is one
 * call, so that the type is dispatched once per tile, several rows share a vector, and the loop holds its constants in registers.
 * This is a level header: a body that base/levels.h compiles includes it.
 *
 *     af_texts texts = {.data = block, .bounds = separators + column - 1, .stride = columns, .rows = rows};
 *     af_column column = {.kind = AF_INT64, .code = af_code(column_index), .values = out, .valid = valid, .failed = failed};
 *     AF_AT(fill_column)(&texts, &column);
 *
 * Bounds: the text of row r is data[bounds[r * stride] + 1 .. bounds[r * stride + 1]), in uint32 arithmetic, so a bound of
 * UINT32_MAX stands for the place before byte 0.  A separator index has this shape (stride: fields per row); so have pairs (start -
 * 1, end), with stride 2.
 *
 * Invariants.  Text ends never fall from row to row: the fast paths read up to AF_REACH bytes before a text's end, and need to know
 * where the block begins.  Nothing is read at or after a text's end, with one exception: the first byte of a text is read even
 * where the text is empty. So the last row, whose empty text may be at the block's end, is read by the slow path.
 *
 * Null: an empty text (for strings: an empty text that is not `quoted`), or a text equal to `null_text` that is not `quoted`.
 * Failed: failed[r] keeps the first code of row r (columns are filled in projection order); the code holds column and status.  The
 * value of a null or failed row is 0; the length of a null string is 0. */
#ifndef ASYNCFLOW_COLUMNS_H
#define ASYNCFLOW_COLUMNS_H

#include "numbers/numbers.h"
#include "numbers/timestamps.h"

enum { AF_REACH = 48 };

/* The types of columns.  `values` holds int64 for INT64 and times (ns), double for FLOAT64, one byte for BOOL, and for STRING int32
 * starts beside int32 lengths. */
enum af_kind { AF_BOOL, AF_INT64, AF_FLOAT64, AF_STRING, AF_TIMESTAMP, AF_EPOCH_S, AF_EPOCH_MS, AF_EPOCH_US, AF_EPOCH_NS };

enum { AF_MISSING = 3 }; /* a further status, beside AF_OK, AF_WRONG and AF_RANGE: null in a required column */

typedef struct {
    const uint8_t *data;
    const uint32_t *bounds;
    uint32_t stride;
    uint32_t rows;
    const uint8_t *quoted; /* per row: 1 where the text was quoted; NULL: none was */
    const uint8_t *null_text;
    uint32_t null_length;
} af_texts;

typedef struct {
    enum af_kind kind;
    bool required;    /* null fails the row */
    uint32_t code;    /* af_code(column) */
    void *values;     /* room for `rows` */
    int32_t *lengths; /* strings only */
    uint8_t *valid;   /* written for every row: 1 or 0 */
    uint32_t *failed; /* per row: a code, 0 for none; shared by the columns of a tile */
    uint64_t nulls;   /* grows by the number of nulls */
    uint64_t wrong;   /* grows by the number of rows that this column failed first */
} af_column;

AF_INLINE uint32_t af_code(uint32_t column) { return (column + 1) << 2; }
AF_INLINE uint32_t af_code_column(uint32_t failed) { return (failed >> 2) - 1; }
AF_INLINE uint32_t af_code_status(uint32_t failed) { return failed & 3; }

AF_INLINE uint32_t af_value_size(enum af_kind kind) { return kind == AF_BOOL ? 1 : kind == AF_STRING ? 4 : 8; }

AF_INLINE const uint8_t *af_text_begin(const af_texts *texts, uint32_t row) {
    return texts->data + (uint32_t)(texts->bounds[(size_t)row * texts->stride] + 1);
}
AF_INLINE const uint8_t *af_text_end(const af_texts *texts, uint32_t row) {
    return texts->data + texts->bounds[(size_t)row * texts->stride + 1];
}

AF_INLINE void af_fail(af_column *column, uint32_t row, int status) {
    if (column->failed[row] != 0) return;
    column->failed[row] = column->code | (uint32_t)status;
    column->wrong++;
}

AF_INLINE void af_set_null(af_column *column, uint32_t row) {
    column->valid[row] = 0;
    column->nulls++;
    if (column->required) af_fail(column, row, AF_MISSING);
}

AF_INLINE bool af_is_null_text(const af_texts *texts, uint32_t row, const uint8_t *begin, const uint8_t *end) {
    return (size_t)(end - begin) == texts->null_length && memcmp(begin, texts->null_text, texts->null_length) == 0 &&
           !(texts->quoted != NULL && texts->quoted[row]);
}

/* The slow path: one row of a fixed-width column by the exact parsers.  Texts that the fast paths do not take come here. */
AF_NOINLINE void af_fill_slowly(const af_texts *texts, af_column *column, uint32_t row) {
    const uint8_t *begin = af_text_begin(texts, row), *end = af_text_end(texts, row);
    int64_t integer = 0;
    double real = 0.0;
    uint8_t truth = 0;
    if (begin == end || (texts->null_length > 0 && af_is_null_text(texts, row, begin, end))) {
        af_set_null(column, row);
    } else {
        int status = AF_WRONG;
        switch (column->kind) {
        case AF_BOOL: status = af_parse_bool(begin, end, &truth); break;
        case AF_INT64: status = af_parse_int64(begin, end, &integer); break;
        case AF_FLOAT64: status = af_parse_float64(begin, end, &real); break;
        case AF_TIMESTAMP: status = af_parse_timestamp(begin, end, &integer); break;
        case AF_EPOCH_S: status = af_parse_epoch_seconds(begin, end, &integer); break;
        case AF_EPOCH_MS: status = af_parse_epoch(begin, end, 1000000, &integer); break;
        case AF_EPOCH_US: status = af_parse_epoch(begin, end, 1000, &integer); break;
        case AF_EPOCH_NS: status = af_parse_epoch(begin, end, 1, &integer); break;
        case AF_STRING: break;
        }
        if (status != AF_OK) af_fail(column, row, status);
    }
    if (column->kind == AF_FLOAT64)
        ((double *)column->values)[row] = real;
    else if (column->kind == AF_BOOL)
        ((uint8_t *)column->values)[row] = truth;
    else
        ((int64_t *)column->values)[row] = integer;
}

/* Makes rows null whose text is `null_text`, where `null_text` reads as a value ("-999") and a fast path has taken it for one. */
AF_NOINLINE void af_apply_null_text(const af_texts *texts, af_column *column) {
    for (uint32_t row = 0; row < texts->rows; row++) {
        if (!column->valid[row] || !af_is_null_text(texts, row, af_text_begin(texts, row), af_text_end(texts, row))) continue;
        af_set_null(column, row);
        memset((uint8_t *)column->values + (size_t)row * af_value_size(column->kind), 0, af_value_size(column->kind));
    }
}

/* The texts from row `first` on, where none is quoted and only an empty one is null; `nulls`: how many are null among those before. */
static void af_fill_views(const af_texts *texts, af_column *column, uint32_t first, uint32_t nulls) {
    int32_t *starts = column->values, *lengths = column->lengths;
    const uint32_t *bound = texts->bounds + (size_t)first * texts->stride, stride = texts->stride;
    for (uint32_t row = first; row < texts->rows; row++, bound += stride) {
        uint32_t begin = bound[0] + 1, length = bound[1] - begin;
        starts[row] = (int32_t)begin;
        lengths[row] = (int32_t)length;
        column->valid[row] = length != 0;
        nulls += length == 0;
    }
    column->nulls += nulls;
    if (AF_LIKELY(nulls == 0 || !column->required)) return;
    for (uint32_t row = 0; row < texts->rows; row++)
        if (!column->valid[row]) af_fail(column, row, AF_MISSING);
}

/* Texts that may be quoted, or null by `null_text`. */
static void af_fill_strings(const af_texts *texts, af_column *column) {
    int32_t *starts = column->values, *lengths = column->lengths;
    const uint32_t *bound = texts->bounds, stride = texts->stride;
    for (uint32_t row = 0; row < texts->rows; row++, bound += stride) {
        uint32_t begin = bound[0] + 1, length = bound[1] - begin;
        starts[row] = (int32_t)begin;
        column->valid[row] = 1;
        if (af_is_null_text(texts, row, texts->data + begin, texts->data + bound[1])) {
            length = 0;
            af_set_null(column, row);
        }
        lengths[row] = (int32_t)length;
    }
}

/* Moves the rows that did not fail together.  `values` points at the tile's first row.  Returns how many rows stay. */
static uint32_t af_drop_failed(const uint32_t *failed, uint32_t rows, uint8_t *values, uint32_t size) {
    uint32_t kept = 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (failed[row] != 0) continue;
        if (kept != row) memcpy(values + (size_t)kept * size, values + (size_t)row * size, size);
        kept++;
    }
    return kept;
}

#if AF_X86
/* loadu(af_last + n) keeps the last n of 16 bytes. */
static const uint8_t af_last[48] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
#define Z 128 /* pshufb gives zero */
/* Shuffle p takes byte p out of 16 bytes and moves the bytes before it up by one; shuffle 16 takes no byte out. */
static const uint8_t af_without[17][16] __attribute__((aligned(16))) = {
    {Z, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {Z, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {Z, 0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {Z, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {Z, 0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {Z, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {Z, 0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {Z, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15},
    {Z, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15}, {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15},
    {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15},  {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15},
    {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15},  {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15},
    {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15},  {Z, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
};
#undef Z
#endif
/* 10**d at index d, and -10**d at index 32 + d: the sign needs no branch, and minus zero is right. */
static const double af_signed_tens[64] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,  1e11,  1e12,  1e13,  1e14,  1e15,  1,  1,  1,  1,  1,  1,
    1,    1,    1,    1,    1,    1,    1,    1,    1,    1,    -1e0,  -1e1,  -1e2,  -1e3,  -1e4,  -1e5,  -1e6, -1e7, -1e8, -1e9, -1e10, -1e11,
    -1e12, -1e13, -1e14, -1e15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

#endif

#ifdef AF_LEVEL
#include "columns/level.h"
#endif
