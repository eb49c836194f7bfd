/* Functions of texts, compiled once per instruction-set level (base/levels.h).  texts/texts.h has their contracts.
 *
 * Texts are looked at in blocks of 64 bytes.  A block may reach beyond its text, as long as it lies in the bytes of the column; at
 * their end a padded copy is read. */

#include "base/masks.h"

/* Makes `p` point at 64 readable bytes that begin with those at `at`; only bytes before `stop` count. */
#define TEXTS_LOOK(p, at, stop, end)                                                                  \
    const uint8_t *p = at;                                                                            \
    uint8_t padded_##p[TEXTS_BLOCK];                                                                  \
    if (AF_UNLIKELY(end - p < TEXTS_BLOCK)) {                                                         \
        memset(padded_##p, 0, TEXTS_BLOCK);                                                           \
        p = memcpy(padded_##p, p, (size_t)(stop - p < TEXTS_BLOCK ? stop - p : TEXTS_BLOCK));         \
    }

/* The bits of a block of which `left` bytes (at least 1) count. */
AF_LEVEL_INLINE uint64_t AF_AT(texts_real)(int64_t left) { return ~(uint64_t)0 >> (left < 64 ? 64 - left : 0); }

/* The place of set bit `number`, counted from 0. */
AF_LEVEL_INLINE int AF_AT(texts_bit)(uint64_t bits, int64_t number) {
    if ((bits & (bits + 1)) == 0) return (int)number; /* all set up to the last: characters of ASCII */
    for (; number > 0; number--) bits &= bits - 1;
    return __builtin_ctzll(bits);
}

/* The first place of `wanted` (not empty) in [at, stop), or NULL.  `end`: of the readable bytes. */
AF_LEVEL_INLINE const uint8_t *AF_AT(texts_search)(const uint8_t *at, const uint8_t *stop, const uint8_t *end, texts_piece wanted) {
    const int64_t more = wanted.size - 1;
    if (stop - at <= more) return NULL;
    if (wanted.size > TEXTS_BLOCK) return memmem(at, (size_t)(stop - at), wanted.bytes, (size_t)wanted.size); /* linear */
    const uint8_t *const places = stop - more;
    for (; at < places; at += TEXTS_BLOCK) {
        TEXTS_LOOK(p, at, places, end)
        uint64_t bits = AF_AT(af_equal64)(p, wanted.bytes[0]) & AF_AT(texts_real)(places - at);
        if (bits == 0) continue;
        if (more) {
            const uint8_t *lasts = at + more;
            TEXTS_LOOK(q, lasts, stop, end)
            bits &= AF_AT(af_equal64)(q, wanted.bytes[more]);
        }
        for (; bits; bits &= bits - 1) {
            const uint8_t *place = at + __builtin_ctzll(bits);
            if (more < 2 || memcmp(place + 1, wanted.bytes + 1, (size_t)more - 1) == 0) return place;
        }
    }
    return NULL;
}

/* How often `wanted` (not empty) stands in a text, one after another. */
AF_LEVEL_INLINE int64_t AF_AT(texts_count)(texts_piece text, const uint8_t *end, texts_piece wanted) {
    const uint8_t *at = text.bytes, *const stop = at + text.size;
    int64_t count = 0;
    if (wanted.size == 1) {
        for (; at < stop; at += TEXTS_BLOCK) {
            TEXTS_LOOK(p, at, stop, end)
            count += __builtin_popcountll(AF_AT(af_equal64)(p, wanted.bytes[0]) & AF_AT(texts_real)(stop - at));
        }
        return count;
    }
    while ((at = AF_AT(texts_search)(at, stop, end, wanted)) != NULL) {
        at += wanted.size;
        count++;
    }
    return count;
}

/* The number of characters. */
AF_LEVEL_INLINE int64_t AF_AT(texts_characters)(texts_piece text, const uint8_t *end) {
    const uint8_t *const stop = text.bytes + text.size;
    int64_t count = 0;
    for (const uint8_t *at = text.bytes; at < stop; at += TEXTS_BLOCK) {
        TEXTS_LOOK(p, at, stop, end)
        uint64_t begins = AF_AT(af_begins64)(p) & AF_AT(texts_real)(stop - at);
        count += __builtin_popcountll(begins | (at == text.bytes));
    }
    return count;
}

/* Where character `number` begins, from 0; the text's size where there are fewer. */
AF_LEVEL_INLINE int64_t AF_AT(texts_skip)(texts_piece text, const uint8_t *end, int64_t number) {
    const uint8_t *const stop = text.bytes + text.size;
    if (number <= 0) return 0;
    if (number >= text.size) return text.size;
    for (const uint8_t *at = text.bytes; at < stop; at += TEXTS_BLOCK) {
        TEXTS_LOOK(p, at, stop, end)
        uint64_t begins = AF_AT(af_begins64)(p) & AF_AT(texts_real)(stop - at);
        begins |= at == text.bytes;
        const int64_t count = __builtin_popcountll(begins);
        if (number < count) return at - text.bytes + AF_AT(texts_bit)(begins, number);
        number -= count;
    }
    return text.size;
}

/* -- functions that cut ----------------------------------------------------------------------------------------------------------- */

/* The part after `before` separators of one byte; empty where there are fewer. */
AF_LEVEL_INLINE texts_piece AF_AT(texts_part_at_byte)(texts_piece text, const uint8_t *end, uint8_t separator, int64_t before) {
    const uint8_t *const stop = text.bytes + text.size, *begin = before ? NULL : text.bytes;
    for (const uint8_t *at = text.bytes; at < stop; at += TEXTS_BLOCK) {
        TEXTS_LOOK(p, at, stop, end)
        uint64_t bits = AF_AT(af_equal64)(p, separator) & AF_AT(texts_real)(stop - at);
        if (begin == NULL) {
            const int64_t count = __builtin_popcountll(bits);
            if (count < before) {
                before -= count;
                continue;
            }
            const int place = AF_AT(texts_bit)(bits, before - 1);
            begin = at + place + 1;
            bits &= ~(uint64_t)1 << place;
        }
        if (bits) return (texts_piece){begin, at + __builtin_ctzll(bits) - begin};
    }
    return begin == NULL ? (texts_piece){text.bytes, 0} : (texts_piece){begin, stop - begin};
}

AF_LEVEL_INLINE texts_piece AF_AT(texts_part)(texts_piece text, const uint8_t *end, texts_piece separator, int64_t before) {
    const uint8_t *begin = text.bytes, *const stop = text.bytes + text.size, *found;
    for (; before > 0; before--) {
        begin = AF_AT(texts_search)(begin, stop, end, separator);
        if (begin == NULL) return (texts_piece){text.bytes, 0};
        begin += separator.size;
    }
    found = AF_AT(texts_search)(begin, stop, end, separator);
    return (texts_piece){begin, (found == NULL ? stop : found) - begin};
}

AF_LEVEL_FUNCTION void AF_AT(texts_split_part)(const texts_column *text, const texts_column *separator, texts_numbers number, int64_t rows,
                                               int32_t *starts, int32_t *lengths) {
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row), mark = texts_at(separator, row);
        int64_t before = number.values[row * number.step];
        if (before < 0) before += mark.size ? AF_AT(texts_count)(whole, text->end, mark) + 2 : AF_AT(texts_characters)(whole, text->end) + 1;
        texts_piece part = {whole.bytes, 0};
        if (--before >= 0 && whole.size) {
            if (mark.size == 1) {
                part = AF_AT(texts_part_at_byte)(whole, text->end, mark.bytes[0], before);
            } else if (mark.size) {
                part = AF_AT(texts_part)(whole, text->end, mark, before);
            } else {
                const int64_t begin = AF_AT(texts_skip)(whole, text->end, before);
                part.bytes += begin;
                part.size = begin < whole.size ? texts_next(part.bytes, whole.bytes + whole.size) - part.bytes : 0;
            }
        }
        lengths[row] = (int32_t)part.size;
        starts[row] = texts_start(text, row) + (part.size ? (int32_t)(part.bytes - whole.bytes) : 0);
    }
}

AF_LEVEL_INLINE int64_t AF_AT(texts_sum)(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? (a < 0 ? INT64_MIN : INT64_MAX) : sum;
}

AF_LEVEL_FUNCTION void AF_AT(texts_substring)(const texts_column *text, texts_numbers position, texts_numbers size, int64_t rows, int32_t *starts,
                                              int32_t *lengths) {
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row);
        const int64_t place = position.values[row * position.step];
        int64_t begin = place > 0 ? place - 1 : place == 0 ? -1 : AF_AT(texts_characters)(whole, text->end) + place, end = INT64_MAX;
        if (size.values != NULL) {
            end = AF_AT(texts_sum)(begin, size.values[row * size.step]);
            if (end < begin) {
                const int64_t other = begin;
                begin = end;
                end = other;
            }
        }
        begin = begin < 0 ? 0 : begin;
        const int64_t from = AF_AT(texts_skip)(whole, text->end, begin);
        const texts_piece rest = {whole.bytes + from, whole.size - from};
        const int64_t count = end <= begin ? 0 : AF_AT(texts_skip)(rest, text->end, end - begin);
        lengths[row] = (int32_t)count;
        starts[row] = texts_start(text, row) + (count ? (int32_t)from : 0);
    }
}

/* -- functions that test ---------------------------------------------------------------------------------------------------------- */

AF_LEVEL_FUNCTION void AF_AT(texts_find)(const texts_column *text, const texts_column *wanted, int place, int64_t rows, uint8_t *out) {
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row), part = texts_at(wanted, row);
        if (part.size == 0 || whole.size < part.size)
            out[row] = part.size == 0;
        else if (place == TEXTS_ANYWHERE)
            out[row] = AF_AT(texts_search)(whole.bytes, whole.bytes + whole.size, text->end, part) != NULL;
        else
            out[row] = memcmp(whole.bytes + (place == TEXTS_AT_END ? whole.size - part.size : 0), part.bytes, (size_t)part.size) == 0;
    }
}

/* The first piece stands at the begin, the last at the end, those between in this order, apart from each other; one piece alone is
 * all of the text. */
AF_LEVEL_FUNCTION void AF_AT(texts_like)(const texts_column *text, const texts_piece *pieces, int64_t count, int64_t rows, uint8_t *out) {
    const texts_piece first = pieces[0], last = pieces[count - 1];
    const int64_t least = first.size + (count > 1 ? last.size : 0);
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row);
        const uint8_t *at = whole.bytes + first.size, *stop = whole.bytes + whole.size - last.size;
        out[row] = 0;
        if (whole.size < least || (count == 1 && whole.size > least)) continue;
        if (first.size && memcmp(whole.bytes, first.bytes, (size_t)first.size) != 0) continue;
        if (last.size && memcmp(stop, last.bytes, (size_t)last.size) != 0) continue;
        for (int64_t k = 1; k < count - 1 && at != NULL; k++) {
            if (pieces[k].size == 0) continue;
            at = AF_AT(texts_search)(at, stop, text->end, pieces[k]);
            if (at != NULL) at += pieces[k].size;
        }
        out[row] = at != NULL;
    }
}

/* -- functions that make texts ---------------------------------------------------------------------------------------------------- */

AF_LEVEL_INLINE void AF_AT(texts_change_block)(const uint8_t *restrict p, uint8_t first, uint8_t *restrict to) {
    for (int k = 0; k < TEXTS_BLOCK; k++) to[k] = p[k] ^ (uint8_t)(((uint8_t)(p[k] - first) < 26) << 5);
}

AF_LEVEL_FUNCTION int64_t AF_AT(texts_change_case)(const texts_column *text, const int32_t *table, int64_t table_size, uint8_t first, int64_t rows,
                                                   uint8_t *out, int32_t *starts, int32_t *lengths) {
    uint8_t *to = out;
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row);
        const uint8_t *at = whole.bytes, *const stop = at + whole.size;
        uint8_t *const begin = to;
        for (; at < stop; at += TEXTS_BLOCK, to += TEXTS_BLOCK) {
            TEXTS_LOOK(p, at, stop, text->end)
            if (AF_UNLIKELY(AF_AT(af_above64)(p) & AF_AT(texts_real)(stop - at))) break;
            AF_AT(texts_change_block)(p, first, to);
        }
        if (at < stop) {
            if (table == NULL) return TEXTS_NEEDS_TABLE;
            to = texts_change_characters((texts_piece){at, stop - at}, table, table_size, first, to);
        } else {
            to = begin + whole.size;
        }
        starts[row] = (int32_t)(begin - out);
        lengths[row] = (int32_t)(to - begin);
    }
    return to - out;
}

AF_LEVEL_FUNCTION int64_t AF_AT(texts_replaced_size)(const texts_column *text, const texts_column *old, const texts_column *with, int64_t rows) {
    int64_t total = 0;
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row), from = texts_at(old, row), into = texts_at(with, row);
        total += whole.size;
        if (from.size) total += AF_AT(texts_count)(whole, text->end, from) * (into.size - from.size);
    }
    return total;
}

/* `room`: bytes that the texts may take; TEXTS_BLOCK bytes more may be written. */
AF_LEVEL_FUNCTION bool AF_AT(texts_replace)(const texts_column *text, const texts_column *old, const texts_column *with, int64_t rows,
                                            uint8_t *out, int64_t room, int32_t *starts, int32_t *lengths) {
    uint8_t *to = out, *const full = out + room;
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row), from = texts_at(old, row), into = texts_at(with, row);
        const uint8_t *at = whole.bytes, *const stop = at + whole.size, *found;
        uint8_t *const begin = to;
        while (from.size && (found = AF_AT(texts_search)(at, stop, text->end, from)) != NULL) {
            if (full - to < found - at + into.size) return false;
            texts_copy(to, (texts_piece){at, found - at}, text->end);
            to += found - at;
            texts_copy(to, into, with->end);
            to += into.size;
            at = found + from.size;
        }
        if (full - to < stop - at) return false;
        texts_copy(to, (texts_piece){at, stop - at}, text->end);
        to += stop - at;
        starts[row] = (int32_t)(begin - out);
        lengths[row] = (int32_t)(to - begin);
    }
    return true;
}

#undef TEXTS_LOOK

#define TEXTS_TABLE                                                                                                                    \
    {AF_AT(texts_split_part), AF_AT(texts_substring), AF_AT(texts_find), AF_AT(texts_like), AF_AT(texts_change_case),                  \
     AF_AT(texts_replaced_size), AF_AT(texts_replace)}

static const texts_functions AF_AT(texts_table) = TEXTS_TABLE;

#undef TEXTS_TABLE
