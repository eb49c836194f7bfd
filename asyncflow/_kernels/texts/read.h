/* Texts to numbers and times, for casts: the plain forms, which nearly all texts have.
 *
 * A text of another form is left to the caller, who knows more forms.  So a reader takes only what every reader of the product reads
 * alike:
 *   TEXTS_INT64      [+-]digits, at most 18 digits
 *   TEXTS_FLOAT64    [+-](digits[.digits] | .digits)[e[+-]digits], the exponent of at most 9 digits
 *   TEXTS_TIMESTAMP  the extended form of numbers/timestamps.h, at most 38 bytes long
 * Spaces and tabs around do not count. */
#ifndef ASYNCFLOW_TEXTS_READ_H
#define ASYNCFLOW_TEXTS_READ_H

#include "numbers/timestamps.h"
#include "texts/texts.h"

enum { TEXTS_INT64, TEXTS_FLOAT64, TEXTS_TIMESTAMP };
enum { TEXTS_INT64_DIGITS = 18, TEXTS_EXPONENT_DIGITS = 9, TEXTS_TIMESTAMP_BYTES = 38 };

AF_INLINE bool texts_read_int64(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    const uint8_t *digits = begin + (begin < end && (*begin == '-' || *begin == '+'));
    return end - digits <= TEXTS_INT64_DIGITS && af_parse_int64(begin, end, out) == AF_OK;
}

AF_INLINE bool texts_read_float64(const uint8_t *begin, const uint8_t *end, double *out) {
    af_decimal parts;
    if (!af_split_decimal(begin, end, &parts)) return false;
    const uint8_t *exponent = parts.digits_end + 1;
    if (exponent < end && (*exponent == '-' || *exponent == '+')) exponent++;
    return end - exponent <= TEXTS_EXPONENT_DIGITS && af_parse_float64(begin, end, out) == AF_OK;
}

AF_INLINE bool texts_read_timestamp(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    if (end - begin < 10 || end - begin > TEXTS_TIMESTAMP_BYTES || begin[4] != '-') return false;
    return af_parse_timestamp(begin, end, out) == AF_OK;
}

/* Sets `values` (of float64: its bits) where the text of a row has a plain form, and `read` to whether it has. */
static void texts_read(const texts_column *text, int kind, int64_t rows, int64_t *values, uint8_t *read) {
    for (int64_t row = 0; row < rows; row++) {
        const texts_piece whole = texts_at(text, row);
        const uint8_t *begin = whole.bytes, *end = begin + whole.size;
        int64_t value = 0;
        double number = 0.0;
        bool known;
        af_trim_blanks(&begin, &end);
        if (kind == TEXTS_FLOAT64) {
            known = texts_read_float64(begin, end, &number);
            memcpy(&value, &number, 8);
        } else {
            known = kind == TEXTS_INT64 ? texts_read_int64(begin, end, &value) : texts_read_timestamp(begin, end, &value);
        }
        values[row] = known ? value : 0;
        read[row] = known;
    }
}

#endif
