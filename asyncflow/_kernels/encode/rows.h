/* Columns to rows of text in one pass.  encode/compiled.pyx calls encode_rows, and grows the buffer.
 *
 * A row is, for each column, a lead (JSON: `{"name":` or `,"name":`; CSV: nothing or the delimiter) and a cell; then the row's end.
 * Room is checked once for the fixed part of a row, and once per string for the longest text that the string can become.  Where the
 * room does not suffice, the row is undone and the caller grows the buffer.  Within the room all stores are whole words: a store
 * may run past the text's end, and the next store overwrites the excess.
 */
#ifndef ASYNCFLOW_ENCODE_ROWS_H
#define ASYNCFLOW_ENCODE_ROWS_H

#include <stddef.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "encode/digits.h"
#include "encode/float.h"

enum { CELL_BOOL, CELL_INT64, CELL_FLOAT64, CELL_STRING, CELL_TIMESTAMP };
enum { STYLE_JSON, STYLE_CSV };

#define CELL_ROOM 64 /* the longest cell of a fixed type (a quoted time, 32 bytes) and the excess of its stores */
#define FLOAT_BLOCK 64
#define NO_SECOND INT64_MIN
#define PIECE 16     /* leads, ends and null texts are padded to whole pieces */

typedef struct {
    int kind;
    const void *values; /* of the kind's type; for strings their text */
    int64_t text_bytes; /* strings only, as the next two */
    const int32_t *starts;
    const int32_t *lengths;
    const uint8_t *valid; /* NULL: no nulls */
    const uint8_t *lead;
    int64_t lead_bytes;
    int64_t second; /* timestamps: the second (or tick) written last, whose text times near it share */
    int64_t second_bytes;
    uint8_t second_text[40];
    uint64_t decimals[FLOAT_BLOCK]; /* floats: of the rows of a block, what four_decimals gives */
} encode_column;

typedef struct {
    int style;
    uint8_t delimiter, quote; /* CSV only */
    int64_t tick_ns;          /* 0: timestamps as ISO-8601 */
    const uint8_t *null;      /* what is written for null */
    int64_t null_bytes;
    const uint8_t *row_end;
    int64_t row_end_bytes;
    int64_t row_room; /* room for a row's leads, fixed cells and end */
} encode_style;

/* Copies a short piece, padded to a multiple of PIECE; stores up to PIECE bytes past its end. */
static inline uint8_t *write_piece(uint8_t *out, const uint8_t *piece, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += PIECE)
        memcpy(out + at, piece + at, PIECE);
    return out + bytes;
}

#define ONES 0x0101010101010101ull
#define HIGHS 0x8080808080808080ull

/* Sets the high bit of the lowest byte that equals `byte`.  Bits above that one may be wrong. */
static inline uint64_t find_byte(uint64_t word, uint8_t byte) {
    const uint64_t difference = word ^ (ONES * byte);
    return (difference - ONES) & ~difference & HIGHS;
}

static inline uint64_t find_below_space(uint64_t word) {
    return (word - ONES * ' ') & ~word & HIGHS;
}

/* The first eight bytes of a text that is not empty; a shorter text is filled up with spaces.  Reads only the text: a short one is put
 * together from overlapping pieces. */
static inline uint64_t load_text(const uint8_t *text, int64_t bytes) {
    if (bytes >= 8)
        return load64(text);
    const uint64_t filling = (ONES * ' ') << (8 * bytes);
    if (bytes >= 4)
        return load32(text) | (uint64_t)load32(text + bytes - 4) << (8 * (bytes - 4)) | filling;
    const int64_t middle = bytes >> 1, last = bytes - 1;
    return text[0] | (uint64_t)text[middle] << (8 * middle) | (uint64_t)text[last] << (8 * last) | filling;
}

/* Copies pieces of 16 bytes while they hold no byte that needs care (`care` finds such bytes).  `readable`: bytes that may be read
 * from the text's begin on.  Stores up to 16 bytes past the end.  Returns how many bytes are done; the careful way does the rest.
 * */
#if defined(__SSE2__)
static inline int64_t copy_plain(uint8_t *out, const uint8_t *text, int64_t bytes, int64_t readable, __m128i (*care)(__m128i, __m128i, __m128i),
                                 __m128i first, __m128i second) {
    int64_t at = 0;
    for (; at < bytes && at + 16 <= readable; at += 16) {
        const __m128i piece = _mm_loadu_si128((const __m128i *)(text + at));
        const uint32_t found = (uint32_t)_mm_movemask_epi8(care(piece, first, second));
        _mm_storeu_si128((__m128i *)(out + at), piece);
        if (found && at + __builtin_ctz(found) < bytes)
            return at;
    }
    return at < bytes ? at : bytes;
}

static inline __m128i json_care(__m128i piece, __m128i quote, __m128i backslash) {
    const __m128i controls = _mm_set1_epi8(0x1f);
    return _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(piece, quote), _mm_cmpeq_epi8(piece, backslash)),
                        _mm_cmpeq_epi8(_mm_max_epu8(piece, controls), controls));
}

static inline __m128i csv_care(__m128i piece, __m128i delimiter, __m128i quote) {
    const __m128i ends = _mm_or_si128(_mm_cmpeq_epi8(piece, _mm_set1_epi8('\n')), _mm_cmpeq_epi8(piece, _mm_set1_epi8('\r')));
    return _mm_or_si128(ends, _mm_or_si128(_mm_cmpeq_epi8(piece, delimiter), _mm_cmpeq_epi8(piece, quote)));
}
#endif

/* Writes at most 6 * bytes + 2 bytes, and stores up to 16 past them.  `readable`: bytes that may be read from the text's begin on. */
static inline uint8_t *write_json_string(uint8_t *out, const uint8_t *text, int64_t bytes, int64_t readable) {
    static const char hex[] = "0123456789abcdef";
    *out++ = '"';
#if defined(__SSE2__)
    const int64_t plain = copy_plain(out, text, bytes, readable, json_care, _mm_set1_epi8('"'), _mm_set1_epi8('\\'));
    out += plain;
    text += plain;
    bytes -= plain;
#endif
    while (bytes > 0) {
        const int64_t here = bytes < 8 ? bytes : 8;
        const uint64_t word = load_text(text, here);
        const uint64_t found = find_byte(word, '"') | find_byte(word, '\\') | find_below_space(word);
        const int64_t clean = found ? __builtin_ctzll(found) >> 3 : here;
        store64(out, word);
        out += clean;
        text += clean;
        bytes -= clean;
        if (!found)
            continue;
        const uint8_t byte = *text++;
        bytes--;
        *out++ = '\\';
        switch (byte) {
        case '"': case '\\': *out++ = byte; break;
        case '\b': *out++ = 'b'; break;
        case '\t': *out++ = 't'; break;
        case '\n': *out++ = 'n'; break;
        case '\f': *out++ = 'f'; break;
        case '\r': *out++ = 'r'; break;
        default:
            memcpy(out, "u00", 3);
            out[3] = (uint8_t)hex[byte >> 4];
            out[4] = (uint8_t)hex[byte & 15];
            out += 5;
        }
    }
    *out++ = '"';
    return out;
}

/* Writes at most 2 * bytes + 2 bytes, and stores up to 16 past them. */
static inline uint8_t *write_csv_string(uint8_t *out, const uint8_t *text, int64_t bytes, int64_t readable, const encode_style *style) {
    if (bytes > 0 && (bytes != style->null_bytes || memcmp(text, style->null, (size_t)bytes) != 0)) {
        int64_t at = 0;
#if defined(__SSE2__)
        at = copy_plain(out, text, bytes, readable, csv_care, _mm_set1_epi8((char)style->delimiter), _mm_set1_epi8((char)style->quote));
#endif
        uint64_t found = 0;
        for (; at < bytes && !found; at += 8) {
            const uint64_t word = load_text(text + at, bytes - at);
            store64(out + at, word);
            found = find_byte(word, style->delimiter) | find_byte(word, style->quote) | find_byte(word, '\n') |
                    find_byte(word, '\r');
            if (found && (at + (__builtin_ctzll(found) >> 3)) >= bytes)
                found = 0; /* the delimiter or quote is a space, and the space found is filling */
        }
        if (!found)
            return out + bytes;
    }
    *out++ = style->quote;
    for (int64_t at = 0; at < bytes; at++) {
        *out++ = text[at];
        if (text[at] == style->quote)
            *out++ = style->quote;
    }
    *out++ = style->quote;
    return out;
}

static inline int64_t floor_divide(int64_t value, int64_t by) {
    const int64_t quotient = value / by;
    return quotient - (value % by < 0);
}

/* Days since 1970-01-01 to year * 10000 + month * 100 + day.  Years begin in March, so that the leap day comes last and the first
 * day of a month is a linear function of the month.  An era is 400 years, 146097 days. */
static inline uint32_t date_digits(int64_t day_of_epoch) {
    const uint32_t day = (uint32_t)(day_of_epoch + 719468); /* since 0000-03-01; int64 nanoseconds reach 1677 to 2262 */
    const uint32_t era = day / 146097, day_of_era = day - era * 146097;
    const uint32_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const uint32_t month = (5 * day_of_year + 2) / 153; /* 0 is March */
    const uint32_t day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    const uint32_t year = era * 400 + year_of_era + (month >= 10);
    return year * 10000 + (month < 10 ? month + 3 : month - 9) * 100 + day_of_month;
}

/* Writes 2023-11-14T22:13:20: 19 bytes, and stores up to 6 past them. */
static inline void write_second(uint8_t *out, int64_t second_of_epoch) {
    const int64_t day = floor_divide(second_of_epoch, 86400);
    const uint32_t second = (uint32_t)(second_of_epoch - day * 86400);
    const uint32_t hour = second / 3600, minute = second / 60 - hour * 60;
    const uint64_t date = eight_digits(date_digits(day)) | ASCII_ZEROS;
    const uint64_t clock = (eight_digits(hour * 10000 + minute * 100 + second % 60) | ASCII_ZEROS) >> 16;
    store64(out, date);
    store64(out + 5, date >> 32);
    store64(out + 8, date >> 48);
    out[4] = out[7] = '-';
    store64(out + 11, clock);
    store64(out + 14, clock >> 16);
    out[10] = 'T';
    out[13] = out[16] = ':';
    out[17] = (uint8_t)(clock >> 32);
    out[18] = (uint8_t)(clock >> 40);
}

/* Writes a number below 1000 as three digits, and stores 5 bytes past them. */
static inline uint8_t *write_3_digits(uint8_t *out, uint32_t value) {
    store64(out, (eight_digits(value) | ASCII_ZEROS) >> 40);
    return out + 3;
}

/* Writes the second, 0, 3, 6 or 9 digits of fraction, and Z: at most 30 bytes, and stores up to 8 past them. */
static inline uint8_t *write_iso(uint8_t *out, int64_t time_ns, encode_column *column) {
    const int64_t second = floor_divide(time_ns, 1000000000);
    const uint32_t fraction_ns = (uint32_t)((uint64_t)time_ns - (uint64_t)second * 1000000000u);
    if (second != column->second) {
        column->second = second;
        write_second(column->second_text, second);
    }
    memcpy(out, column->second_text, 24);
    out += 19;
    if (fraction_ns) {
        const uint32_t micros = fraction_ns / 1000, millis = micros / 1000;
        *out++ = '.';
        out = write_3_digits(out, millis);
        if (millis * 1000000 != fraction_ns) {
            out = write_3_digits(out, micros - millis * 1000);
            if (micros * 1000 != fraction_ns)
                out = write_3_digits(out, fraction_ns - micros * 1000);
        }
    }
    *out++ = 'Z';
    return out;
}

static inline uint8_t *write_float(uint8_t *out, double number, uint64_t decimal, int style) {
    uint64_t bits;
    memcpy(&bits, &number, 8);
    if ((bits >> 52 & 0x7ff) != 0x7ff)
        return write_finite(out, number, decimal);
    const int json = style == STYLE_JSON;
    const char *text = number != number ? (json ? "\"NaN\"" : "NaN")
                       : number > 0     ? (json ? "\"Infinity\"" : "inf")
                                        : (json ? "\"-Infinity\"" : "-inf");
    const size_t bytes = strlen(text);
    memcpy(out, text, bytes);
    return out + bytes;
}

static inline uint8_t *write_timestamp(uint8_t *out, int64_t time_ns, encode_column *column, const encode_style *style) {
    if (style->tick_ns) {
        if (time_ns != column->second || column->second_bytes == 0) {
            column->second = time_ns;
            column->second_bytes = write_int64(column->second_text, floor_divide(time_ns, style->tick_ns)) - column->second_text;
        }
        memcpy(out, column->second_text, 24);
        return out + column->second_bytes;
    }
    const int quoted = style->style == STYLE_JSON;
    *out = '"';
    out = write_iso(out + quoted, time_ns, column);
    *out = '"';
    return out + quoted;
}

enum { ENCODE_DONE, ENCODE_FULL, ENCODE_BAD_STRING };

/* Writes rows *row .. num_rows at *out, before `end`.  ENCODE_FULL: the rows before the new *row are written, the others need more room.
 * ENCODE_BAD_STRING: a string of row *row lies outside its text.  Before the first call, `second` of each column is NO_SECOND and
 * `second_bytes` is 0. */
static int encode_rows(const encode_style *style, encode_column *columns, int64_t num_columns, int64_t num_rows,
                       int64_t *row, uint8_t **out, const uint8_t *end) {
    uint8_t *to = *out;
    int64_t block = *row, upto = *row;
    for (int64_t i = *row; i < num_rows; i++) {
        *row = i;
        *out = to;
        if (i == upto) {
            block = i;
            upto = num_rows - i < FLOAT_BLOCK ? num_rows : i + FLOAT_BLOCK;
            for (int64_t j = 0; j < num_columns; j++)
                if (columns[j].kind == CELL_FLOAT64)
                    four_decimals((const double *)columns[j].values + i, upto - i, columns[j].decimals);
        }
        if (end - to < style->row_room)
            return ENCODE_FULL;
        for (int64_t j = 0; j < num_columns; j++) {
            encode_column *column = columns + j;
            to = write_piece(to, column->lead, column->lead_bytes);
            if (column->valid && !column->valid[i]) {
                to = write_piece(to, style->null, style->null_bytes);
                continue;
            }
            switch (column->kind) {
            case CELL_BOOL: {
                const int truth = ((const uint8_t *)column->values)[i] != 0;
                memcpy(to, truth ? "true\0\0\0" : "false\0\0", 8);
                to += 5 - truth;
                break;
            }
            case CELL_INT64: to = write_int64(to, ((const int64_t *)column->values)[i]); break;
            case CELL_FLOAT64: to = write_float(to, ((const double *)column->values)[i], column->decimals[i - block], style->style); break;
            case CELL_TIMESTAMP: to = write_timestamp(to, ((const int64_t *)column->values)[i], column, style); break;
            default: {
                const int64_t start = column->starts[i], bytes = column->lengths[i];
                if (start < 0 || bytes < 0 || start + bytes > column->text_bytes)
                    return ENCODE_BAD_STRING;
                if (end - to < 6 * bytes + style->row_room)
                    return ENCODE_FULL;
                const uint8_t *text = (const uint8_t *)column->values + start;
                const int64_t readable = column->text_bytes - start;
                to = style->style == STYLE_JSON ? write_json_string(to, text, bytes, readable)
                                                : write_csv_string(to, text, bytes, readable, style);
            }
            }
        }
        to = write_piece(to, style->row_end, style->row_end_bytes);
    }
    *row = num_rows;
    *out = to;
    return ENCODE_DONE;
}

#endif
