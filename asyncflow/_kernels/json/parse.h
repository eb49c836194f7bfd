/* The parser: reads any record by the whole grammar of JSON, with an explicit stack.  json/walk.h includes it, once per level.
 *
 * The parser is the slow way and the only judge: a record that the parser refuses is rejected, a record that it accepts may become
 * a layout. Keys are looked up in the plan's tree (json/plan.h).  Of several mentions of a path the last counts; a mention of an
 * object first makes all columns below the object null.
 */

/* Reads the object or array at ``p``.  ``outside``: how many containers are open around it; ``node``: its node in the plan's tree, or -1.
 * Returns the position after it; NULL, with the reason in w->reason, where the text is not well formed. */
AF_LEVEL_FUNCTION const uint8_t *AF_AT(json_parse)(json_walker *w, const uint8_t *p, uint32_t outside, int32_t node) {
    json_level levels[JSON_MAX_DEPTH + 1], *level = levels;
    const json_node *nodes = w->plan->nodes;
    const uint8_t *end = w->end, *from, *to;
    json_layouts *graph = w->layouts;
    int32_t child, column = -1;
    uint32_t kind;
    uint8_t context = 0;
    bool recorded = node == 0 && graph->recording, is_array;

    w->reason = JSON_MALFORMED;
open: /* *p is { or [; column, node, recorded, context describe the new container */
    if (++level - levels + outside > JSON_MAX_DEPTH) {
        w->reason = JSON_TOO_DEEP;
        return NULL;
    }
    is_array = *p == '[';
    *level = (json_level){is_array ? -1 : node, column, p, is_array, recorded, context};
    p = json_skip_space(p + 1, end);
    if (p == end) return NULL;
    if (*p == (is_array ? ']' : '}')) goto close;
    if (is_array) {
        child = -1;
        goto value;
    }
key:
    if (p == end || *p != '"') return NULL;
    from = p + 1;
    to = AF_AT(json_scan_text)(w->letters, from, end, &kind, false);
    if (to == NULL) return NULL;
    child = level->node < 0 ? -1 : json_find_key(w, level->node, from, (uint32_t)(to - from), kind);
    p = json_skip_space(to + 1, end);
    if (p == end || *p != ':') return NULL;
    p = json_skip_space(p + 1, end);
value:
    if (p == end) return NULL;
    column = node = -1;
    if (child >= 0) {
        column = nodes[child].column;
        if (nodes[child].below_count) {
            node = child;
            json_clear_below(w, node, w->row);
            if (level->recorded) json_record_clear(graph, node);
        }
    }
    if (*p == '{' || *p == '[') {
        recorded = level->recorded && column < 0 && (!graph->coarse || (node >= 0 && *p == '{'));
        if (recorded) {
            context = json_record_context(graph, level->context, *p == '{' ? node : -2);
        } else if (level->recorded) {
            json_record_step(graph, p, false, node >= 0, column, (uint32_t)(level - levels));
            if (node >= 0 && *p == '{') graph->recording = false; /* raw text and fields of one object: only the parser reads such records */
        }
        goto open;
    }
    if (level->recorded) json_record_step(graph, p, false, node >= 0, column, (uint32_t)(level - levels));
    p = AF_AT(json_scan_scalar)(w->letters, p, end, &kind, &from, &to, false);
    if (p == NULL) return NULL;
    if (column >= 0) json_put(w, column, w->row, kind, from, to);
after:
    if (level->recorded) json_record_literal(graph, p, level->context);
after_inner:
    p = json_skip_space(p, end);
    if (p == end) return NULL;
    if (*p == ',') {
        p = json_skip_space(p + 1, end);
        if (!level->is_array) goto key;
        child = -1;
        goto value;
    }
    if (*p != (level->is_array ? ']' : '}')) return NULL;
close:
    p++;
    if (level->column >= 0) json_put(w, level->column, w->row, JSON_NESTED, level->start, p);
    recorded = level->recorded;
    if (--level == levels) return p;
    if (recorded) goto after_inner; /* its bracket is part of the literal that runs on to the next value */
    goto after;
}
