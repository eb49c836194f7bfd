/* Functions of texts over columns: what the face (compiled.pyx), the levels (levels.c) and the loops share.
 *
 * A column of one row stands for every row: its step is 0.  Functions that cut give views, `starts` and `lengths`, into the data of
 * the text; an empty result starts where its text starts.  Functions that make texts write them one after another into `out`.  A
 * character begins at every byte that is no continuation byte (10xxxxxx), and at the text's first byte. */
#ifndef ASYNCFLOW_TEXTS_H
#define ASYNCFLOW_TEXTS_H

#include "base/cpu.h"

enum { TEXTS_BLOCK = 64 }; /* bytes that a step reads or writes at once */
enum { TEXTS_NEEDS_TABLE = -1 };
enum { TEXTS_AT_BEGIN, TEXTS_AT_END, TEXTS_ANYWHERE };

typedef struct {
    const uint8_t *data, *end; /* end: of the bytes that may be read */
    const int32_t *starts, *lengths;
    int64_t step;
} texts_column;

typedef struct {
    const int64_t *values;
    int64_t step;
} texts_numbers;

/* A text, or a part of one. */
typedef struct {
    const uint8_t *bytes;
    int64_t size;
} texts_piece;

typedef struct {
    void (*split_part)(const texts_column *text, const texts_column *separator, texts_numbers number, int64_t rows, int32_t *starts,
                       int32_t *lengths);
    void (*substring)(const texts_column *text, texts_numbers position, texts_numbers size, int64_t rows, int32_t *starts, int32_t *lengths);
    void (*find)(const texts_column *text, const texts_column *wanted, int place, int64_t rows, uint8_t *out);
    void (*like)(const texts_column *text, const texts_piece *pieces, int64_t count, int64_t rows, uint8_t *out);
    int64_t (*change_case)(const texts_column *text, const int32_t *table, int64_t table_size, uint8_t first, int64_t rows, uint8_t *out,
                           int32_t *starts, int32_t *lengths);
    int64_t (*replaced_size)(const texts_column *text, const texts_column *old, const texts_column *with, int64_t rows);
    bool (*replace)(const texts_column *text, const texts_column *old, const texts_column *with, int64_t rows, uint8_t *out, int64_t room,
                    int32_t *starts, int32_t *lengths); /* false: no room */
} texts_functions;

/* The functions of a level (base/cpu.h). */
const texts_functions *texts_functions_of(int level);

/* The text of a row.  An empty text may have a start outside of the data: its bytes are not to be read. */
AF_INLINE texts_piece texts_at(const texts_column *column, int64_t row) {
    const int64_t size = column->lengths[row * column->step];
    return (texts_piece){size ? column->data + column->starts[row * column->step] : column->data, size};
}

AF_INLINE int32_t texts_start(const texts_column *column, int64_t row) { return column->starts[row * column->step]; }

AF_INLINE bool texts_continues(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* Copies a text to `to`, where at least 16 bytes more may be written than it has. */
AF_INLINE void texts_copy(uint8_t *to, texts_piece from, const uint8_t *end) {
    if (AF_LIKELY(from.size <= 16 && end - from.bytes >= 16))
        memcpy(to, from.bytes, 16);
    else if (from.size)
        memcpy(to, from.bytes, (size_t)from.size);
}

/* A set of characters: those of ASCII as bits, others by their bytes, found in the text that lists the set. */
typedef struct {
    uint64_t ascii[2];
    const uint8_t *bytes, *stop;
    bool others;
} texts_set;

/* The end of the character that begins at `at`. */
AF_INLINE const uint8_t *texts_next(const uint8_t *at, const uint8_t *stop) {
    for (at++; at < stop && texts_continues(*at); at++) {}
    return at;
}

AF_INLINE texts_set texts_set_of(texts_piece listed) {
    texts_set set = {{0, 0}, listed.bytes, listed.bytes + listed.size, false};
    for (const uint8_t *at = set.bytes, *next; at < set.stop; at = next) {
        next = texts_next(at, set.stop);
        if (*at < 0x80 && next - at == 1)
            set.ascii[*at >> 6] |= (uint64_t)1 << (*at & 63);
        else
            set.others = true;
    }
    return set;
}

AF_NOINLINE bool texts_set_has_other(const texts_set *set, const uint8_t *character, const uint8_t *stop) {
    for (const uint8_t *at = set->bytes, *next; at < set->stop; at = next) {
        next = texts_next(at, set->stop);
        if (next - at == stop - character && memcmp(at, character, (size_t)(stop - character)) == 0) return true;
    }
    return false;
}

AF_INLINE bool texts_set_has(const texts_set *set, const uint8_t *character, const uint8_t *stop) {
    if (stop - character == 1 && *character < 0x80) return set->ascii[*character >> 6] >> (*character & 63) & 1;
    return set->others && texts_set_has_other(set, character, stop);
}

/* Takes the characters of a set away at both ends. */
static void texts_trim(const texts_column *text, const texts_column *characters, int64_t rows, int32_t *starts, int32_t *lengths) {
    texts_set set = {{0, 0}, NULL, NULL, false};
    for (int64_t row = 0; row < rows; row++) {
        if (row == 0 || characters->step) set = texts_set_of(texts_at(characters, row));
        const texts_piece whole = texts_at(text, row);
        const uint8_t *begin = whole.bytes, *end = begin + whole.size;
        while (begin < end) {
            const uint8_t *next = texts_next(begin, end);
            if (!texts_set_has(&set, begin, next)) break;
            begin = next;
        }
        while (end > begin) {
            const uint8_t *last = end - 1;
            while (last > begin && texts_continues(*last)) last--;
            if (!texts_set_has(&set, last, end)) break;
            end = last;
        }
        lengths[row] = (int32_t)(end - begin);
        starts[row] = texts_start(text, row) + (end > begin ? (int32_t)(begin - whole.bytes) : 0);
    }
}

/* The texts of each row, one after another. */
static void texts_concat(const texts_column *columns, int64_t count, int64_t rows, uint8_t *out, int32_t *starts, int32_t *lengths) {
    uint8_t *to = out;
    for (int64_t row = 0; row < rows; row++) {
        uint8_t *const begin = to;
        for (int64_t k = 0; k < count; k++) {
            const texts_piece piece = texts_at(columns + k, row);
            texts_copy(to, piece, columns[k].end);
            to += piece.size;
        }
        starts[row] = (int32_t)(begin - out);
        lengths[row] = (int32_t)(to - begin);
    }
}

/* The character of valid UTF-8 (RFC 3629) at `at`, and its size; size 1 and -1 where there is none. */
AF_INLINE int32_t texts_decode(const uint8_t *at, const uint8_t *stop, int *size) {
    static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t lead = *at;
    const int bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    *size = 1;
    if (lead < 0xC2 || lead > 0xF4 || stop - at < bytes) return -1;
    int32_t character = lead & (0x7F >> bytes);
    for (int k = 1; k < bytes; k++) {
        if (!texts_continues(at[k])) return -1;
        character = character << 6 | (at[k] & 0x3F);
    }
    if (character < least[bytes] || character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) return -1;
    *size = bytes;
    return character;
}

/* Writes a character; returns its end. */
AF_INLINE uint8_t *texts_encode(uint8_t *to, int32_t character) {
    if (character < 0x80) {
        *to++ = (uint8_t)character;
        return to;
    }
    if (character < 0x800) {
        *to++ = (uint8_t)(0xC0 | character >> 6);
    } else {
        if (character < 0x10000) {
            *to++ = (uint8_t)(0xE0 | character >> 12);
        } else {
            *to++ = (uint8_t)(0xF0 | character >> 18);
            *to++ = (uint8_t)(0x80 | (character >> 12 & 0x3F));
        }
        *to++ = (uint8_t)(0x80 | (character >> 6 & 0x3F));
    }
    *to++ = (uint8_t)(0x80 | (character & 0x3F));
    return to;
}

/* Writes a text with the case of each letter changed: letters of ASCII from `first` on by their bit, others by the table.  Bytes that
 * are no UTF-8 stay.  Returns the end. */
AF_NOINLINE uint8_t *texts_change_characters(texts_piece text, const int32_t *table, int64_t table_size, uint8_t first, uint8_t *to) {
    const uint8_t *at = text.bytes, *stop = at + text.size;
    while (at < stop) {
        if (*at < 0x80) {
            *to++ = *at ^ (uint8_t)(((uint8_t)(*at - first) < 26) << 5);
            at++;
            continue;
        }
        int size;
        const int32_t character = texts_decode(at, stop, &size), changed = character >= 0 && character < table_size ? table[character] : character;
        if (changed == character) {
            for (int k = 0; k < size; k++) *to++ = at[k];
        } else {
            to = texts_encode(to, changed);
        }
        at += size;
    }
    return to;
}

#endif
