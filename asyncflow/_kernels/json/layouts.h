/* Layouts: the shapes of records that the parser has met, as a graph of segments.
 *
 * A segment is the literal text from one scalar to the next (`{"ts":`, `,"key":`, `}],"b": `), with keys, brackets and white space,
 * and the column of the scalar that follows.  The successors of a segment are the segments that the parser has met right after it.
 * A record that follows the graph needs one masked compare per value; its keys and brackets are not looked at.
 *
 * The graph accepts only what the parser accepts.  A segment belongs to a context: the stack of objects and arrays that are open
 * where its literal begins.  Two segments are linked only after the parser has met them in a row, so the context at the end of a
 * segment is the context of its successor, and each path from the start to a segment that ends a record spells a well-formed
 * record.
 *
 * The graph starts empty and stays bounded.  Where the graph has learned much and still misses, all segments are dropped, and the
 * graph becomes coarse: a nested value without a wanted column is then one value, which the parser skips.  The graph learns more
 * rarely the more it has learned; where no two records look alike, the share of time spent on trying falls.  The graph never
 * changes the meaning of a record.
 */
#ifndef ASYNCFLOW_JSON_LAYOUTS_H
#define ASYNCFLOW_JSON_LAYOUTS_H

#include "base/cpu.h"
#include "json/plan.h"

#define JSON_MAX_SEGMENTS 256
#define JSON_MAX_SUCCESSORS 31
#define JSON_MAX_CONTEXTS 64
#define JSON_MAX_LITERAL 128
#define JSON_HEAD 32 /* bytes of a literal that are compared at once */
#define JSON_POOL_BYTES 16384
#define JSON_SLACK (JSON_MAX_LITERAL + 64) /* bytes that must be readable to follow a segment */
#define JSON_MAX_CLEARS 3
#define JSON_FINE_LINKS 256 /* links after which the graph turns coarse */
#define JSON_LANES 4        /* records that are read in step */
#define JSON_STEP_NOTES 32  /* the most notes that records in step may leave; sorting takes time quadratic in their number */
#define JSON_LEAST_PAUSE 8
#define JSON_MOST_PAUSE 4096
#define JSON_START 0        /* the segment before every record */

struct json_segment;

typedef struct {
    const struct json_segment *first; /* NULL: none */
    uint16_t count;
    uint16_t segments[JSON_MAX_SUCCESSORS]; /* in the order they are tried */
} json_successors;

typedef struct json_segment {
    uint8_t head[JSON_HEAD]; /* the literal's first bytes, zeros behind */
    uint8_t mask[JSON_HEAD];
    json_successors after;
    uint32_t length;
    uint32_t takes; /* bit k: the column of the value that follows reads kind k from its span, so that no note is needed */
    int32_t column; /* of the value that follows, or -1 */
    const uint8_t *tail; /* the rest of the literal, in the pool */
    uint8_t unusual; /* ends a record, or clears columns */
    uint8_t context, depth; /* depth: containers open at the value */
    uint8_t ends_record;
    uint8_t walked_into; /* the value's node has columns below, so an object there must not be skipped */
    uint8_t clear_count;
    int32_t clears[JSON_MAX_CLEARS]; /* nodes whose mention makes the columns below them null */
} json_segment;

/* A segment of the record that the parser reads. */
typedef struct {
    const uint8_t *from, *to; /* the literal */
    int32_t column;
    uint8_t ends_record, walked_into, context, depth, clear_count;
    int32_t clears[JSON_MAX_CLEARS];
} json_step;

typedef struct {
    const json_column *columns; /* the plan's */
    uint32_t segment_count, context_count, pool_used, links, misses;
    uint32_t pause, paused; /* records to read one by one before the next try in step: after the next failure, and from now on */
    bool recording, coarse;
    uint32_t step_count;
    json_step step; /* under way: its literal has begun */
    struct {
        uint8_t parent;
        int32_t node;
    } contexts[JSON_MAX_CONTEXTS];
    json_step steps[JSON_MAX_SEGMENTS];
    json_segment segments[JSON_MAX_SEGMENTS];
    uint8_t pool[JSON_POOL_BYTES];
} json_layouts;

static void json_layouts_clear(json_layouts *graph) {
    memset(&graph->segments[JSON_START], 0, sizeof(json_segment));
    graph->segment_count = 1;
    graph->context_count = 1; /* context 0: inside the record's own object, or before it */
    graph->pool_used = 0;
}

/* An empty graph for a new plan. */
static void json_layouts_start(json_layouts *graph, const json_plan *plan) {
    graph->columns = plan->columns;
    graph->links = graph->misses = 0;
    graph->recording = graph->coarse = false;
    graph->pause = JSON_LEAST_PAUSE;
    graph->paused = 0;
    json_layouts_clear(graph);
}

/* The next literal begins at ``from``, inside a container of that context. */
static void json_record_literal(json_layouts *graph, const uint8_t *from, uint8_t context) {
    graph->step.from = from;
    graph->step.context = context;
    graph->step.clear_count = 0;
}

/* Called before the parser reads a record: decides whether its steps are recorded.  Every 256 links halve how often. */
static void json_record_begin(json_layouts *graph, const uint8_t *record) {
    uint32_t rarity = graph->links / 256 < 8 ? graph->links / 256 : 8;
    graph->recording = (graph->misses++ & ((1u << rarity) - 1)) == 0;
    graph->step_count = 0;
    json_record_literal(graph, record, 0);
}

/* The context of a container that opens inside another; ``node``: -1 an object of no wanted path, -2 an array. */
static uint8_t json_record_context(json_layouts *graph, uint8_t parent, int32_t node) {
    for (uint32_t i = 1; i < graph->context_count; i++)
        if (graph->contexts[i].parent == parent && graph->contexts[i].node == node) return (uint8_t)i;
    if (graph->context_count == JSON_MAX_CONTEXTS) {
        graph->recording = false;
        graph->links += JSON_FINE_LINKS; /* too many contexts: the graph turns coarse sooner */
        return 0;
    }
    graph->contexts[graph->context_count].parent = parent;
    graph->contexts[graph->context_count].node = node;
    return (uint8_t)graph->context_count++;
}

/* The literal mentions a node with columns below it. */
static void json_record_clear(json_layouts *graph, int32_t node) {
    if (graph->step.clear_count == JSON_MAX_CLEARS) graph->recording = false;
    else graph->step.clears[graph->step.clear_count++] = node;
}

/* The literal ends at ``to``: a value begins there, or the record has ended. */
static void json_record_step(json_layouts *graph, const uint8_t *to, bool ends_record, bool walked_into, int32_t column,
                             uint32_t depth) {
    json_step *step = &graph->step;
    if (graph->step_count == JSON_MAX_SEGMENTS || to - step->from > JSON_MAX_LITERAL || depth > 255) graph->recording = false;
    if (!graph->recording) return;
    step->to = to;
    step->ends_record = ends_record;
    step->walked_into = walked_into;
    step->column = column;
    step->depth = (uint8_t)depth;
    graph->steps[graph->step_count++] = *step;
}

static int json_step_is(const json_segment *segment, const json_step *step) {
    uint32_t length = (uint32_t)(step->to - step->from), head = length < JSON_HEAD ? length : JSON_HEAD;
    return segment->length == length && segment->context == step->context && !memcmp(segment->head, step->from, head) &&
           !memcmp(segment->tail, step->from + head, length - head);
}

/* The number of the step's segment, made where it is new; 0 where there is no room. */
static uint32_t json_segment_of(json_layouts *graph, const json_step *step) {
    uint32_t length = (uint32_t)(step->to - step->from), head = length < JSON_HEAD ? length : JSON_HEAD;
    json_segment *segment;
    for (uint32_t i = 1; i < graph->segment_count; i++)
        if (json_step_is(&graph->segments[i], step)) return i;
    if (graph->segment_count == JSON_MAX_SEGMENTS || graph->pool_used + JSON_MAX_LITERAL > JSON_POOL_BYTES) return 0;
    segment = &graph->segments[graph->segment_count];
    memset(segment, 0, sizeof *segment);
    memcpy(segment->head, step->from, head);
    memset(segment->mask, 0xFF, head);
    segment->tail = graph->pool + graph->pool_used;
    memcpy(graph->pool + graph->pool_used, step->from + head, length - head);
    graph->pool_used += length - head;
    segment->length = length;
    segment->column = step->column;
    segment->context = step->context;
    segment->depth = step->depth;
    segment->ends_record = step->ends_record;
    segment->unusual = step->ends_record || step->clear_count > 0;
    for (uint32_t kind = 0; step->column >= 0 && kind < JSON_KINDS; kind++)
        segment->takes |= (uint32_t)(graph->columns[step->column].action[kind] == JSON_TAKE) << kind;
    segment->walked_into = step->walked_into;
    segment->clear_count = step->clear_count;
    memcpy(segment->clears, step->clears, sizeof segment->clears);
    return graph->segment_count++;
}

/* Whether the literal `begin` is a proper prefix of the other: `"a":` of `"a": `. */
static bool json_begins(const json_segment *begin, const json_segment *literal) {
    uint32_t head = begin->length < JSON_HEAD ? begin->length : JSON_HEAD;
    return begin->length < literal->length && !memcmp(begin->head, literal->head, head) &&
           !memcmp(begin->tail, literal->tail, begin->length - head);
}

/* Makes a segment a successor: after the successors that were there before, but before those whose literal is its prefix. */
static void json_link(json_layouts *graph, json_successors *from, uint32_t to) {
    uint32_t at = 0;
    graph->links++;
    if (from->count == JSON_MAX_SUCCESSORS) { /* drops the oldest after the first */
        from->count--;
        memmove(from->segments + 1, from->segments + 2, (from->count - 1u) * sizeof *from->segments);
    }
    while (at < from->count && !json_begins(&graph->segments[from->segments[at]], &graph->segments[to])) at++;
    memmove(from->segments + at + 1, from->segments + at, (from->count - at) * sizeof *from->segments);
    from->segments[at] = (uint16_t)to;
    from->count++;
    from->first = &graph->segments[from->segments[0]];
}

/* After the parser has accepted the record: adds its steps to the graph. */
static void json_record_commit(json_layouts *graph) {
    json_successors *from = &graph->segments[JSON_START].after;
    if (!graph->recording) return;
    if (!graph->coarse && graph->links > JSON_FINE_LINKS) {
        graph->coarse = true; /* from the next record on */
        json_layouts_clear(graph);
        return;
    }
    for (uint32_t i = 0; i < graph->step_count; i++) {
        const json_step *step = &graph->steps[i];
        uint32_t found = 0;
        for (uint32_t k = 0; k < from->count && !found; k++)
            if (json_step_is(&graph->segments[from->segments[k]], step)) found = from->segments[k];
        if (!found) {
            found = json_segment_of(graph, step);
            if (!found) {
                json_layouts_clear(graph);
                return;
            }
            json_link(graph, from, found);
        }
        from = &graph->segments[found].after;
    }
}

#endif
