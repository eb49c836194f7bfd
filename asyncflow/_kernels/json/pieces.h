/* Pieces of JSON text: escapes, numbers, words, white space.  The same for every instruction-set level.
 *
 * A scanning function takes the first byte of the piece and the end of the readable bytes.  It returns the position after the
 * piece, or NULL where the piece is not well formed.
 */
#ifndef ASYNCFLOW_JSON_PIECES_H
#define ASYNCFLOW_JSON_PIECES_H

#include "base/cpu.h"
#include "json/plan.h"

/* Constants that the scans compare with.  The scans get them by a pointer, so that the compiler loads them: constants that the
 * compiler sees are built anew for each value, which takes longer than a load. */
typedef struct {
    uint8_t quote[32], backslash[32], control[32];
    uint8_t minus[16], zero[16], point[16], body[16], nine[16]; /* body: from the minus to the last that may stand in a number */
} json_letters;

#define JSON_16(byte) byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte, byte
static const json_letters json_letter_table __attribute__((aligned(32))) = {
    {JSON_16('"'), JSON_16('"')}, {JSON_16('\\'), JSON_16('\\')}, {JSON_16(0x1F), JSON_16(0x1F)}, {JSON_16('-')}, {JSON_16('0')},
    {JSON_16('.')},               {JSON_16('9' - '-')},           {JSON_16(9)}};
#undef JSON_16

/* The byte that a one-letter escape stands for; 0 where the letter is no escape. */
static const uint8_t json_escape_value[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                               ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};

static inline int json_is_digit(uint8_t byte) { return (uint8_t)(byte - '0') <= 9; }

/* Reads the four hex digits of \uXXXX, ``p`` at the backslash; returns 0 where there are not four hex digits. */
static inline int json_read_unit(const uint8_t *p, const uint8_t *end, uint32_t *unit) {
    uint32_t value = 0;
    if (end - p < 6) return 0;
    for (int i = 2; i < 6; i++) {
        uint8_t letter = p[i] | 0x20, digit;
        if (json_is_digit(p[i])) digit = p[i] - '0';
        else if ((uint8_t)(letter - 'a') < 6) digit = letter - 'a' + 10;
        else return 0;
        value = value << 4 | digit;
    }
    *unit = value;
    return 1;
}

/* Copies the text of a well-formed string from ``from`` to ``to`` and resolves its escapes.  The two may be equal, because the
 * result is never longer.  Returns the length of the result. */
static inline uint32_t json_unescape(const uint8_t *from, uint32_t length, uint8_t *to) {
    const uint8_t *end = from + length;
    uint8_t *out = to;
    while (from < end) {
        const uint8_t *escape = memchr(from, '\\', (size_t)(end - from));
        uint32_t plain = (uint32_t)((escape == NULL ? end : escape) - from), code = 0, low = 0;
        memmove(out, from, plain);
        out += plain;
        if (escape == NULL) break;
        if (escape[1] != 'u') {
            *out++ = json_escape_value[escape[1]];
            from = escape + 2;
            continue;
        }
        json_read_unit(escape, end, &code);
        from = escape + 6;
        if ((code & 0xF800) == 0xD800) { /* the scan has checked that the low surrogate follows */
            json_read_unit(from, end, &low);
            code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF);
            from += 6;
        }
        if (code < 0x80) {
            *out++ = (uint8_t)code;
        } else if (code < 0x800) {
            *out++ = (uint8_t)(0xC0 | code >> 6);
            *out++ = (uint8_t)(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
            *out++ = (uint8_t)(0xE0 | code >> 12);
            *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
            *out++ = (uint8_t)(0x80 | (code & 0x3F));
        } else {
            *out++ = (uint8_t)(0xF0 | code >> 18);
            *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3F));
            *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
            *out++ = (uint8_t)(0x80 | (code & 0x3F));
        }
    }
    return (uint32_t)(out - to);
}

/* At a backslash: checks one escape (a surrogate pair is one escape) and returns the position after it. */
AF_NOINLINE const uint8_t *json_scan_escape(const uint8_t *p, const uint8_t *end, uint32_t *kind) {
    uint32_t unit = 0;
    if (*kind == JSON_TEXT) *kind = JSON_ESCAPED;
    if (end - p < 2) return NULL;
    if (p[1] != 'u') return json_escape_value[p[1]] ? p + 2 : NULL;
    if (!json_read_unit(p, end, &unit)) return NULL;
    if ((unit & 0xF800) == 0xD800) {
        uint32_t low;
        int paired = unit < 0xDC00 && end - p > 7 && p[6] == '\\' && p[7] == 'u';
        if (paired) {
            if (!json_read_unit(p + 6, end, &low)) return NULL;
            if ((low & 0xFC00) == 0xDC00) return p + 12;
        }
        *kind = JSON_SURROGATE;
    }
    return p + 6;
}

/* Scans a number by JSON's grammar: no leading zeros, digits on both sides of the point. */
AF_NOINLINE const uint8_t *json_scan_long_number(const uint8_t *p, const uint8_t *end) {
    const uint8_t *digits;
    if (p < end && *p == '-') p++;
    digits = p;
    while (p < end && json_is_digit(*p)) p++;
    if (p == digits || (*digits == '0' && p > digits + 1)) return NULL;
    if (p < end && *p == '.') {
        digits = ++p;
        while (p < end && json_is_digit(*p)) p++;
        if (p == digits) return NULL;
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        digits = p;
        while (p < end && json_is_digit(*p)) p++;
        if (p == digits) return NULL;
    }
    return p;
}

/* Scans true, false, null, NaN, Infinity or -Infinity; NULL where the text is none of them. */
static inline const uint8_t *json_scan_word(const uint8_t *p, const uint8_t *end, uint32_t *kind) {
    if (AF_LIKELY(end - p >= 4 && memcmp(p, "null", 4) == 0)) {
        *kind = JSON_NULL;
        return p + 4;
    }
    static const struct {
        const char *text;
        uint8_t length, kind;
    } words[] = {{"true", 4, JSON_TRUE},
                 {"false", 5, JSON_FALSE},
                 {"NaN", 3, JSON_CONSTANT},
                 {"Infinity", 8, JSON_CONSTANT},
                 {"-Infinity", 9, JSON_CONSTANT}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (*p == (uint8_t)words[i].text[0] && end - p >= words[i].length && !memcmp(p, words[i].text, words[i].length)) {
            *kind = words[i].kind;
            return p + words[i].length;
        }
    }
    return NULL;
}

/* The position after spaces, tabs and CRs. */
static inline const uint8_t *json_skip_space(const uint8_t *p, const uint8_t *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
    return p;
}

#endif
