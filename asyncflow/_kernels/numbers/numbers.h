/* Exact scalar parsers of numbers: text [begin, end) to int64, float64, bool and epoch time.  One row at a time, without SIMD,
 * allocation or locale.  The column loops (columns/columns.h) call these parsers for texts that their fast paths do not take, so
 * the parsers define what is accepted.
 *
 * A parser returns AF_OK, AF_WRONG (the text is no such value) or AF_RANGE (the value does not fit), and writes *out only with AF_OK.
 * Spaces and tabs around a value are ignored; nothing else is.  None reads a byte outside [begin, end).
 *
 *   af_parse_int64          [+-]digits
 *   af_parse_float64        [+-](digits[.digits] | .digits)[e[+-]digits] | [+-]inf | [+-]infinity | nan, any case; what Python's float()
 *                           gives, to the last bit; too large is infinity, too small is zero
 *   af_parse_bool           true false t f 1 0, any case
 *   af_parse_epoch          int64 times a unit, in ns
 *   af_parse_epoch_seconds  a decimal number of seconds, exact, rounded to the nearest ns (half to even)
 *
 * A time is int64 ns; INT64_MIN is kept free (it means "none" to numpy and to watermarks), so it is AF_RANGE. */
#ifndef ASYNCFLOW_NUMBERS_H
#define ASYNCFLOW_NUMBERS_H

#include "base/cpu.h"
#include "numbers/powers.h"

enum { AF_OK = 0, AF_WRONG = 1, AF_RANGE = 2 };

/* 10**0 .. 10**22: the powers of ten that are doubles. */
static const double af_tens[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
static const uint64_t af_integer_tens[20] = {1u,
                                             10u,
                                             100u,
                                             1000u,
                                             10000u,
                                             100000u,
                                             1000000u,
                                             10000000u,
                                             100000000u,
                                             1000000000u,
                                             10000000000u,
                                             100000000000u,
                                             1000000000000u,
                                             10000000000000u,
                                             100000000000000u,
                                             1000000000000000u,
                                             10000000000000000u,
                                             100000000000000000u,
                                             1000000000000000000u,
                                             10000000000000000000u};

AF_INLINE bool af_digit(uint8_t byte) { return (uint8_t)(byte - '0') <= 9; }

AF_INLINE void af_trim_blanks(const uint8_t **begin, const uint8_t **end) {
    while (*begin < *end && (**begin == ' ' || **begin == '\t')) ++*begin;
    while (*begin < *end && ((*end)[-1] == ' ' || (*end)[-1] == '\t')) --*end;
}

/* Whether [begin, end) is the ASCII word, in any case. */
static inline bool af_is_word(const uint8_t *begin, const uint8_t *end, const char *lower_word) {
    size_t length = strlen(lower_word);
    if ((size_t)(end - begin) != length) return false;
    for (size_t i = 0; i < length; i++)
        if ((begin[i] | 0x20) != (uint8_t)lower_word[i]) return false;
    return true;
}

AF_NOINLINE int af_parse_int64(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    af_trim_blanks(&begin, &end);
    bool negative = false, overflow = false;
    if (begin < end && (*begin == '-' || *begin == '+')) negative = *begin++ == '-';
    if (begin == end) return AF_WRONG;
    uint64_t value = 0;
    const uint64_t limit = (uint64_t)INT64_MAX + negative;
    for (; begin < end; begin++) {
        uint8_t digit = (uint8_t)(*begin - '0');
        if (digit > 9) return AF_WRONG;
        if (overflow) continue;
        overflow = value > limit / 10 || value * 10 > limit - digit;
        value = value * 10 + digit;
    }
    if (overflow) return AF_RANGE;
    *out = (int64_t)(negative ? 0 - value : value);
    return AF_OK;
}

AF_NOINLINE int af_parse_epoch(const uint8_t *begin, const uint8_t *end, int64_t unit_ns, int64_t *out) {
    int64_t value;
    int status = af_parse_int64(begin, end, &value);
    if (status != AF_OK) return status;
    if (__builtin_mul_overflow(value, unit_ns, &value) || value == INT64_MIN) return AF_RANGE;
    *out = value;
    return AF_OK;
}

AF_NOINLINE int af_parse_bool(const uint8_t *begin, const uint8_t *end, uint8_t *out) {
    af_trim_blanks(&begin, &end);
    if (end - begin == 1) {
        uint8_t byte = *begin | 0x20;
        if (byte != 't' && byte != 'f' && *begin != '0' && *begin != '1') return AF_WRONG;
        *out = byte == 't' || *begin == '1';
        return AF_OK;
    }
    if (af_is_word(begin, end, "true"))
        *out = 1;
    else if (af_is_word(begin, end, "false"))
        *out = 0;
    else
        return AF_WRONG;
    return AF_OK;
}

/* The parts of a decimal number.  [digits, digits_end) holds its digits and at most one point. */
typedef struct {
    bool negative;
    const uint8_t *digits, *digits_end;
    int64_t exponent; /* the written one */
} af_decimal;

/* Splits trimmed text into sign, digits and exponent; false where it is not a decimal number. */
static inline bool af_split_decimal(const uint8_t *begin, const uint8_t *end, af_decimal *parts) {
    const int64_t largest = (int64_t)1 << 40; /* far more than the number of digits of any record */
    *parts = (af_decimal){0};
    if (begin < end && (*begin == '-' || *begin == '+')) parts->negative = *begin++ == '-';
    parts->digits = begin;
    bool any = false;
    for (; begin < end && af_digit(*begin); begin++) any = true;
    if (begin < end && *begin == '.')
        for (begin++; begin < end && af_digit(*begin); begin++) any = true;
    parts->digits_end = begin;
    if (!any) return false;
    if (begin < end && (*begin | 0x20) == 'e') {
        begin++;
        bool negative = false;
        if (begin < end && (*begin == '-' || *begin == '+')) negative = *begin++ == '-';
        if (begin == end) return false;
        for (; begin < end && af_digit(*begin); begin++)
            if (parts->exponent < largest) parts->exponent = parts->exponent * 10 + (*begin - '0');
        if (negative) parts->exponent = -parts->exponent;
    }
    return begin == end;
}

/* Eisel-Lemire: mantissa * 10**exponent, mantissa != 0, correctly rounded; false where the method cannot decide. */
static inline bool af_scale(uint64_t mantissa, int64_t exponent, double *out) {
    if (exponent < AF_POWER_MIN) return *out = 0.0, true;
    if (exponent > AF_POWER_MAX) return *out = __builtin_inf(), true;
    int shift = __builtin_clzll(mantissa);
    mantissa <<= shift;
    const uint64_t *power = af_powers[exponent - AF_POWER_MIN];
    __uint128_t product = (__uint128_t)mantissa * power[0];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1FF) == 0x1FF) { /* the low half of the power may decide */
        uint64_t more = (uint64_t)(((__uint128_t)mantissa * power[1]) >> 64);
        low += more;
        high += low < more;
    }
    if (low == UINT64_MAX && (exponent < -27 || exponent > 55)) return false;
    int top = (int)(high >> 63);
    uint64_t bits = high >> (top + 9); /* 53 bits and one to round by */
    /* floor(log2(10**exponent)) by a fixed-point log2(10), then the biased exponent of the result */
    int64_t biased = ((217706 * exponent) >> 16) + 63 + top - shift + 1023;
    if (biased <= 0) { /* subnormal */
        if (biased <= -63) return *out = 0.0, true;
        bits >>= 1 - biased;
        bits += bits & 1;
        bits >>= 1; /* a carry into bit 52 makes the smallest normal number by itself */
    } else {
        if (low <= 1 && exponent >= -4 && exponent <= 23 && (bits & 3) == 1 && bits << (top + 9) == high)
            bits &= ~(uint64_t)1; /* exactly half way: to even */
        bits += bits & 1;
        bits >>= 1;
        if (bits >= (uint64_t)2 << 52) {
            bits = (uint64_t)1 << 52;
            biased++;
        }
        if (biased >= 0x7FF) return *out = __builtin_inf(), true;
        bits = (bits & ~((uint64_t)1 << 52)) | (uint64_t)biased << 52;
    }
    memcpy(out, &bits, 8);
    return true;
}

/* For numbers with more digits than 64 bits hold, where these digits matter: strtod of the C library, on a text without a point, so
 * that the locale has no effect.  800 digits and one digit for the rest are enough: no half-way point between doubles has more than
 * 767 digits. */
AF_NOINLINE double af_scale_long(const af_decimal *parts) {
    enum { KEPT = 800 };
    char text[KEPT + 32];
    size_t count = 0;
    int64_t exponent = parts->exponent;
    bool point = false, rest = false;
    for (const uint8_t *p = parts->digits; p < parts->digits_end; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        if (count > 0 || *p != '0') {
            if (count < KEPT) {
                text[count++] = (char)*p;
            } else {
                rest |= *p != '0';
                exponent++;
            }
        }
        exponent -= point;
    }
    if (count == 0) return 0.0;
    if (rest) {
        text[count++] = '1';
        exponent--;
    }
    if (exponent > 400) return __builtin_inf();
    if (exponent < -2000) return 0.0; /* at most 801 digits */
    unsigned size = (unsigned)(exponent < 0 ? -exponent : exponent);
    text[count++] = 'e';
    text[count++] = exponent < 0 ? '-' : '+';
    for (unsigned ten = 1000; ten > 0; ten /= 10) text[count++] = (char)('0' + size / ten % 10);
    text[count] = '\0';
    return strtod(text, NULL);
}

AF_NOINLINE int af_parse_float64(const uint8_t *begin, const uint8_t *end, double *out) {
    af_trim_blanks(&begin, &end);
    af_decimal parts;
    if (!af_split_decimal(begin, end, &parts)) {
        bool negative = false;
        if (begin < end && (*begin == '-' || *begin == '+')) negative = *begin++ == '-';
        if (af_is_word(begin, end, "nan"))
            *out = __builtin_nan("");
        else if (af_is_word(begin, end, "inf") || af_is_word(begin, end, "infinity"))
            *out = negative ? -__builtin_inf() : __builtin_inf();
        else
            return AF_WRONG;
        return AF_OK;
    }
    uint64_t mantissa = 0;
    int64_t exponent = parts.exponent;
    unsigned kept = 0;
    bool point = false, rest = false;
    for (const uint8_t *p = parts.digits; p < parts.digits_end; p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        uint8_t digit = (uint8_t)(*p - '0');
        if (kept < 19) {
            mantissa = mantissa * 10 + digit;
            kept += mantissa != 0;
        } else {
            rest |= digit != 0;
            exponent++;
        }
        exponent -= point;
    }
    double value, above;
    if (mantissa == 0)
        value = 0.0;
    else if (!rest && mantissa <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22) /* both exact, one rounding (Clinger) */
        value = exponent < 0 ? (double)mantissa / af_tens[-exponent] : (double)mantissa * af_tens[exponent];
    else if (!af_scale(mantissa, exponent, &value) ||
             (rest && (!af_scale(mantissa + 1, exponent, &above) || memcmp(&above, &value, 8) != 0)))
        value = af_scale_long(&parts);
    *out = parts.negative ? -value : value;
    return AF_OK;
}

AF_NOINLINE int af_parse_epoch_seconds(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    af_trim_blanks(&begin, &end);
    af_decimal parts;
    if (!af_split_decimal(begin, end, &parts)) return AF_WRONG;
    const uint8_t *p = parts.digits, *point = parts.digits;
    while (point < parts.digits_end && *point != '.') point++;
    while (p < parts.digits_end && (*p == '0' || *p == '.')) p++; /* to the first digit that counts */
    *out = 0;
    if (p == parts.digits_end) return AF_OK;
    /* the number of digits that stand before the point once the value is in ns */
    int64_t whole = (p < point ? point - p : point - p + 1) + parts.exponent + 9;
    if (whole > 19) return AF_RANGE;
    if (whole < 0) return AF_OK;
    uint64_t value = 0;
    bool half = false, rest = false;
    int64_t place = 0;
    for (; p < parts.digits_end; p++) {
        if (*p == '.') continue;
        uint8_t digit = (uint8_t)(*p - '0');
        if (place < whole) {
            value = value * 10 + digit;
        } else if (place == whole) {
            half = digit >= 5;
            rest = digit != 0 && digit != 5;
        } else {
            rest |= digit != 0;
        }
        place++;
    }
    for (; place < whole; place++) value *= 10;
    value += half && (rest || (value & 1));
    if (value > (uint64_t)INT64_MAX) return AF_RANGE;
    *out = parts.negative ? -(int64_t)value : (int64_t)value;
    return AF_OK;
}

#endif
