/* Input and output of the NDJSON decoder: the data that all instruction-set levels share.
 *
 * The wanted columns form a tree of names.  A node stands for a path ("a", "a.b"); its edges are the keys that lead on from an object at
 * that path.  A key may hold dots, so from the root both the keys "a", "b" and the key "a.b" reach the node "a.b".
 *
 * For each wanted value of each row the walker writes a span: begin and end of the value's text in the block.  A value that its
 * column cannot read from a span (text in a number column, text with escapes, ...) also gets a note; notes are read once per tile.
 */
#ifndef ASYNCFLOW_JSON_PLAN_H
#define ASYNCFLOW_JSON_PLAN_H

#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_DEPTH 1000
#define JSON_TILE_ROWS 1024
#define JSON_TILE_BYTES 65536

/* The kinds of values. */
enum json_kind {
    JSON_NULL,
    JSON_NUMBER,
    JSON_CONSTANT, /* NaN, Infinity, -Infinity */
    JSON_TRUE,
    JSON_FALSE,
    JSON_TEXT,      /* a string; the span is what stands between its quotes */
    JSON_ESCAPED,   /* the same, with escapes */
    JSON_SURROGATE, /* the same, with half of a surrogate pair, which UTF-8 cannot express */
    JSON_NESTED,    /* an object or array; the span is its raw text */
    JSON_KINDS
};

/* What a column does with a kind of value. */
enum json_action {
    JSON_TAKE,          /* the column's loop reads the span */
    JSON_TAKE_AND_NOTE, /* the column's loop reads the span, and a note asks for its escapes to be resolved */
    JSON_VOID,          /* null */
    JSON_NOTE           /* null for the column's loop; the note has the value */
};

/* Reasons for which a record is rejected. */
enum json_reason {
    JSON_FINE,
    JSON_TOO_LONG,
    JSON_BAD_UTF8,
    JSON_NOT_OBJECT,
    JSON_MALFORMED,
    JSON_TOO_DEEP,
    JSON_NO_VALUE, /* a required column is null */
    JSON_BAD_VALUE /* the value does not fit the column's type */
};

/* The text of a value, in the shape of columns.h: bytes before + 1 up to, not including, ``end``; offsets in the block. */
typedef struct {
    uint32_t before, end;
} json_span;

typedef struct {
    uint8_t type; /* enum af_kind */
    uint8_t required;
    uint8_t action[JSON_KINDS];
} json_column;

typedef struct {
    uint32_t name_at, name_length; /* in the plan's names */
    int32_t node;
} json_edge;

typedef struct {
    int32_t column;                 /* -1: no column ends here */
    uint32_t edges_at, edge_count;  /* sorted by length, then bytes */
    uint32_t below_at, below_count; /* columns of the paths that go on from here */
} json_node;

typedef struct {
    uint64_t serial; /* from 1, of no other plan of this process */
    uint32_t column_count;
    const json_column *columns;
    const json_node *nodes; /* nodes[0] is the record itself */
    const json_edge *edges;
    const int32_t *below;
    const uint8_t *names;
    uint32_t key_room; /* longest key that may match, written with escapes */
    uint64_t max_record_bytes;
    uint64_t max_rejects; /* more are only counted */
} json_plan;

/* The lines of a block: the position of each line's LF, or of the block's end. */
typedef struct {
    uint32_t *ends;
    uint64_t count, room;
    int ascii; /* the whole block is */
} json_lines;

/* One column's rows.  ``text``: the buffer that a string column's views point into, where escapes are resolved. */
typedef struct {
    void *values; /* a string column's starts */
    int32_t *lengths;
    uint8_t *valid;
    uint8_t *text;
    uint8_t nulls; /* set where there may be some */
} json_output;

typedef struct {
    int64_t line, offset, length, after_row, reason, column, value_start, value_length;
} json_reject;

typedef struct json_scratch json_scratch;

/* The caller sets plan, block and size (below 2**31).  json_survey sets scratch and line_count.  The caller sets outputs, with room
 * for as many rows as lines.  json_decode sets the rest. */
typedef struct {
    const json_plan *plan;
    uint8_t *block;
    uint32_t size;
    json_scratch *scratch;
    uint64_t line_count;
    json_output *outputs;
    int64_t rows, rejected;
    json_reject *rejects; /* malloc'ed; the caller frees it */
    uint64_t reject_count, reject_room;
} json_job;

#endif
