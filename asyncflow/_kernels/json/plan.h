/* What the NDJSON decoder is asked for, and what it gives: data shared by all instruction-set levels.
 *
 * The wanted columns form a tree of names.  A node stands for a path ("a", "a.b"); its edges are the keys that lead
 * on from an object at that path.  A key may hold dots itself, so from the root both "a" then "b", and "a.b" at once,
 * reach the node "a.b".
 *
 * The walker notes for each wanted value of each row a span: where its text starts and ends in the block.  Whatever a
 * column cannot read straight from a span of its usual kind (text under a number column, text with escapes, ...) goes
 * into a list of notes that is worked off once per tile.
 */
#ifndef ASYNCFLOW_JSON_PLAN_H
#define ASYNCFLOW_JSON_PLAN_H

#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_DEPTH 1000
#define JSON_TILE_ROWS 1024
#define JSON_TILE_BYTES 65536

/* What stands at a place where a value may stand. */
enum json_kind {
    JSON_NULL,
    JSON_NUMBER,
    JSON_CONSTANT, /* NaN, Infinity, -Infinity */
    JSON_TRUE,
    JSON_FALSE,
    JSON_TEXT,      /* a string; the span is what stands between its quotes */
    JSON_ESCAPED,   /* the same, with escapes */
    JSON_SURROGATE, /* the same, with half of a surrogate pair: no UTF-8 can say it */
    JSON_NESTED,    /* an object or array; the span is its raw text */
    JSON_KINDS
};

/* What a column does with a kind of value. */
enum json_action {
    JSON_TAKE,          /* the span is what the column's loop reads */
    JSON_TAKE_AND_NOTE, /* the same, and escapes are to be resolved */
    JSON_VOID,          /* null */
    JSON_NOTE           /* null for the column's loop; the note says what is really there */
};

/* Why a record or a value was rejected. */
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

/* Where a value's text stands, as columns.h has it: behind ``before``, up to ``end``; byte offsets in the block. */
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

/* The lines of a block: where each ends, at its LF or at the block's end. */
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

/* In: plan, block, size (below 2**31).  Survey gives scratch and line_count.  In: outputs with room for as many rows as lines.
 * Decode gives the rest. */
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
