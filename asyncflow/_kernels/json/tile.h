/* A tile: up to JSON_TILE_ROWS records as spans, and the refused records among them.  The work on a tile that is the same for every
 * instruction-set level.
 *
 * json/walk.h calls these functions after the column loops: values with notes are read, null is checked against `required`, failed
 * rows are taken out of every column, and refused records and failed rows go to the reject list in the order of their lines.
 * Invariant: escapes are resolved last, and only of rows that stay, so the block still holds every rejected record unchanged.
 */
#ifndef ASYNCFLOW_JSON_TILE_H
#define ASYNCFLOW_JSON_TILE_H

#include "columns/columns.h"
#include "json/walker.h"

/* The start of a record: byte offset and line, counted from the block's start. */
typedef struct {
    uint32_t offset, line;
} json_place;

typedef struct {
    json_place place;
    uint32_t length, row; /* row: how many rows of the tile come before the record */
    uint8_t reason;
} json_refused;

typedef struct {
    uint32_t refused_count;
    json_place places[JSON_TILE_ROWS];
    json_refused refused[JSON_TILE_ROWS];
    uint32_t failed[JSON_TILE_ROWS];   /* as in af_column: 0, or the first column that failed the row, and why */
    uint16_t position[JSON_TILE_ROWS]; /* the row's place among the rows that stay */
    bool any_failed;
} json_tile;

static void json_fail(json_tile *tile, uint32_t row, uint32_t column, uint32_t status) {
    if (tile->failed[row] == 0) tile->failed[row] = af_code(column) | status;
    tile->any_failed = true;
}

/* The exact int64 of a well-formed decimal number without a fraction (1.0, 1e3); false where no int64 equals the number. */
static bool json_integral(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    af_decimal parts;
    uint64_t value = 0, limit;
    int64_t zeros = 0, exponent;
    bool point = false;
    if (!af_split_decimal(begin, end, &parts)) return false;
    limit = (uint64_t)INT64_MAX + parts.negative;
    exponent = parts.exponent;
    for (const uint8_t *p = parts.digits; p < parts.digits_end; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        exponent -= point;
        if (*p == '0') {
            zeros++; /* multiplied in once another digit follows */
            continue;
        }
        for (; value != 0 && zeros > 0; zeros--)
            if (__builtin_mul_overflow(value, 10, &value)) return false;
        zeros = 0;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    }
    if (value != 0) {
        exponent += zeros;
        if (exponent < 0) return false;
        for (; exponent > 0; exponent--)
            if (__builtin_mul_overflow(value, 10, &value)) return false;
        if (value > limit) return false;
    }
    *out = (int64_t)(parts.negative ? 0 - value : value);
    return true;
}

static int64_t json_unit_ns(uint8_t type) {
    return type == AF_EPOCH_MS ? 1000000 : type == AF_EPOCH_US ? 1000 : type == AF_EPOCH_NS ? 1 : 0;
}

/* Text to a value of a fixed-width type, by the rules that all text formats share. */
static int json_parse_text(uint8_t type, const uint8_t *begin, const uint8_t *end, void *value) {
    switch (type) {
    case AF_BOOL: return af_parse_bool(begin, end, value);
    case AF_INT64: return af_parse_int64(begin, end, value);
    case AF_FLOAT64: return af_parse_float64(begin, end, value);
    case AF_TIMESTAMP: return af_parse_timestamp(begin, end, value);
    case AF_EPOCH_S: return af_parse_epoch_seconds(begin, end, value);
    default: return af_parse_epoch(begin, end, json_unit_ns(type), value);
    }
}

/* Reads a number that the loop of an integer column did not take: with a fraction of zeros or an exponent it may still be an integer. */
static bool json_parse_integral(uint8_t type, const uint8_t *begin, const uint8_t *end, int64_t *value) {
    int64_t integer;
    if (!json_integral(begin, end, &integer)) return false;
    if (type != AF_INT64 && (__builtin_mul_overflow(integer, json_unit_ns(type), &integer) || integer == INT64_MIN)) return false;
    *value = integer;
    return true;
}

/* Reads the value of a note into a column of a fixed-width type. */
static int json_parse_note(json_walker *w, const json_note *note, uint8_t type, void *value) {
    const uint8_t *begin = w->block + note->start;
    uint32_t length = note->end - note->start;
    if (note->kind == JSON_TEXT || (note->kind == JSON_CONSTANT && type == AF_FLOAT64))
        return json_parse_text(type, begin, begin + length, value);
    if (note->kind != JSON_ESCAPED) return AF_WRONG;
    uint8_t *plain = malloc(length);
    if (plain == NULL) {
        w->out_of_memory = 1;
        return AF_WRONG;
    }
    int status = json_parse_text(type, plain, plain + json_unescape(begin, length, plain), value);
    free(plain);
    return status;
}

static bool json_is_current(const json_walker *w, const json_note *note) {
    /* a later mention of the path has replaced the value where the span begins elsewhere */
    return w->spans[(size_t)note->column * JSON_TILE_ROWS + note->row].before + 1 == note->start;
}

/* Links the notes of each column in row order, so that reading all notes takes one pass. */
static void json_sort_notes(json_walker *w) {
    for (uint32_t c = 0; c < w->plan->column_count; c++) w->first_note[c] = JSON_NO_NOTE;
    for (uint32_t i = w->note_count; i-- > 0;) {
        w->notes[i].next = w->first_note[w->notes[i].column];
        w->first_note[w->notes[i].column] = i;
    }
}

/* Finishes a column of a fixed-width type: notes, nulls, and numbers that its loop did not take.  Returns whether there are nulls. */
static bool json_finish_fixed(json_walker *w, json_tile *tile, const af_column *filled, uint32_t c) {
    const json_column *column = &w->plan->columns[c];
    const json_span *spans = w->spans + (size_t)c * JSON_TILE_ROWS;
    uint8_t *values = filled->values, *valid = filled->valid;
    const bool integral = column->type == AF_INT64 || json_unit_ns(column->type) != 0;
    if (filled->wrong > 0) {
        for (uint32_t row = 0; row < w->row; row++) {
            const uint8_t *begin = w->block + spans[row].before + 1, *end = w->block + spans[row].end;
            if (tile->failed[row] >> 2 != filled->code >> 2) continue;
            if (integral && json_parse_integral(column->type, begin, end, (int64_t *)values + row)) tile->failed[row] = 0;
            else tile->any_failed = true;
        }
    }
    for (uint32_t i = w->first_note[c]; i != JSON_NO_NOTE; i = w->notes[i].next) {
        const json_note *note = &w->notes[i];
        if (!json_is_current(w, note)) continue;
        int status = json_parse_note(w, note, column->type, values + (size_t)note->row * af_value_size(column->type));
        if (status == AF_OK) valid[note->row] = 1;
        else json_fail(tile, note->row, c, (uint32_t)status);
    }
    if (memchr(valid, 0, w->row) == NULL) return false;
    for (uint32_t row = 0; row < w->row; row++) {
        if (valid[row]) continue;
        bool missing = spans[row].before + 1 == tile->places[row].offset; /* else an empty text, which is no value */
        if (!missing || column->required) json_fail(tile, row, c, missing ? AF_MISSING : AF_WRONG);
    }
    return true;
}

/* Finishes a string column, before its spans become views: notes and nulls. */
static void json_finish_text(json_walker *w, json_tile *tile, uint32_t c) {
    const json_span *spans = w->spans + (size_t)c * JSON_TILE_ROWS;
    for (uint32_t i = w->first_note[c]; i != JSON_NO_NOTE; i = w->notes[i].next) {
        const json_note *note = &w->notes[i];
        if (note->kind == JSON_SURROGATE && json_is_current(w, note))
            json_fail(tile, note->row, c, AF_WRONG);
    }
    for (uint32_t row = 0; w->plan->columns[c].required && row < w->row; row++)
        if (spans[row].end == 0) json_fail(tile, row, c, AF_MISSING);
}

static void json_reject_record(json_job *job, json_walker *w, json_reject reject) {
    job->rejected++;
    if (job->reject_count >= w->plan->max_rejects) return;
    if (job->reject_count == job->reject_room) {
        uint64_t room = job->reject_room ? 2 * job->reject_room : 16;
        json_reject *rejects = realloc(job->rejects, room * sizeof *rejects);
        if (rejects == NULL) {
            w->out_of_memory = 1;
            return;
        }
        job->rejects = rejects;
        job->reject_room = room;
    }
    job->rejects[job->reject_count++] = reject;
}

/* The raw text, with quotes, of the value that failed the row. */
static json_span json_failed_value(const json_walker *w, uint32_t row, uint32_t column) {
    json_span span = w->spans[(size_t)column * JSON_TILE_ROWS + row];
    uint32_t low = 0, high = w->note_count;
    while (low < high) { /* binary search for the row's first note */
        uint32_t middle = (low + high) / 2;
        if (w->notes[middle].row < row) low = middle + 1;
        else high = middle;
    }
    for (; low < w->note_count && w->notes[low].row == row; low++)
        if (w->notes[low].column == column && json_is_current(w, &w->notes[low])) span.end = w->notes[low].end;
    if (w->block[span.before] == '"') {
        span.before--;
        span.end++;
    }
    return span;
}

/* Appends refused records and failed rows to the reject list, in the order of their lines, and sets the position of every other row.
 * Returns how many rows stay. */
static uint32_t json_sort_out(json_job *job, json_walker *w, json_tile *tile, const json_lines *lines) {
    uint32_t kept = 0, next = 0;
    if (!tile->any_failed && tile->refused_count == 0) return w->row;
    for (uint32_t row = 0; row <= w->row; row++) {
        for (; next < tile->refused_count && tile->refused[next].row == row; next++) {
            const json_refused *refused = &tile->refused[next];
            json_reject_record(job, w, (json_reject){refused->place.line, refused->place.offset, refused->length,
                                                     job->rows + kept, refused->reason, -1, 0, 0});
        }
        if (row == w->row) break;
        tile->position[row] = (uint16_t)kept;
        uint32_t failed = tile->failed[row];
        if (failed == 0) {
            kept++;
            continue;
        }
        const json_place *place = &tile->places[row];
        int64_t length = lines->ends[place->line] - place->offset;
        json_reject reject = {place->line, place->offset, length, job->rows + kept, 0, af_code_column(failed), 0, 0};
        if (af_code_status(failed) == AF_MISSING) {
            reject.reason = JSON_NO_VALUE;
        } else {
            json_span value = json_failed_value(w, row, af_code_column(failed));
            reject.reason = JSON_BAD_VALUE;
            reject.value_start = value.before + 1;
            reject.value_length = value.end - value.before - 1;
        }
        json_reject_record(job, w, reject);
    }
    return kept;
}

/* Makes views of the spans of a string column, for the rows that stay; resolves their escapes in place. */
static void json_write_text(json_job *job, json_walker *w, const json_tile *tile, uint32_t c) {
    const json_span *spans = w->spans + (size_t)c * JSON_TILE_ROWS;
    json_output *out = &job->outputs[c];
    int32_t *starts = (int32_t *)out->values + job->rows, *lengths = out->lengths + job->rows;
    uint8_t *valid = out->valid + job->rows;
    uint32_t all = 1;
    for (uint32_t row = 0; row < w->row; row++) {
        /* a failed row writes too: the next row that stays overwrites its view, or the view lies after the last row */
        uint32_t position = tile->any_failed ? tile->position[row] : row;
        uint32_t has_value = spans[row].end != 0;
        starts[position] = (int32_t)(has_value ? spans[row].before + 1 : 0);
        lengths[position] = (int32_t)(has_value ? spans[row].end - spans[row].before - 1 : 0);
        valid[position] = (uint8_t)has_value;
        all &= has_value;
    }
    out->nulls |= !all;
    for (uint32_t i = w->first_note[c]; i != JSON_NO_NOTE; i = w->notes[i].next) {
        const json_note *note = &w->notes[i];
        if (note->kind != JSON_ESCAPED || !json_is_current(w, note)) continue;
        if (tile->failed[note->row] != 0) continue;
        lengths[tile->any_failed ? tile->position[note->row] : note->row] =
            (int32_t)json_unescape(w->block + note->start, note->end - note->start, out->text + note->start);
    }
}

#endif
