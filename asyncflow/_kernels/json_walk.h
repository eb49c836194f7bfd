/* The decoder: walks a block tile by tile, records to spans, spans to columns.  A body for levels.h. */
#include "columns.h"
#include "json_scan.h"
#include "utf8.h"

#include "json_parse.h"

/* Finds where each line of the block ends, and whether all of it is ASCII; false where memory ran out. */
AF_LEVEL_FUNCTION bool AF_AT(json_find_lines)(const uint8_t *block, size_t size, json_lines *lines) {
    uint64_t high = 0, count = 0;
    for (size_t i = 0; i < size; i += 64) {
        uint64_t newlines = 0;
        if (AF_UNLIKELY(lines->room - count < 66)) {
            uint64_t room = lines->room + lines->room / 2 + size / 64 + 66;
            uint32_t *ends = realloc(lines->ends, room * sizeof *ends);
            if (ends == NULL) return false;
            lines->ends = ends;
            lines->room = room;
        }
#if AF_LEVEL >= 2
        if (AF_LIKELY(size - i >= 64)) {
            const uint8_t *p = block + i;
#if AF_LEVEL >= 3
            const __m256i newline = _mm256_set1_epi8('\n');
            __m256i low = _mm256_loadu_si256((const __m256i *)p), top = _mm256_loadu_si256((const __m256i *)(p + 32));
            newlines = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, newline)) |
                       (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(top, newline)) << 32;
            high |= (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(low, top));
#else
            const __m128i newline = _mm_set1_epi8('\n');
            for (int part = 0; part < 4; part++) {
                __m128i x = _mm_loadu_si128((const __m128i *)(p + 16 * part));
                newlines |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, newline)) << 16 * part;
                high |= (uint32_t)_mm_movemask_epi8(x);
            }
#endif
        } else
#endif
            for (size_t k = i; k < size && k < i + 64; k++) {
                newlines |= (uint64_t)(block[k] == '\n') << (k - i);
                high |= block[k] & 0x80;
            }
        /* two stores without asking: lines are seldom shorter, and a branch on how many there are would be a coin's toss */
        uint64_t others = newlines & (newlines - 1);
        lines->ends[count] = (uint32_t)i + (uint32_t)__builtin_ctzll(newlines | (uint64_t)1 << 63);
        lines->ends[count + 1] = (uint32_t)i + (uint32_t)__builtin_ctzll(others | (uint64_t)1 << 63);
        uint64_t found = (uint64_t)__builtin_popcountll(newlines);
        if (AF_UNLIKELY(found > 2)) {
            others &= others - 1;
            for (uint64_t k = 2; k < found; k++, others &= others - 1)
                lines->ends[count + k] = (uint32_t)i + (uint32_t)__builtin_ctzll(others);
        }
        count += found;
    }
    if (size > 0 && block[size - 1] != '\n') lines->ends[count++] = (uint32_t)size;
    lines->count = count;
    lines->ascii = high == 0;
    return true;
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

/* Reads the record at ``p`` by its layout; false: the parser has to look.  JSON_SLACK bytes behind the record are readable. */
AF_LEVEL_INLINE bool AF_AT(json_follow)(json_walker *w, const uint8_t *p) {
    const json_segment *segment;
    const json_successors *next = &w->layouts->segments[JSON_START].after;
    const uint8_t *from, *to, *end = w->end;
    uint32_t kind;
    for (;;) {
        segment = next->first;
        if (AF_UNLIKELY(segment == NULL)) return false;
        for (uint32_t i = 1; AF_UNLIKELY(!AF_AT(json_segment_stands)(segment, p)); i++) {
            if (i >= next->count) return false;
            segment = &w->layouts->segments[next->segments[i]];
        }
        p += segment->length;
        next = &segment->after;
        if (AF_UNLIKELY(segment->ends_record)) return true;
        for (uint32_t i = 0; AF_UNLIKELY(i < segment->clear_count); i++) json_clear_below(w, segment->clears[i]);
        if (AF_UNLIKELY(*p == '{' || *p == '[')) {
            if (segment->walked_into && *p == '{') return false;
            from = p;
            kind = JSON_NESTED;
            p = to = AF_AT(json_parse)(w, p, segment->depth, -1);
        } else {
            p = AF_AT(json_scan_scalar)(p, end, &kind, &from, &to);
        }
        if (AF_UNLIKELY(p == NULL)) return false;
        if (segment->column >= 0) json_put(w, segment->column, kind, from, to);
    }
}

/* Reads the record at ``p`` by the whole grammar, and learns its layout; false and w->reason where it is refused. */
AF_LEVEL_FUNCTION bool AF_AT(json_read_record)(json_walker *w, const uint8_t *p) {
    json_layouts *graph = w->layouts;
    json_record_begin(graph, p);
    p = json_skip_space(p, w->end);
    if (*p != '{') {
        w->reason = JSON_NOT_OBJECT;
        return false;
    }
    p = AF_AT(json_parse)(w, p, 0, 0);
    if (p == NULL) return false;
    p = json_skip_space(p, w->end);
    if (p == w->end) return true;
    if (*p != '\n') {
        w->reason = JSON_MALFORMED;
        return false;
    }
    if (graph->recording) {
        json_record_step(graph, p + 1, true, false, -1, 0);
        json_record_commit(graph);
    }
    return true;
}

/* Walks lines from number ``line`` until the tile is full or the block ends; returns the number of the next line. */
AF_LEVEL_FUNCTION uint32_t AF_AT(json_walk_tile)(json_walker *w, json_tile *tile, const json_lines *lines, uint32_t line) {
    const uint8_t *block = w->block, *end = w->end;
    const uint64_t longest = w->plan->max_record_bytes;
    uint32_t record = line > 0 ? lines->ends[line - 1] + 1 : 0, tile_end = record + JSON_TILE_BYTES;
    w->row = tile->refused_count = w->note_count = 0;
    for (uint32_t c = 0; c < w->plan->column_count; c++) /* all null */
        memset(w->spans + (size_t)c * JSON_TILE_ROWS, 0, w->rows_at_most * sizeof(json_span));
    /* the next record's place comes from the index, not from the end of this one: so the two can be worked on at the same time */
    for (; line < lines->count && record < tile_end && w->row < JSON_TILE_ROWS && tile->refused_count < JSON_TILE_ROWS;
         record = lines->ends[line++] + 1) {
        const uint8_t *begin = block + record, *line_end = block + lines->ends[line];
        const uint32_t notes_before = w->note_count;
        const bool fits = (uint64_t)(line_end - begin) <= longest;
        if (AF_LIKELY(w->clean && fits && end - line_end >= JSON_SLACK)) {
            if (AF_LIKELY(AF_AT(json_follow)(w, begin))) {
                tile->places[w->row++] = (json_place){record, line};
                continue;
            }
            w->note_count = notes_before;
        }
        if (!fits) {
            w->reason = JSON_TOO_LONG;
        } else if (json_skip_space(begin, line_end) == line_end) {
            continue;
        } else if (!w->clean && !AF_AT(utf8_valid)(begin, (size_t)(line_end - begin))) {
            w->reason = JSON_BAD_UTF8;
        } else if (AF_AT(json_read_record)(w, begin)) {
            tile->places[w->row++] = (json_place){record, line};
            continue;
        }
        w->note_count = notes_before;
        if (w->reason == JSON_MALFORMED || w->reason == JSON_TOO_DEEP) /* it got as far as values */
            for (uint32_t c = 0; c < w->plan->column_count; c++)
                w->spans[(size_t)c * JSON_TILE_ROWS + w->row] = (json_span){0, 0};
        tile->refused[tile->refused_count++] =
            (json_refused){{record, line}, (uint32_t)(line_end - begin), w->row, (uint8_t)w->reason};
    }
    return line;
}

/* Spans to columns, for the rows that a tile has walked. */
AF_LEVEL_FUNCTION void AF_AT(json_fill_tile)(json_job *job, json_walker *w, json_tile *tile, const json_lines *lines) {
    const json_plan *plan = w->plan;
    memset(tile->failed, 0, w->row * sizeof *tile->failed);
    tile->any_failed = false;
    json_sort_notes(w);
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
    uint32_t kept = json_sort_out(job, w, tile, lines);
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

/* Takes working memory for the job and finds the block's lines; false where memory ran out. */
AF_EXPORT bool AF_AT(json_survey)(json_job *job) {
    job->scratch = json_find_scratch();
    if (job->scratch == NULL || !json_suit_scratch(job->scratch, job->plan)) return false;
    if (!AF_AT(json_find_lines)(job->block, job->size, &job->scratch->lines)) return false;
    job->line_count = job->scratch->lines.count;
    return true;
}

/* Decodes a surveyed block; false where memory ran out. */
AF_EXPORT bool AF_AT(json_decode)(json_job *job) {
    const json_lines *lines = &job->scratch->lines;
    json_tile *tile = &job->scratch->tile;
    json_walker *w = &job->scratch->walker;
    w->plan = job->plan;
    w->block = job->block;
    w->end = job->block + job->size;
    w->layouts = &job->scratch->layouts;
    w->rows_at_most = lines->count < JSON_TILE_ROWS ? (uint32_t)lines->count : JSON_TILE_ROWS;
    w->clean = lines->ascii || AF_AT(utf8_valid)(job->block, job->size);
    w->out_of_memory = false;
    for (uint32_t line = 0; line < lines->count && !w->out_of_memory;) {
        line = AF_AT(json_walk_tile)(w, tile, lines, line);
        AF_AT(json_fill_tile)(job, w, tile, lines);
    }
    return !w->out_of_memory;
}
