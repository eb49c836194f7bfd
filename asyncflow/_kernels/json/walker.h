/* The walker: state of the decoder while it reads records, and what it does with keys and values.  Both ways to read a record, by
 * its layout (json/layouts.h) and by the parser (json/parse.h), call these functions.
 */
#ifndef ASYNCFLOW_JSON_WALKER_H
#define ASYNCFLOW_JSON_WALKER_H

#include "json/layouts.h"
#include "json/pieces.h"

/* A value that the column's loop cannot read from its span. */
typedef struct {
    uint32_t row, start, end;
    uint32_t next; /* the next note of the column, see json_sort_notes */
    uint16_t column;
    uint8_t kind;
} json_note;

#define JSON_NO_NOTE UINT32_MAX

typedef struct {
    const json_plan *plan;
    const json_letters *letters;
    const uint8_t *block, *end;
    json_layouts *layouts;
    json_span *spans;    /* [column][JSON_TILE_ROWS]; {0, 0} is null: no value ends there */
    uint32_t row;        /* of the tile, being read */
    uint32_t reason;     /* of the last failure, enum json_reason */
    json_note *notes;    /* of the tile, in row order */
    uint32_t note_count, note_room;
    uint32_t *first_note; /* of each column, once the tile is walked */
    uint8_t *key;        /* room for a key without its escapes: the plan's key_room */
    uint32_t rows_at_most; /* in any tile */
    bool clean;            /* the whole block is UTF-8 */
    bool out_of_memory;
} json_walker;

typedef struct {
    int32_t node;   /* >= 0: an object of the plan's tree */
    int32_t column; /* that takes the container's raw text, or -1 */
    const uint8_t *start;
    bool is_array;
    bool recorded; /* what stands in it becomes part of a layout */
    uint8_t context;
} json_level;

AF_NOINLINE void json_put_unusual(json_walker *w, int32_t column, uint32_t row, uint32_t kind, uint32_t start, uint32_t end) {
    json_span *span = &w->spans[(size_t)column * JSON_TILE_ROWS + row];
    uint8_t action = w->plan->columns[column].action[kind];
    if (action == JSON_VOID) {
        *span = (json_span){0, 0};
        return;
    }
    *span = (json_span){start - 1, action == JSON_NOTE ? start : end};
    if (w->note_count == w->note_room) {
        uint32_t room = w->note_room ? 2 * w->note_room : 256;
        json_note *notes = realloc(w->notes, room * sizeof *notes);
        if (notes == NULL) {
            w->out_of_memory = 1;
            return;
        }
        w->notes = notes;
        w->note_room = room;
    }
    w->notes[w->note_count++] = (json_note){row, start, end, JSON_NO_NOTE, (uint16_t)column, (uint8_t)kind};
}

/* The value of a column in a row being read. */
AF_INLINE void json_put(json_walker *w, int32_t column, uint32_t row, uint32_t kind, const uint8_t *from, const uint8_t *to) {
    uint32_t start = (uint32_t)(from - w->block), end = (uint32_t)(to - w->block);
    if (AF_LIKELY(w->plan->columns[column].action[kind] == JSON_TAKE))
        w->spans[(size_t)column * JSON_TILE_ROWS + row] = (json_span){start - 1, end};
    else
        json_put_unusual(w, column, row, kind, start, end);
}

/* Sorts the notes from number ``first`` on by row: those of a few records that were read in step. */
static void json_order_notes(json_walker *w, uint32_t first) {
    for (uint32_t i = first + 1; i < w->note_count; i++) {
        json_note note = w->notes[i];
        uint32_t at = i;
        for (; at > first && w->notes[at - 1].row > note.row; at--) w->notes[at] = w->notes[at - 1];
        w->notes[at] = note;
    }
}

static void json_clear_below(json_walker *w, int32_t node, uint32_t row) {
    const json_node *at = &w->plan->nodes[node];
    for (uint32_t i = 0; i < at->below_count; i++)
        w->spans[(size_t)w->plan->below[at->below_at + i] * JSON_TILE_ROWS + row] = (json_span){0, 0};
}

static int32_t json_find_key(json_walker *w, int32_t node, const uint8_t *key, uint32_t length, uint32_t kind) {
    const json_plan *plan = w->plan;
    const json_edge *edges = plan->edges + plan->nodes[node].edges_at;
    uint32_t low = 0, high = plan->nodes[node].edge_count;
    if (kind != JSON_TEXT) {
        if (kind == JSON_SURROGATE || length > plan->key_room) return -1;
        length = json_unescape(key, length, w->key);
        key = w->key;
    }
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const json_edge *edge = &edges[middle];
        int order = length != edge->name_length ? (length < edge->name_length ? -1 : 1)
                                                : memcmp(key, plan->names + edge->name_at, length);
        if (order == 0) return edge->node;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return -1;
}

#endif
