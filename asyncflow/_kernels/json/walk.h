/* The NDJSON decoder, compiled once per instruction-set level (json/levels.c): walks a block tile by tile, from records to spans and from
 * spans to columns.  json/compiled.pyx describes the steps. */
#include "columns/columns.h"
#include "json/scan.h"
#include "base/utf8.h"

#include "json/parse.h"

/* Finds the end of each line, and whether the whole block is ASCII; false where memory ran out. */
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
        /* two stores without a test: more than two line ends are rare here, and a branch on their number would be unpredictable */
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

/* Whether the text at ``p`` is the segment's literal.  JSON_HEAD bytes are readable, and as many as the literal has. */
AF_LEVEL_INLINE bool AF_AT(json_segment_stands)(const json_segment *segment, const uint8_t *p) {
#if AF_LEVEL >= 2
    for (uint32_t i = 0; i < JSON_HEAD; i += 16) { /* the first half decides for most literals, and most are no longer */
        __m128i differ = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(p + i)), _mm_loadu_si128((const __m128i *)(segment->head + i)));
        if (!_mm_testz_si128(differ, _mm_loadu_si128((const __m128i *)(segment->mask + i)))) return false;
        if (AF_LIKELY(segment->length <= i + 16)) return true;
    }
#else
    if (memcmp(p, segment->head, segment->length < JSON_HEAD ? segment->length : JSON_HEAD) != 0) return false;
    if (AF_LIKELY(segment->length <= JSON_HEAD)) return true;
#endif
    return memcmp(p + JSON_HEAD, segment->tail, segment->length - JSON_HEAD) == 0;
}

/* Reads the value at ``p`` that follows a segment's literal, and writes its span.  Returns the position after the value; NULL where the
 * parser must read the record. */
AF_LEVEL_INLINE const uint8_t *AF_AT(json_follow_value)(json_walker *w, const json_segment *segment, const uint8_t *p, uint32_t row) {
    const uint8_t *from = p, *to;
    uint32_t kind = JSON_NESTED;
    if (AF_UNLIKELY((*p | 0x20) == '{')) { /* or [ */
        if (segment->walked_into && *p == '{') return NULL;
        p = to = AF_AT(json_parse)(w, p, segment->depth, -1);
    } else {
        p = AF_AT(json_scan_scalar)(w->letters, p, w->end, &kind, &from, &to, true);
    }
    if (AF_UNLIKELY(p == NULL)) return NULL;
    if (segment->column >= 0) json_put(w, segment->column, row, kind, from, to);
    return p;
}

AF_LEVEL_FUNCTION const uint8_t *AF_AT(json_follow_other)(json_walker *w, const json_segment *segment, const uint8_t *p, uint32_t row) {
    return AF_AT(json_follow_value)(w, segment, p, row);
}

/* Reads the record at ``p`` by its layout; false where the parser must read it.  JSON_SLACK bytes after the record are readable. */
AF_LEVEL_INLINE bool AF_AT(json_follow)(json_walker *w, const uint8_t *p) {
    const json_segment *segment;
    const json_successors *next = &w->layouts->segments[JSON_START].after;
    for (;;) {
        segment = next->first;
        if (AF_UNLIKELY(segment == NULL)) return false;
        for (uint32_t i = 1; AF_UNLIKELY(!AF_AT(json_segment_stands)(segment, p)); i++) {
            if (i >= next->count) return false;
            segment = &w->layouts->segments[next->segments[i]];
        }
        next = &segment->after;
        if (AF_UNLIKELY(segment->unusual)) {
            for (uint32_t i = 0; i < segment->clear_count; i++) json_clear_below(w, segment->clears[i], w->row);
            if (segment->ends_record) return true;
        }
        p = AF_AT(json_follow_value)(w, segment, p + segment->length, w->row);
        if (AF_UNLIKELY(p == NULL)) return false;
    }
}

#if AF_LEVEL >= 2
#define EACH(k) _Pragma("GCC unroll 4") for (uint32_t k = 0; k < JSON_LANES; k++)

/* Reads JSON_LANES records in step, along the first successor of each segment; false where the records do not all follow it: each
 * must then be read by itself, and spans of their rows may be set.
 *
 * The start of a value is known only once the end of the value before is found, and the processor looks ahead by a record or two.
 * With several records in step it has other work while it waits for one of them.  Work that is the same for all records is done
 * once. */
AF_LEVEL_INLINE bool AF_AT(json_follow_step)(json_walker *w, const uint8_t *const *records) {
    const json_letters *letters = w->letters;
    const json_successors *next = &w->layouts->segments[JSON_START].after;
    const uint8_t *p[JSON_LANES], *const block = w->block;
    const uint32_t row = w->row;
    EACH(k) p[k] = records[k];
    for (;;) {
        const json_segment *segment = next->first;
        uint32_t begin[JSON_LANES], end[JSON_LANES], odd = 0, kind;
        if (AF_UNLIKELY(segment == NULL)) return false;
#if AF_LEVEL >= 3
        const __m256i head = _mm256_loadu_si256((const __m256i *)segment->head);
        __m256i differ = _mm256_setzero_si256();
        EACH(k) differ = _mm256_or_si256(differ, _mm256_xor_si256(head, _mm256_loadu_si256((const __m256i *)p[k])));
        if (AF_UNLIKELY(!_mm256_testz_si256(differ, _mm256_loadu_si256((const __m256i *)segment->mask)))) return false;
        if (AF_UNLIKELY(segment->length > JSON_HEAD))
            EACH(k) if (!AF_AT(json_segment_stands)(segment, p[k])) return false;
#else
        EACH(k) if (AF_UNLIKELY(!AF_AT(json_segment_stands)(segment, p[k]))) return false;
#endif
        EACH(k) p[k] += segment->length;
        next = &segment->after;
        if (AF_UNLIKELY(segment->unusual)) {
            for (uint32_t i = 0; i < segment->clear_count; i++) EACH(k) json_clear_below(w, segment->clears[i], row + k);
            if (segment->ends_record) return true;
        }
        if (*p[0] == '"') {
            kind = JSON_TEXT;
            EACH(k) {
                /* where none of 32 bytes is a stop, byte 32 is looked at */
                const uint8_t *stop = p[k] + 1 + __builtin_ctzll(AF_AT(json_text_stops)(p[k] + 1, letters) | (uint64_t)1 << 32);
                odd |= (*p[k] ^ '"') | (*stop ^ '"');
                begin[k] = (uint32_t)(p[k] - block);
                end[k] = (uint32_t)(stop - block);
            }
        } else {
            kind = JSON_NUMBER;
            EACH(k) {
                uint32_t length = AF_AT(json_number_length)(p[k], letters, &odd);
                begin[k] = (uint32_t)(p[k] - block) - 1;
                end[k] = begin[k] + 1 + length;
            }
        }
        if (AF_UNLIKELY(odd != 0)) { /* another kind of value, or a value that needs a full scan */
            EACH(k) {
                p[k] = AF_AT(json_follow_other)(w, segment, p[k], row + k);
                if (p[k] == NULL) return false;
            }
            continue;
        }
        EACH(k) p[k] = block + end[k] + (kind == JSON_TEXT);
        if (segment->takes >> kind & 1) {
            json_span *spans = w->spans + (size_t)(uint32_t)segment->column * JSON_TILE_ROWS + row;
            EACH(k) spans[k] = (json_span){begin[k], end[k]};
        } else if (segment->column >= 0) {
            EACH(k) json_put(w, segment->column, row + k, kind, block + begin[k] + 1, block + end[k]);
        }
    }
}

/* Reads the records of JSON_LANES lines from ``line`` on in step; false where they do not go in step, or are too near a bound to try. */
AF_LEVEL_FUNCTION bool AF_AT(json_follow_lanes)(json_walker *w, json_tile *tile, const json_lines *lines, uint32_t line) {
    const uint8_t *at[JSON_LANES];
    json_layouts *graph = w->layouts;
    const uint32_t notes_before = w->note_count;
    uint32_t record = line > 0 ? lines->ends[line - 1] + 1 : 0;
    if (!w->clean || lines->count - line < JSON_LANES || JSON_TILE_ROWS - w->row < JSON_LANES) return false;
    if (w->end - (w->block + lines->ends[line + JSON_LANES - 1]) < JSON_SLACK) return false;
    for (uint32_t k = 0; k < JSON_LANES; k++) {
        if (lines->ends[line + k] - record > w->plan->max_record_bytes) return false;
        at[k] = w->block + record;
        tile->places[w->row + k] = (json_place){record, line + k};
        record = lines->ends[line + k] + 1;
    }
    if (AF_LIKELY(AF_AT(json_follow_step)(w, at) && w->note_count - notes_before <= JSON_STEP_NOTES)) {
        json_order_notes(w, notes_before);
        w->row += JSON_LANES;
        graph->pause = JSON_LEAST_PAUSE;
        return true;
    }
    w->note_count = notes_before;
    for (uint32_t c = 0; c < w->plan->column_count; c++) /* other records may take these rows, if one of the lines becomes no row */
        memset(w->spans + (size_t)c * JSON_TILE_ROWS + w->row, 0, JSON_LANES * sizeof(json_span));
    graph->paused = graph->pause;
    if (graph->pause < JSON_MOST_PAUSE) graph->pause *= 2;
    return false;
}

#undef EACH
#else
AF_LEVEL_INLINE bool AF_AT(json_follow_lanes)(json_walker *w, json_tile *tile, const json_lines *lines, uint32_t line) { return false; }
#endif

/* Reads the record at ``p`` by the whole grammar, and learns its layout; false, with w->reason set, where the record is refused. */
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
    /* the next record's start comes from the index of lines, not from the end of this record, so that the processor can work on both */
    for (; line < lines->count && record < tile_end && w->row < JSON_TILE_ROWS && tile->refused_count < JSON_TILE_ROWS;
         record = lines->ends[line++] + 1) {
        if (w->layouts->paused > 0) {
            w->layouts->paused--;
        } else if (AF_LIKELY(AF_AT(json_follow_lanes)(w, tile, lines, line))) {
            line += JSON_LANES - 1;
            continue;
        }
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
        if (w->reason == JSON_MALFORMED || w->reason == JSON_TOO_DEEP) /* some spans of the row may be set */
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
        for (uint32_t row = 0; row < w->row; row++) { /* a null's empty text is put where its record begins, so that text ends never fall */
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
        out->nulls |= json_finish_fixed(w, tile, &column, c);
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
    w->letters = &json_letter_table;
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
