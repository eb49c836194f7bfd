/* The decoder: walks a block tile by tile, records to spans, and hands each tile to json_columns.h.  A body for levels.h. */
#include "columns.h"
#include "json_scan.h"
#include "utf8.h"

#include "json_parse.h"

/* Lines in the block (a last one without its newline included) and whether all of it is ASCII. */
AF_EXPORT void AF_AT(json_survey)(const uint8_t *block, size_t size, uint64_t *lines, int *ascii) {
    uint64_t newlines = 0, high = 0;
    size_t i = 0;
#if AF_LEVEL >= 3
    const __m256i newline = _mm256_set1_epi8('\n');
    __m256i seen = _mm256_setzero_si256();
    for (; i + 32 <= size; i += 32) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(block + i));
        newlines += (uint64_t)__builtin_popcount((uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(x, newline)));
        seen = _mm256_or_si256(seen, x);
    }
    high = (uint32_t)_mm256_movemask_epi8(seen);
#elif AF_LEVEL == 2
    const __m128i newline = _mm_set1_epi8('\n');
    __m128i seen = _mm_setzero_si128();
    for (; i + 16 <= size; i += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(block + i));
        newlines += (uint64_t)__builtin_popcount((uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, newline)));
        seen = _mm_or_si128(seen, x);
    }
    high = (uint32_t)_mm_movemask_epi8(seen);
#endif
    for (; i < size; i++) {
        newlines += block[i] == '\n';
        high |= block[i] & 0x80;
    }
    *lines = newlines + (size > 0 && block[size - 1] != '\n');
    *ascii = high == 0;
}

AF_LEVEL_INLINE int AF_AT(json_segment_stands)(const json_segment *segment, const uint8_t *p) {
#if AF_LEVEL >= 2
    __m128i differ = _mm_xor_si128(_mm_loadu_si128((const __m128i *)p), _mm_loadu_si128((const __m128i *)segment->head));
    if (!_mm_testz_si128(differ, _mm_loadu_si128((const __m128i *)segment->mask))) return 0;
    return AF_LIKELY(segment->length <= 16) || memcmp(p + 16, segment->tail, segment->length - 16u) == 0;
#else
    uint32_t head = segment->length < 16 ? segment->length : 16;
    return memcmp(p, segment->head, head) == 0 && memcmp(p + head, segment->tail, segment->length - head) == 0;
#endif
}

/* Reads the record at ``p`` by its layout: what follows its newline, or NULL, and the parser has to look. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_follow)(json_walker *w, const uint8_t *p) {
    const json_segment *segments = w->layouts->segments, *segment;
    const json_successors *next = &segments[JSON_START].after;
    const uint8_t *from, *to, *end = w->end;
    uint32_t kind;
    for (;;) {
        if (AF_UNLIKELY(end - p < JSON_SLACK)) return NULL;
        for (uint32_t i = 0;; i++) {
            if (AF_UNLIKELY(i == next->count)) return NULL;
            segment = &segments[next->segments[i]];
            if (AF_AT(json_segment_stands)(segment, p)) break;
        }
        p += segment->length;
        if (segment->ends_record) return p;
        if (AF_UNLIKELY(segment->has_below)) {
            json_clear_below(w, segment->node);
            if (*p == '{') {
                if (segment->column >= 0) return NULL;
                p++;
                next = &segment->inside;
                continue;
            }
        }
        next = &segment->after;
        if (AF_UNLIKELY(*p == '{' || *p == '[')) {
            from = p;
            kind = JSON_NESTED;
            p = to = AF_AT(json_parse)(w, p, segment->depth, -1);
        } else {
            p = AF_AT(json_scan_scalar)(p, end, &kind, &from, &to);
        }
        if (AF_UNLIKELY(p == NULL)) return NULL;
        if (segment->column >= 0) json_put(w, segment->column, kind, from, to);
    }
}

/* Reads the record at ``p`` by the whole grammar, and learns its layout; NULL and w->reason where it is refused. */
AF_LEVEL_FUNCTION const uint8_t *AF_AT(json_read_record)(json_walker *w, const uint8_t *p) {
    json_layouts *graph = w->layouts;
    json_record_begin(graph, p);
    p = json_skip_space(p, w->end);
    if (p == w->end || *p != '{') {
        w->reason = JSON_NOT_OBJECT;
        return NULL;
    }
    p = AF_AT(json_parse)(w, p, 0, 0);
    if (p == NULL) return NULL;
    p = json_skip_space(p, w->end);
    if (p == w->end) return p;
    if (*p != '\n') {
        w->reason = JSON_MALFORMED;
        return NULL;
    }
    if (graph->recording) {
        json_record_step(graph, p + 1, JSON_RECORD_END, -1, -1, 0);
        json_record_commit(graph, w->plan->nodes);
    }
    return p + 1;
}

/* Walks records from ``p`` until the tile is full or the block ends; returns where it stopped. */
AF_LEVEL_FUNCTION const uint8_t *AF_AT(json_walk_tile)(json_walker *w, json_tile *tile, const uint8_t *p) {
    const uint8_t *end = w->end, *tile_end = end - p > JSON_TILE_BYTES ? p + JSON_TILE_BYTES : end;
    const uint64_t longest = w->plan->max_record_bytes;
    w->row = tile->refused_count = w->note_count = 0;
    for (uint32_t c = 0; c < w->plan->column_count; c++)
        memset(w->spans + (size_t)c * JSON_TILE_ROWS, 0, w->rows_at_most * sizeof(json_span)); /* all null */
    for (; p < tile_end && w->row < JSON_TILE_ROWS && tile->refused_count < JSON_TILE_ROWS; tile->lines++) {
        const uint8_t *record = p, *line_end = NULL;
        uint32_t notes_before = w->note_count;
        if (AF_LIKELY(w->clean)) {
            p = AF_AT(json_follow)(w, record);
            if (AF_LIKELY(p != NULL) && AF_LIKELY((uint64_t)(p - 1 - record) <= longest)) {
                tile->places[w->row++] = (json_place){(uint32_t)(record - w->block), tile->lines};
                continue;
            }
            w->note_count = notes_before;
        }
        line_end = json_line_end(record, end);
        p = line_end < end ? line_end + 1 : end;
        if ((uint64_t)(line_end - record) > longest) {
            w->reason = JSON_TOO_LONG;
        } else if (json_skip_space(record, line_end) == line_end) {
            continue;
        } else if (!w->clean && !AF_AT(utf8_valid)(record, (size_t)(line_end - record))) {
            w->reason = JSON_BAD_UTF8;
        } else if (AF_AT(json_read_record)(w, record) != NULL) {
            tile->places[w->row++] = (json_place){(uint32_t)(record - w->block), tile->lines};
            continue;
        }
        w->note_count = notes_before;
        for (uint32_t c = 0; c < w->plan->column_count; c++)
            w->spans[(size_t)c * JSON_TILE_ROWS + w->row] = (json_span){0, 0};
        tile->refused[tile->refused_count++] = (json_refused){{(uint32_t)(record - w->block), tile->lines},
                                                              (uint32_t)(line_end - record), w->row, (uint8_t)w->reason};
    }
    return p;
}

/* Spans to columns, for the rows that a tile has walked. */
AF_LEVEL_FUNCTION void AF_AT(json_fill_tile)(json_job *job, json_walker *w, json_tile *tile) {
    const json_plan *plan = w->plan;
    memset(tile->failed, 0, w->row * sizeof *tile->failed);
    tile->any_failed = false;
    for (uint32_t c = 0; c < plan->column_count; c++) {
        json_span *spans = w->spans + (size_t)c * JSON_TILE_ROWS;
        json_output *out = &job->outputs[c];
        if (plan->columns[c].type == AF_STRING) {
            json_finish_text(w, tile, c);
            continue;
        }
        for (uint32_t row = 0; row < w->row; row++) { /* a null's empty text stands where its record begins, so ends never fall */
            uint32_t record = tile->places[row].offset;
            bool null = spans[row].end == 0;
            spans[row] = (json_span){null ? record - 1 : spans[row].before, null ? record : spans[row].end};
        }
        af_texts texts = {.data = w->block, .bounds = (const uint32_t *)spans, .stride = 2, .rows = w->row};
        af_column column = {.kind = plan->columns[c].type,
                            .code = af_code(c),
                            .values = (uint8_t *)out->values + (size_t)job->rows * af_value_size(plan->columns[c].type),
                            .valid = out->valid + job->rows,
                            .failed = tile->failed};
        AF_AT(fill_column)(&texts, &column);
        json_finish_fixed(w, tile, &column, c);
    }
    uint32_t kept = json_sort_out(job, w, tile);
    for (uint32_t c = 0; c < plan->column_count; c++) {
        uint32_t size = af_value_size(plan->columns[c].type);
        if (plan->columns[c].type == AF_STRING) {
            json_write_text(job, w, tile, c);
        } else if (tile->any_failed) {
            af_drop_failed(tile->failed, w->row, (uint8_t *)job->outputs[c].values + (size_t)job->rows * size, size);
            af_drop_failed(tile->failed, w->row, job->outputs[c].valid + job->rows, 1);
        }
    }
    job->rows += kept;
}

/* Decodes a block; false where memory ran out. */
AF_EXPORT bool AF_AT(json_decode)(json_job *job) {
    const json_plan *plan = job->plan;
    const uint8_t *p = job->block;
    json_walker w = {.plan = plan, .block = p, .end = p + job->size, .key_room = plan->key_room};
    json_tile *tile = malloc(sizeof *tile);
    w.rows_at_most = job->lines < JSON_TILE_ROWS ? (uint32_t)job->lines : JSON_TILE_ROWS;
    w.clean = job->ascii || AF_AT(utf8_valid)(p, job->size);
    w.spans = malloc((size_t)plan->column_count * JSON_TILE_ROWS * sizeof(json_span) + 1);
    w.key = malloc((size_t)w.key_room + 1);
    w.layouts = json_layouts_new();
    w.out_of_memory = tile == NULL || w.spans == NULL || w.key == NULL || w.layouts == NULL;
    if (!w.out_of_memory) {
        tile->lines = 0;
        while (p < w.end && !w.out_of_memory) {
            p = AF_AT(json_walk_tile)(&w, tile, p);
            AF_AT(json_fill_tile)(job, &w, tile);
        }
    }
    free(w.layouts);
    free(w.key);
    free(w.spans);
    free(w.notes);
    free(tile);
    return !w.out_of_memory;
}
