/* CSV: bytes to columns.  Types, record scanner and scratch memory that all instruction-set levels share.
 *
 * The steps that a block of whole records goes through (csv/level.h, once per level):
 *
 *   index     64 bytes at a time become bit masks of separators, newlines and quotes; the positions of separators outside quotes are
 *             written to a list.  A tile is at most 64 KiB, so that block and index stay in the second-level cache.
 *   rows      a tile in which every record has the right number of fields is used unchanged; else the positions of good rows are
 *             compacted, and the other records become rejects.
 *   columns   columns/columns.h: one loop per column over the positions.
 *   drop      rows that a column failed become rejects; the remaining rows move together.
 *
 * Records (the twin csv/reference.py specifies them in Python).  A field that begins with the quote is quoted.  In a quoted field
 * two quotes mean one, and delimiters and line ends are text.  After the closing quote only a delimiter or a line end may follow;
 * else the record is broken and ends at the next newline.  In a field that is not quoted the quote is an ordinary byte.  LF ends a
 * record; a CR right before the LF, or before the end of the block, belongs to the line end.  Empty lines are skipped, except where
 * records have one field: there an empty line is a record.
 *
 * A record with more than max_record_bytes before its newline is rejected as a whole: nothing inside its quotes is read as records.  A
 * shorter record that is inside quotes at the end of the block has an open quote: its first line is rejected, and reading resumes on the
 * next line.  Invariant: a tile of at most max_record_bytes + 1 bytes holds no record that is too long; csv_record_end finds the end of
 * records that no tile holds. */
#ifndef ASYNCFLOW_CSV_H
#define ASYNCFLOW_CSV_H

#include "columns/columns.h"

enum { CSV_TILE_BYTES = 1 << 16, CSV_TILE_AFTER_OPEN_QUOTE = 256 };

typedef struct {
    uint8_t delimiter, quote;
    uint32_t fields; /* per record */
    uint32_t null_length;
    const uint8_t *null_text;
    uint64_t max_record_bytes;
} csv_dialect;

/* State of the scanner after some bytes.  OUTSIDE: outside quotes, in a field or at its start (the byte before decides which). */
enum csv_state { CSV_OUTSIDE, CSV_QUOTED, CSV_CLOSED, CSV_CLOSED_CR, CSV_BROKEN };

enum csv_reason { CSV_TOO_LONG, CSV_UNCLOSED, CSV_TEXT_AFTER_QUOTE, CSV_NOT_UTF8, CSV_FIELD_COUNT, CSV_BAD_VALUE };

/* ---- one record's end, bytewise: for records that no tile holds, and open quotes -------------------------------------------------- */

/* Position of a scan within a record.  `field_start`: in state OUTSIDE, a quote here would open a quoted field. */
typedef struct {
    enum csv_state state;
    bool field_start;
} csv_place;

/* The block's end, once a scan has reached it inside quotes without a record end.  That scan was inside quotes at every newline on
 * its way, so a later scan that is inside quotes at one of these newlines takes the same way and may jump here.  So each byte is
 * scanned about once, however many lines an open quote costs. */
typedef uint64_t csv_open_until;

enum csv_end_kind { CSV_END, CSV_MORE, CSV_LOST, CSV_LOST_UNFINISHED };

typedef struct {
    enum csv_end_kind kind;
    enum csv_reason reason; /* of LOST */
    uint64_t next;          /* END, LOST: where the next record starts */
    csv_place place;        /* LOST_UNFINISHED: at the end of the data */
} csv_end;

/* Scans from `at` to the record's end.  Returns the position after the record's newline, or UINT64_MAX where the data ends first;
 * `place` is then the place at the data's end.  `first_newline`: position of the first newline inside quotes, UINT64_MAX where
 * there is none. */
AF_NOINLINE uint64_t csv_scan(const csv_dialect *dialect, const uint8_t *data, uint64_t length, uint64_t at, csv_place *place,
                              uint64_t *first_newline, csv_open_until open_until) {
    const uint64_t none = UINT64_MAX;
    enum csv_state state = place->state;
    bool field_start = place->field_start;
    while (at < length) {
        uint8_t byte = data[at++];
        switch (state) {
        case CSV_OUTSIDE:
            if (byte == '\n') return at;
            if (byte == dialect->quote && field_start) state = CSV_QUOTED;
            field_start = byte == dialect->delimiter;
            break;
        case CSV_QUOTED:
            if (byte == dialect->quote) {
                state = CSV_CLOSED;
            } else if (byte == '\n' && *first_newline == none) {
                *first_newline = at - 1;
                if (open_until > at) at = open_until;
            } else if (*first_newline != none) { /* only a quote matters now */
                const uint8_t *quote = memchr(data + at, dialect->quote, length - at);
                at = quote != NULL ? (uint64_t)(quote - data) : length;
            }
            break;
        case CSV_CLOSED:
            if (byte == '\n') return at;
            field_start = byte == dialect->delimiter;
            state = byte == dialect->quote ? CSV_QUOTED : byte == dialect->delimiter ? CSV_OUTSIDE : byte == '\r' ? CSV_CLOSED_CR : CSV_BROKEN;
            break;
        case CSV_CLOSED_CR:
        case CSV_BROKEN:
            if (byte == '\n') return at;
            state = CSV_BROKEN;
            break;
        }
    }
    *place = (csv_place){state, field_start};
    return none;
}

/* The end of the record that starts at `start`.  MORE: the data ends before the record does (never with `final`).  LOST: the record is
 * rejected.  LOST_UNFINISHED: the record is too long, and its end is not in the data. */
AF_NOINLINE csv_end csv_record_end(const csv_dialect *dialect, const uint8_t *data, uint64_t length, uint64_t start, bool final,
                                   csv_open_until *open_until) {
    const uint64_t most = dialect->max_record_bytes;
    uint64_t first_newline = UINT64_MAX;
    csv_place place = {CSV_OUTSIDE, true};
    const uint64_t next = csv_scan(dialect, data, length, start, &place, &first_newline, *open_until);
    if (next != UINT64_MAX)
        return (csv_end){.kind = next - 1 - start > most ? CSV_LOST : CSV_END, .reason = CSV_TOO_LONG, .next = next};
    if (length - start > most)
        return (csv_end){.kind = final ? CSV_LOST : CSV_LOST_UNFINISHED, .reason = CSV_TOO_LONG, .next = length, .place = place};
    if (!final) return (csv_end){.kind = CSV_MORE};
    if (place.state != CSV_QUOTED) return (csv_end){.kind = CSV_END, .next = length}; /* the end of the data ends the record */
    *open_until = length;
    return (csv_end){.kind = CSV_LOST, .reason = CSV_UNCLOSED, .next = first_newline != UINT64_MAX ? first_newline + 1 : length};
}

static inline uint64_t csv_count_newlines(const uint8_t *data, uint64_t from, uint64_t to) {
    uint64_t count = 0;
    for (; from < to; from++) count += data[from] == '\n';
    return count;
}

/* ---- decoding
 * ----------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t line, offset, after_row; /* of the block, from 0 */
    uint64_t length;                  /* of its text, line end not counted */
    enum csv_reason reason;
    uint32_t detail;                   /* FIELD_COUNT: fields found; BAD_VALUE: the failed code (columns.h) */
    uint64_t value_begin, value_length; /* BAD_VALUE: the text of the value */
} csv_reject;

typedef struct {
    csv_reject *items;
    uint64_t count, room;
} csv_reject_list;

/* Appends a reject for the caller to fill in; NULL where memory ran out. */
static csv_reject *csv_add(csv_reject_list *list) {
    if (list->count == list->room) {
        uint64_t room = list->room * 2 + 64;
        csv_reject *grown = realloc(list->items, room * sizeof *grown);
        if (grown == NULL) return NULL;
        list->items = grown;
        list->room = room;
    }
    return &list->items[list->count++];
}

/* Memory for one decode at a time, kept between calls.  Its sizes follow the largest tile. */
typedef struct {
    uint64_t tile_bytes;
    uint32_t *separators; /* [-1] is the bound before the tile's first byte */
    uint32_t *newlines;
    uint32_t *broken; /* one position inside each broken record */
    uint32_t *compact;
    uint32_t *pairs;
    uint32_t *failed;
    uint8_t *quoted;
    void *memory;
    csv_reject_list structural; /* a tile's records that are no rows */
    csv_reject_list rejects;    /* the block's */
} csv_scratch;

static bool csv_scratch_fit(csv_scratch *scratch, uint64_t tile_bytes) {
    if (tile_bytes <= scratch->tile_bytes) return true;
    const size_t slack = 128; /* a block's positions are written 64 at a time */
    const size_t words = tile_bytes + slack;
    uint32_t *memory = malloc((words * 2 + tile_bytes / 2 + slack + words * 5 + 16) * sizeof(uint32_t) + words);
    if (memory == NULL) return false;
    free(scratch->memory);
    scratch->memory = memory;
    scratch->tile_bytes = tile_bytes;
    scratch->separators = memory + 16;
    scratch->newlines = scratch->separators + words;
    scratch->broken = scratch->newlines + words;
    scratch->compact = scratch->broken + tile_bytes / 2 + slack; /* rows * (fields + 1) <= 2 * bytes */
    scratch->pairs = scratch->compact + 2 * words;
    scratch->failed = scratch->pairs + 2 * words;
    scratch->quoted = (uint8_t *)(scratch->failed + words);
    return true;
}

static void csv_scratch_free(csv_scratch *scratch) {
    free(scratch->memory);
    free(scratch->structural.items);
    free(scratch->rejects.items);
}

/* The work of one call.  `columns` point at the first rows of the arrays; field_of[c] is the field of column c. */
typedef struct {
    uint8_t *data;
    uint64_t length;
    af_column *columns;
    const uint32_t *field_of;
    uint32_t num_columns;
    uint64_t room;         /* rows that the arrays hold */
    uint64_t rejects_kept; /* the most rejects to describe */
    /* progress */
    uint64_t at, rows, rejected;
    uint64_t lines; /* newlines before `lines_to` */
    uint64_t lines_to;
    uint64_t tile_bytes;
    csv_open_until open_until;
    bool no_memory;
} csv_run;

/* Counts the lines up to `offset`, which never falls. */
static inline uint64_t csv_lines_before(csv_run *run, uint64_t offset) {
    run->lines += csv_count_newlines(run->data, run->lines_to, offset);
    run->lines_to = offset;
    return run->lines;
}

/* Counts a reject and appends it to `list`; NULL where enough rejects are described already, or memory ran out. */
static csv_reject *csv_reject_record(csv_run *run, csv_reject_list *list, uint64_t offset, uint64_t length, enum csv_reason reason,
                                     uint64_t after_row) {
    run->rejected++;
    if (list->count >= run->rejects_kept) return NULL;
    csv_reject *reject = csv_add(list);
    if (reject == NULL) {
        run->no_memory = true;
        return NULL;
    }
    *reject = (csv_reject){
        .line = csv_lines_before(run, offset), .offset = offset, .length = length, .reason = reason, .after_row = after_row};
    return reject;
}

enum csv_status { CSV_DONE, CSV_NEEDS_ROOM, CSV_NO_MEMORY };

/* ---- cutting
 * ------------------------------------------------------------------------------------------------------------------------ */

/* State of the unfinished record at the start of the data: its first `scanned` bytes end in `state`. */
typedef struct {
    uint64_t scanned;
    enum csv_state state;
    bool skipping; /* inside a record that is too long, at `place`: bytes are dropped up to its end */
    csv_place place;
} csv_cutter;

typedef struct {
    uint64_t end, resume, lines;
    bool rejected; /* the record at data[0] was too long */
} csv_cut_result;

/* The functions of one instruction-set level. */
typedef struct {
    enum csv_status (*decode)(const csv_dialect *, csv_run *, csv_scratch *);
    csv_cut_result (*cut)(const csv_dialect *, csv_cutter *, const uint8_t *data, uint64_t length);
} csv_functions;

const csv_functions *csv_functions_of(int level);

#endif
