/* CSV, compiled once per instruction-set level (base/levels.h): index, rows, columns, drop, and the cut.  csv/csv.h describes the
 * steps. */

#include "columns/columns.h"
#include "csv/masks.h"
#include "base/utf8.h"

/* The index of a tile; positions are in the scratch memory. */
typedef struct {
    uint32_t num_separators, num_newlines, num_broken;
    enum csv_state state; /* at the tile's end */
    bool non_ascii, returns, quotes, escapes;
} AF_AT(csv_index);

/* Makes `p` point at the bytes from data[at] on, 64 of them readable: at the data's end a padded copy of the `count` bytes left. */
#define CSV_LOOK(p, count)                                     \
    const uint8_t *p = data + at;                              \
    uint8_t padded[64];                                        \
    if (AF_UNLIKELY(at + 64 > length)) {                       \
        memset(padded + count, 0, 64 - count);                 \
        p = memcpy(padded, data + at, count);                  \
    }

/* Writes the positions of separators and newlines outside quotes in data[from, to); a record starts at `from`. */
AF_LEVEL_FUNCTION AF_AT(csv_index) AF_AT(csv_find)(const csv_dialect *dialect, const uint8_t *data, uint64_t length, uint32_t from,
                                                   uint32_t to, csv_scratch *scratch) {
    AF_AT(csv_index) index = {0};
    AF_AT(csv_seen) seen;
    memset(&seen, 0, sizeof seen);
    const uint8_t delimiter = dialect->delimiter, quote = dialect->quote;
    uint32_t *separators = scratch->separators, *newlines = scratch->newlines, *broken = scratch->broken;
    enum csv_state state = CSV_OUTSIDE;
    bool quotes = false, escapes = false;
    for (uint64_t at = from; at < to; at += 64) {
        const uint32_t count = to - at < 64 ? (uint32_t)(to - at) : 64;
        CSV_LOOK(p, count)
        AF_AT(csv_masks) masks = AF_AT(csv_look)(p, delimiter, quote, &seen);
        if (AF_UNLIKELY(count < 64)) {
            const uint64_t real = ~(uint64_t)0 >> (64 - count);
            masks.separators &= real;
            masks.newlines &= real;
            masks.quotes &= real;
        }
        if (AF_UNLIKELY((masks.quotes != 0) | (state != CSV_OUTSIDE))) {
            bool field_start = at == from || data[at - 1] == delimiter || data[at - 1] == '\n';
            AF_AT(csv_resolved) resolved = AF_AT(csv_resolve)(masks, p, count, field_start, &state);
            masks.separators = resolved.separators;
            masks.newlines = resolved.newlines;
            quotes = true;
            escapes |= resolved.escapes;
            for (uint64_t bits = resolved.broken; bits != 0; bits &= bits - 1) *broken++ = (uint32_t)at + (uint32_t)__builtin_ctzll(bits);
        }
        newlines = AF_AT(csv_positions)(newlines, (uint32_t)at, masks.newlines, 4);
        separators = AF_AT(csv_positions)(separators, (uint32_t)at, masks.separators, 8);
    }
    AF_AT(csv_tell)(&seen, &index.non_ascii, &index.returns);
    index.num_separators = (uint32_t)(separators - scratch->separators);
    index.num_newlines = (uint32_t)(newlines - scratch->newlines);
    index.num_broken = (uint32_t)(broken - scratch->broken);
    index.state = state;
    index.quotes = quotes;
    index.escapes = escapes;
    return index;
}

/* The rows of a tile: field k of row r lies between bounds[r * stride + k] and bounds[r * stride + k + 1], the shape of columns.h. */
typedef struct {
    const uint32_t *bounds;
    uint32_t stride, rows;
    bool line_ends_cut; /* the last bound of each row stands before its CR, if it has one */
} AF_AT(csv_rows);

/* The rows of a tile that also has bad records: bounds of good rows are copied to `compact`; bad records go to `structural`, each
 * with the number of good rows before it. */
AF_LEVEL_FUNCTION AF_AT(csv_rows) AF_AT(csv_select)(const csv_dialect *dialect, csv_run *run, csv_scratch *scratch,
                                                    const AF_AT(csv_index) * index, uint64_t from, bool utf8) {
    const uint8_t *data = run->data;
    const uint32_t *separators = scratch->separators, *newlines = scratch->newlines, *broken = scratch->broken;
    const uint32_t *broken_end = broken + index->num_broken;
    const uint32_t fields = dialect->fields, num_separators = index->num_separators, num_newlines = index->num_newlines;
    uint32_t *out = scratch->compact, rows = 0, next = 0, start = (uint32_t)from;
    for (uint32_t line = 0; line < num_newlines; line++) {
        const uint32_t newline = newlines[line], first = next;
        const bool good = next + fields <= num_separators && separators[next + fields - 1] == newline;
        if (AF_LIKELY(good))
            next += fields;
        else
            while (separators[next++] != newline) {}
        const uint32_t stop = newline - (newline > start && data[newline - 1] == '\r');
        const bool is_broken = broken < broken_end && *broken < newline;
        broken += is_broken;
        if (AF_LIKELY(good && !is_broken && (stop > start || fields == 1) && (utf8 || AF_AT(utf8_valid)(data + start, stop - start)))) {
            *out++ = start - 1;
            memcpy(out, separators + first, (size_t)(fields - 1) * sizeof *out);
            out += fields;
            out[-1] = stop;
            rows++;
        } else if (stop > start) { /* else an empty line */
            csv_reject *reject = csv_add(&scratch->structural);
            if (reject == NULL) {
                run->no_memory = true;
                break;
            }
            *reject = (csv_reject){.offset = start, .length = stop - start, .after_row = rows, .detail = next - first};
            reject->reason = is_broken ? CSV_TEXT_AFTER_QUOTE
                             : !utf8 && !AF_AT(utf8_valid)(data + start, stop - start) ? CSV_NOT_UTF8
                                                                                       : CSV_FIELD_COUNT;
        }
        start = newline + 1;
    }
    return (AF_AT(csv_rows)){scratch->compact, fields + 1, rows, true};
}

/* Whether every record of the tile has the right number of fields and is not broken. */
AF_LEVEL_FUNCTION bool AF_AT(csv_regular)(const csv_dialect *dialect, const csv_scratch *scratch, const AF_AT(csv_index) * index) {
    const uint32_t fields = dialect->fields, rows = index->num_newlines;
    if (index->num_broken != 0 || (uint64_t)rows * fields != index->num_separators) return false;
    uint32_t differs = 0;
    const uint32_t *last = scratch->separators + fields - 1;
    for (uint32_t row = 0; row < rows; row++) differs |= last[(size_t)row * fields] ^ scratch->newlines[row];
    return differs == 0;
}

/* The texts of one column as pairs of bounds.  Needed where fields have quotes or CRs, because such texts do not end at separators. */
AF_LEVEL_FUNCTION void AF_AT(csv_pair)(const csv_dialect *dialect, const csv_run *run, csv_scratch *scratch, const AF_AT(csv_rows) * rows,
                                       uint32_t field, bool quotes, af_texts *texts) {
    const uint8_t *data = run->data, quote = dialect->quote;
    const uint32_t *bound = rows->bounds + field;
    uint32_t *pair = scratch->pairs;
    const bool cut = !rows->line_ends_cut && field == dialect->fields - 1;
    if (quotes) {
        for (uint32_t row = 0; row < rows->rows; row++, bound += rows->stride, pair += 2) {
            uint32_t begin = bound[0] + 1, end = bound[1];
            end -= cut && end > begin && data[end - 1] == '\r';
            bool quoted = end > begin && data[begin] == quote;
            scratch->quoted[row] = quoted;
            pair[0] = begin + quoted - 1;
            pair[1] = end - quoted;
        }
        texts->quoted = scratch->quoted;
    } else {
        for (uint32_t row = 0; row < rows->rows; row++, bound += rows->stride, pair += 2) {
            uint32_t end = bound[1];
            pair[0] = bound[0];
            pair[1] = end - (end > bound[0] + 1 && data[end - 1] == '\r');
        }
    }
    texts->bounds = scratch->pairs;
    texts->stride = 2;
}

/* Makes two quotes inside a quoted string one, in place. */
AF_LEVEL_FUNCTION void AF_AT(csv_unescape)(csv_run *run, uint8_t quote, const af_column *column, const uint32_t *failed, uint32_t rows) {
    const int32_t *starts = column->values;
    for (uint32_t row = 0; row < rows; row++) {
        uint8_t *text = run->data + starts[row], *end = text + column->lengths[row];
        /* only a quoted field's text has its opening quote right before it, and only there a quote has a meaning */
        if (failed[row] != 0 || text == end || text == run->data || text[-1] != quote) continue;
        uint8_t *read = memchr(text, quote, (size_t)(end - text)), *write = read;
        if (read == NULL) continue;
        while (read < end) {
            read += *read == quote;
            *write++ = *read++;
        }
        column->lengths[row] = (int32_t)(write - text);
    }
}

/* Rejects of the tile in the order of its records: bad records, and rows that a column failed. */
static void AF_AT(csv_reject_rows)(const csv_dialect *dialect, csv_run *run, csv_scratch *scratch, const AF_AT(csv_rows) * rows) {
    const csv_reject *structural = scratch->structural.items, *structural_end = structural + scratch->structural.count;
    uint64_t kept = 0;
    for (uint32_t row = 0; row <= rows->rows; row++) {
        for (; structural < structural_end && structural->after_row == row; structural++) {
            csv_reject *reject = csv_reject_record(run, &scratch->rejects, structural->offset, structural->length, structural->reason,
                                                   run->rows + kept);
            if (reject != NULL) reject->detail = structural->detail;
        }
        if (row == rows->rows) return;
        const uint32_t failed = scratch->failed[row];
        if (failed == 0) {
            kept++;
            continue;
        }
        const uint32_t *bounds = rows->bounds + (size_t)row * rows->stride;
        const uint32_t start = bounds[0] + 1;
        uint32_t stop = bounds[dialect->fields];
        stop -= !rows->line_ends_cut && stop > start && run->data[stop - 1] == '\r';
        csv_reject *reject = csv_reject_record(run, &scratch->rejects, start, stop - start, CSV_BAD_VALUE, run->rows + kept);
        if (reject == NULL) continue;
        const uint32_t field = run->field_of[af_code_column(failed)];
        const uint32_t begin = bounds[field] + 1, end = field == dialect->fields - 1 ? stop : bounds[field + 1];
        const bool quoted = end > begin && run->data[begin] == dialect->quote;
        reject->detail = failed;
        reject->value_begin = begin + quoted;
        reject->value_length = end - begin - 2 * quoted;
    }
}

/* Decodes a tile of complete records: good rows go to the arrays, from row run->rows on. */
AF_LEVEL_FUNCTION enum csv_status AF_AT(csv_tile)(const csv_dialect *dialect, csv_run *run, csv_scratch *scratch,
                                                  const AF_AT(csv_index) * index, uint64_t from, uint64_t to) {
    const bool utf8 = !index->non_ascii || AF_AT(utf8_valid)(run->data + from, to - from);
    AF_AT(csv_rows) rows = {scratch->separators - 1, dialect->fields, index->num_newlines, false};
    scratch->separators[-1] = (uint32_t)from - 1;
    scratch->structural.count = 0;
    if (!utf8 || !AF_AT(csv_regular)(dialect, scratch, index)) rows = AF_AT(csv_select)(dialect, run, scratch, index, from, utf8);
    if (run->rows + rows.rows > run->room) {
        run->room = run->rows + rows.rows; /* what the caller must make room for */
        return CSV_NEEDS_ROOM;
    }
    const uint32_t num_rows = rows.rows;
    memset(scratch->failed, 0, num_rows * sizeof *scratch->failed);
    uint64_t wrong = 0;
    for (uint32_t c = 0; c < run->num_columns; c++) {
        const uint32_t field = run->field_of[c];
        af_texts texts = {.data = run->data,
                          .bounds = rows.bounds + field,
                          .stride = rows.stride,
                          .rows = num_rows,
                          .null_text = dialect->null_text,
                          .null_length = dialect->null_length};
        if (index->quotes || (index->returns && !rows.line_ends_cut && field == dialect->fields - 1))
            AF_AT(csv_pair)(dialect, run, scratch, &rows, field, index->quotes, &texts);
        af_column column = run->columns[c];
        column.values = (uint8_t *)column.values + run->rows * af_value_size(column.kind);
        if (column.kind == AF_STRING) column.lengths += run->rows;
        column.valid += run->rows;
        column.failed = scratch->failed;
        column.wrong = 0;
        AF_AT(fill_column)(&texts, &column);
        run->columns[c].nulls = column.nulls;
        wrong += column.wrong;
    }
    /* before any text is unescaped: rejects keep the text as read, and lines are counted in the text as read */
    if (wrong > 0 || scratch->structural.count > 0) AF_AT(csv_reject_rows)(dialect, run, scratch, &rows);
    if (index->quotes || run->lines_to != from) {
        csv_lines_before(run, to);
    } else {
        run->lines += index->num_newlines - (run->data[to - 1] != '\n');
        run->lines_to = to;
    }
    for (uint32_t c = 0; c < run->num_columns; c++) {
        af_column column = run->columns[c];
        const uint32_t size = af_value_size(column.kind);
        column.values = (uint8_t *)column.values + run->rows * size;
        if (column.kind == AF_STRING) {
            column.lengths += run->rows;
            if (index->escapes) AF_AT(csv_unescape)(run, dialect->quote, &column, scratch->failed, num_rows);
        }
        if (AF_LIKELY(wrong == 0)) continue;
        af_drop_failed(scratch->failed, num_rows, column.values, size);
        af_drop_failed(scratch->failed, num_rows, column.valid + run->rows, 1);
        if (column.kind == AF_STRING) af_drop_failed(scratch->failed, num_rows, (uint8_t *)column.lengths, 4);
    }
    run->rows += num_rows - wrong;
    return run->no_memory ? CSV_NO_MEMORY : CSV_DONE;
}

/* The end of the last complete record of the tile; `from` where no record is complete. */
AF_LEVEL_INLINE uint64_t AF_AT(csv_complete)(const AF_AT(csv_index) * index, const csv_scratch *scratch, uint64_t from) {
    return index->num_newlines > 0 ? scratch->newlines[index->num_newlines - 1] + (uint64_t)1 : from;
}

/* Decodes the block tile by tile.  After CSV_NEEDS_ROOM the next call continues where this one stopped. */
AF_LEVEL_FUNCTION enum csv_status AF_AT(csv_decode)(const csv_dialect *dialect, csv_run *run, csv_scratch *scratch) {
    const uint64_t length = run->length, most = dialect->max_record_bytes;
    const uint64_t largest = most < CSV_TILE_BYTES ? most + 1 : CSV_TILE_BYTES;
    if (run->tile_bytes == 0) run->tile_bytes = largest;
    if (!csv_scratch_fit(scratch, largest)) return CSV_NO_MEMORY;
    while (run->at < length) {
        const uint64_t from = run->at;
        uint64_t to = length - from > run->tile_bytes ? from + run->tile_bytes : length;
        AF_AT(csv_index) index = AF_AT(csv_find)(dialect, run->data, length, (uint32_t)from, (uint32_t)to, scratch);
        uint64_t complete = AF_AT(csv_complete)(&index, scratch, from);
        if (complete == from && !(to == length && index.state != CSV_QUOTED && length - from <= most)) {
            csv_end end = csv_record_end(dialect, run->data, length, from, true, &run->open_until);
            if (end.kind == CSV_LOST) {
                uint64_t stop = end.next - (run->data[end.next - 1] == '\n');
                stop -= stop > from && run->data[stop - 1] == '\r';
                csv_reject_record(run, &scratch->rejects, from, stop - from, end.reason, run->rows);
                csv_lines_before(run, end.next);
                run->at = end.next;
                run->tile_bytes = largest < CSV_TILE_AFTER_OPEN_QUOTE ? largest : CSV_TILE_AFTER_OPEN_QUOTE;
                continue;
            }
            to = end.next; /* a tile of one record */
            if (!csv_scratch_fit(scratch, to - from)) return CSV_NO_MEMORY;
            index = AF_AT(csv_find)(dialect, run->data, length, (uint32_t)from, (uint32_t)to, scratch);
            complete = AF_AT(csv_complete)(&index, scratch, from);
        }
        if (to == length && complete < length && index.state != CSV_QUOTED && length - complete <= most) {
            /* the end of the block ends the last record */
            scratch->separators[index.num_separators++] = (uint32_t)length;
            scratch->newlines[index.num_newlines++] = (uint32_t)length;
            complete = length;
        } else { /* what belongs to the next tile */
            while (index.num_separators > 0 && scratch->separators[index.num_separators - 1] >= complete) index.num_separators--;
            while (index.num_broken > 0 && scratch->broken[index.num_broken - 1] >= complete) index.num_broken--;
        }
        enum csv_status status = AF_AT(csv_tile)(dialect, run, scratch, &index, from, complete);
        if (status != CSV_DONE) return status;
        run->at = complete;
        run->tile_bytes = run->tile_bytes * 2 < largest ? run->tile_bytes * 2 : largest;
    }
    return run->no_memory ? CSV_NO_MEMORY : CSV_DONE;
}

/* Finds where whole records end in the data.  The caller gives the rest again, with the bytes that follow.  Data without quotes is
 * searched backwards for its last newline; from the first quote on, each byte is read once.  Only the unfinished record is
 * measured, so that it stays bounded; decoding measures the others. */
AF_LEVEL_FUNCTION csv_cut_result AF_AT(csv_cut)(const csv_dialect *dialect, csv_cutter *cutter, const uint8_t *data, uint64_t length) {
    const uint64_t most = dialect->max_record_bytes;
    const uint8_t delimiter = dialect->delimiter, quote = dialect->quote;
    if (cutter->skipping) {
        uint64_t inside = 0, next = csv_scan(dialect, data, length, 0, &cutter->place, &inside, 0);
        if (next == UINT64_MAX)
            next = length;
        else
            *cutter = (csv_cutter){0};
        return (csv_cut_result){.resume = next, .lines = csv_count_newlines(data, 0, next)};
    }
    uint64_t record = 0, at = cutter->scanned;
    enum csv_state state = cutter->state;
    bool unknown = false; /* the scanner's state at the data's end is not known */
    csv_open_until open_until = 0;
    csv_place place = {CSV_OUTSIDE, length > 0 && data[length - 1] == delimiter}; /* of the data's end, where there is no quote */
    if (state == CSV_OUTSIDE) {
        const uint8_t *first = memchr(data + at, quote, length - at);
        const uint64_t plain = first != NULL ? (uint64_t)(first - data) : length;
        for (uint64_t back = plain; back > at && record == 0; back--)
            if (data[back - 1] == '\n') record = back;
        at = plain;
    }
    while (at < length && !unknown) {
        if (AF_LIKELY(most >= 64)) {
            const uint32_t count = length - at < 64 ? (uint32_t)(length - at) : 64;
            CSV_LOOK(p, count)
            AF_AT(csv_masks) masks = {0};
            AF_AT(csv_seen) seen;
            memset(&seen, 0, sizeof seen);
            masks = AF_AT(csv_look)(p, delimiter, quote, &seen);
            if (AF_UNLIKELY(count < 64)) {
                const uint64_t real = ~(uint64_t)0 >> (64 - count);
                masks.separators &= real;
                masks.newlines &= real;
                masks.quotes &= real;
            }
            if ((masks.quotes != 0) | (state != CSV_OUTSIDE)) {
                bool field_start = at == record || data[at - 1] == delimiter || data[at - 1] == '\n';
                masks.newlines = AF_AT(csv_resolve)(masks, p, count, field_start, &state).newlines;
            }
            const uint64_t reached = at + (masks.newlines != 0 ? (uint64_t)__builtin_ctzll(masks.newlines) : count);
            if (AF_LIKELY(reached - record <= most)) {
                if (masks.newlines != 0) record = at + 64 - (uint64_t)__builtin_clzll(masks.newlines);
                at += count;
                continue;
            }
        }
        csv_end end = csv_record_end(dialect, data, length, record, false, &open_until);
        if (end.kind == CSV_END || end.kind == CSV_LOST) { /* decoding rejects a lost record */
            record = at = end.next;
            state = CSV_OUTSIDE;
        } else {
            unknown = true;
            place = end.place;
        }
    }
    const bool too_long = length - record > most;
    if (too_long && record == 0) {
        *cutter = (csv_cutter){.skipping = true, .place = place};
        return (csv_cut_result){.resume = length, .lines = csv_count_newlines(data, 0, length), .rejected = true};
    }
    unknown |= too_long; /* the record is given again at once, at data[0], and dropped then */
    cutter->scanned = unknown ? 0 : length - record;
    cutter->state = unknown ? CSV_OUTSIDE : state;
    return (csv_cut_result){.end = record, .resume = record};
}

#undef CSV_LOOK
