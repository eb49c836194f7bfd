/* The rows that are held, by place: a record each, so that a row is a cache line or two.
 *
 * A fixed value takes eight bytes in the record.  The texts of a column lie in one array: a text stands where the one before it stood, and
 * elsewhere where that is too little room, or far too much.  Room that nobody has any more is won back when the array is full, or mostly waste.
 * A null is stored as zero or as an empty text. */
#ifndef ASYNCFLOW_TOP_COLUMNS_H
#define ASYNCFLOW_TOP_COLUMNS_H

#include "base/slots.h"
#include "base/words.h"

typedef enum { AF_BEST_INT64, AF_BEST_FLOAT64, AF_BEST_BOOL, AF_BEST_TEXT } af_best_kind;

/* A column of a batch.  Of text `data` are the bytes; `valid` may be NULL. */
typedef struct {
    const uint8_t *data;
    const int32_t *starts, *lengths;
    const uint8_t *valid;
} af_best_input;

typedef struct {
    int64_t start;
    int32_t length, room;
} af_best_text;

/* What a place holds: the record of a row.  The columns follow, each at its offset: eight bytes, of text an af_best_text. */
typedef struct {
    int64_t arrival;
    int32_t fresh;    /* the row of the batch that has the place; -1: none, the row is stored */
    uint32_t nulls[]; /* a bit a column */
} af_best_record;

typedef struct {
    af_best_kind kind;
    uint32_t at, null_word, null_bit; /* where the value and the flag are in a record */
    bool nullable;                    /* a null has come */
    uint8_t *bytes;
    int64_t used, wasted, room;
} af_best_column;

typedef struct {
    uint8_t *records;
    int64_t capacity; /* records */
    uint32_t width, null_words;
    af_best_column *columns;
    int32_t count;
} af_best_rows;

AF_INLINE af_best_record *af_best_record_of(const af_best_rows *rows, int64_t place) {
    return (af_best_record *)(rows->records + (size_t)place * rows->width);
}

AF_INLINE void *af_best_value(const af_best_rows *rows, const af_best_column *column, int64_t place) {
    return rows->records + (size_t)place * rows->width + column->at;
}

AF_INLINE bool af_best_is_null(const af_best_rows *rows, const af_best_column *column, int64_t place) {
    return af_best_record_of(rows, place)->nulls[column->null_word] & column->null_bit;
}

/* So many columns, of kinds that are yet to be set.  false: no memory. */
static bool af_best_rows_init(af_best_rows *rows, int32_t count) {
    rows->count = count;
    rows->columns = calloc((size_t)count + 1, sizeof *rows->columns);
    return rows->columns != NULL;
}

/* Where each column is in a record, once their kinds are known. */
static void af_best_rows_lay_out(af_best_rows *rows) {
    rows->null_words = ((uint32_t)rows->count + 31) / 32;
    rows->width = (sizeof(af_best_record) + 4 * rows->null_words + 7) & ~7u;
    for (int32_t j = 0; j < rows->count; j++) {
        af_best_column *column = &rows->columns[j];
        column->at = rows->width;
        column->null_word = (uint32_t)j / 32;
        column->null_bit = 1u << j % 32;
        rows->width += column->kind == AF_BEST_TEXT ? sizeof(af_best_text) : 8;
    }
}

static void af_best_rows_free(af_best_rows *rows) {
    for (int32_t j = 0; rows->columns != NULL && j < rows->count; j++) free(rows->columns[j].bytes);
    free(rows->columns);
    free(rows->records);
}

/* -- texts --------------------------------------------------------------------------------------------------------------- */

enum { AF_BEST_FEW_BYTES = 1 << 12, AF_BEST_SMALL_ROOM = 256 };

/* All texts of `places` places side by side, with room for `wanted` bytes besides.  false: no memory. */
static bool af_best_texts_collect(af_best_rows *rows, af_best_column *column, int64_t places, int64_t wanted) {
    const int64_t live = column->used - column->wasted, room = 2 * (live + wanted) + AF_BEST_FEW_BYTES;
    uint8_t *bytes = malloc((size_t)room);
    if (bytes == NULL) return false;
    int64_t used = 0;
    for (int64_t place = 0; place < places; place++) {
        af_best_text *text = af_best_value(rows, column, place);
        if (text->room == 0) continue;
        if (text->length) memcpy(bytes + used, column->bytes + text->start, (size_t)text->length);
        text->start = used;
        used += text->room;
    }
    free(column->bytes);
    column->bytes = bytes;
    column->used = used;
    column->wasted = 0;
    column->room = room;
    return true;
}

AF_NOINLINE bool af_best_texts_grow(af_best_rows *rows, af_best_column *column, int64_t places, int64_t wanted) {
    if (2 * column->wasted > column->used) return af_best_texts_collect(rows, column, places, wanted);
    int64_t room = column->room ? column->room : 256;
    while (room < column->used + wanted) room *= 2;
    uint8_t *bytes = af_resized(column->bytes, (size_t)column->used, (size_t)room);
    if (bytes == NULL) return false;
    column->bytes = bytes;
    column->room = room;
    return true;
}

/* Copies a text, without a call where it is short. */
AF_INLINE void af_best_copy(uint8_t *to, const uint8_t *from, int32_t length) {
    if (length >= 8 && length <= 16) {
        const uint64_t head = af_load64(from), tail = af_load64(from + length - 8);
        memcpy(to, &head, 8);
        memcpy(to + length - 8, &tail, 8);
    } else if (length) {
        memcpy(to, from, (size_t)length);
    }
}

AF_INLINE bool af_best_text_put(af_best_rows *rows, af_best_column *column, int64_t places, int64_t place, const uint8_t *from, int32_t length) {
    af_best_text *text = af_best_value(rows, column, place);
    if (AF_UNLIKELY(length > text->room || text->room > 8 * (int64_t)length + AF_BEST_SMALL_ROOM)) {
        const int64_t room = (int64_t)length <= INT32_MAX - 8 ? ((int64_t)length + 7) & ~(int64_t)7 : length;
        column->wasted += text->room;
        text->room = text->length = 0;
        if (column->used + room > column->room && !af_best_texts_grow(rows, column, places, room)) return false;
        *text = (af_best_text){column->used, length, (int32_t)room};
        column->used += room;
    }
    text->length = length;
    af_best_copy(column->bytes + text->start, from, length);
    return true;
}

/* -- places -------------------------------------------------------------------------------------------------------------- */

/* The place is free: the room of its texts is waste. */
AF_INLINE void af_best_place_clear(af_best_rows *rows, int64_t place) {
    for (int32_t j = 0; j < rows->count; j++) {
        af_best_column *column = &rows->columns[j];
        if (column->kind != AF_BEST_TEXT) continue;
        af_best_text *text = af_best_value(rows, column, place);
        column->wasted += text->room;
        text->length = text->room = 0;
    }
}

/* Place i has from now on what place old[i] had; the texts of `places` places.  false: no memory. */
static bool af_best_rows_move(af_best_rows *rows, const int32_t *old, int64_t places) {
    uint8_t *records = malloc((size_t)(places + 1) * rows->width);
    if (records == NULL) return false;
    for (int64_t i = 0; i < places; i++) memcpy(records + (size_t)i * rows->width, af_best_record_of(rows, old[i]), rows->width);
    free(rows->records);
    rows->records = records;
    rows->capacity = places + 1;
    for (int32_t j = 0; j < rows->count; j++)
        if (rows->columns[j].kind == AF_BEST_TEXT && !af_best_texts_collect(rows, &rows->columns[j], places, 0)) return false;
    return true;
}

/* -- in ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    int32_t place, row;
} af_best_fresh;

/* Puts the values of rows of a batch into the records of their places.  false: no memory. */
static bool af_best_column_put(af_best_rows *rows, af_best_column *column, const af_best_input *input, const af_best_fresh *fresh, uint32_t count,
                              int64_t places) {
    const uint8_t *valid = input->valid;
    if (column->kind == AF_BEST_TEXT) {
        for (uint32_t i = 0; i < count; i++) {
            const int32_t row = fresh[i].row, length = valid == NULL || valid[row] ? input->lengths[row] : 0;
            if (!af_best_text_put(rows, column, places, fresh[i].place, length ? input->data + input->starts[row] : NULL, length)) return false;
        }
    } else if (column->kind == AF_BEST_BOOL) {
        for (uint32_t i = 0; i < count; i++) *(uint64_t *)af_best_value(rows, column, fresh[i].place) = input->data[fresh[i].row] != 0;
    } else {
        for (uint32_t i = 0; i < count; i++)
            *(uint64_t *)af_best_value(rows, column, fresh[i].place) = ((const uint64_t *)input->data)[fresh[i].row];
    }
    if (valid == NULL) return true; /* `nulls` was cleared */
    column->nullable = true;
    for (uint32_t i = 0; i < count; i++) {
        if (valid[fresh[i].row]) continue;
        af_best_record_of(rows, fresh[i].place)->nulls[column->null_word] |= column->null_bit;
        if (column->kind != AF_BEST_TEXT) *(uint64_t *)af_best_value(rows, column, fresh[i].place) = 0;
    }
    return true;
}

/* -- out ----------------------------------------------------------------------------------------------------------------- */

enum { AF_BEST_AHEAD = 12 };

/* The flags of validity of these places into `valid`.  Whether one of them is null. */
static bool af_best_column_valid(const af_best_rows *rows, const af_best_column *column, const int32_t *places, int64_t count, uint8_t *valid) {
    uint8_t all = 1;
    for (int64_t i = 0; i < count; i++) all &= valid[i] = !af_best_is_null(rows, column, places[i]);
    return !all;
}

static void af_best_column_values(const af_best_rows *rows, const af_best_column *column, const int32_t *places, int64_t count, void *out) {
    for (int64_t i = 0; i < count; i++) {
        if (i + AF_BEST_AHEAD < count) __builtin_prefetch(af_best_value(rows, column, places[i + AF_BEST_AHEAD]));
        const uint64_t value = *(const uint64_t *)af_best_value(rows, column, places[i]);
        if (column->kind == AF_BEST_BOOL) ((uint8_t *)out)[i] = (uint8_t)value;
        else ((uint64_t *)out)[i] = value;
    }
}

/* Lengths and starts (as far as int32 goes) of the texts of these places; the bytes of all of them. */
static int64_t af_best_column_lengths(const af_best_rows *rows, const af_best_column *column, const int32_t *places, int64_t count,
                                     int32_t *starts, int32_t *lengths) {
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i + AF_BEST_AHEAD < count) __builtin_prefetch(af_best_value(rows, column, places[i + AF_BEST_AHEAD]));
        starts[i] = (int32_t)(uint32_t)total;
        lengths[i] = ((const af_best_text *)af_best_value(rows, column, places[i]))->length;
        total += lengths[i];
    }
    return total;
}

static void af_best_column_texts(const af_best_rows *rows, const af_best_column *column, const int32_t *places, int64_t count, uint8_t *out) {
    for (int64_t i = 0; i < count; i++) {
        if (i + AF_BEST_AHEAD < count)
            __builtin_prefetch(column->bytes + ((const af_best_text *)af_best_value(rows, column, places[i + AF_BEST_AHEAD]))->start);
        const af_best_text *text = af_best_value(rows, column, places[i]);
        af_best_copy(out, column->bytes + text->start, text->length);
        out += text->length;
    }
}

#endif
