/* Decimal digits, eight at a time.  All writers of numbers use these functions.
 *
 * A number below 10^8 becomes eight digit values in the bytes of a word, first digit in the lowest byte.  Three rounds split lanes
 * in half (8 = 4+4, 4 = 2+2, 2 = 1+1); each division by a constant is a multiplication that is exact over the lane's range.
 * Invariant: a writer may store up to 16 bytes after the end that it returns; the row loop keeps that room.
 */
#ifndef ASYNCFLOW_ENCODE_DIGITS_H
#define ASYNCFLOW_ENCODE_DIGITS_H

#include <stdint.h>
#include <string.h>

#define ASCII_ZEROS 0x3030303030303030ull

/* The word with its lowest byte first in memory, on every machine. */
static inline uint64_t little_endian64(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

static inline uint64_t load64(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return little_endian64(word);
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

static inline void store64(uint8_t *at, uint64_t word) {
    word = little_endian64(word);
    memcpy(at, &word, 8);
}

/* value < 10^8 -> digit values 0..9, first digit in the lowest byte. */
static inline uint64_t eight_digits(uint32_t value) {
    uint64_t thousands = value / 10000;
    uint64_t fours = thousands | (uint64_t)(value - 10000 * (uint32_t)thousands) << 32;
    uint64_t hundreds = ((fours * 10486) >> 20) & 0x0000007f0000007full;
    uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    uint64_t tens = ((twos * 103) >> 10) & 0x000f000f000f000full;
    return tens | (twos - 10 * tens) << 8;
}

/* value < 10^8 without leading zeros (0 is "0"). */
static inline uint8_t *write_below_1e8(uint8_t *out, uint32_t value) {
    uint64_t digits = eight_digits(value);
    int zeros = digits ? __builtin_ctzll(digits) >> 3 : 7;
    store64(out, (digits | ASCII_ZEROS) >> (8 * zeros));
    return out + (8 - zeros);
}

static inline uint8_t *write_8_digits(uint8_t *out, uint32_t value) {
    store64(out, eight_digits(value) | ASCII_ZEROS);
    return out + 8;
}

static inline uint8_t *write_uint64(uint8_t *out, uint64_t value) {
    if (value < 10) {
        *out = (uint8_t)('0' + value);
        return out + 1;
    }
    if (value < 100000000u)
        return write_below_1e8(out, (uint32_t)value);
    uint64_t upper = value / 100000000u;
    uint32_t low = (uint32_t)(value - upper * 100000000u);
    if (upper < 100000000u) {
        out = write_below_1e8(out, (uint32_t)upper);
    } else {
        uint64_t top = upper / 100000000u;
        out = write_below_1e8(out, (uint32_t)top);
        out = write_8_digits(out, (uint32_t)(upper - top * 100000000u));
    }
    return write_8_digits(out, low);
}

static inline uint8_t *write_int64(uint8_t *out, int64_t value) {
    *out = '-';
    out += value < 0;
    return write_uint64(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

#endif
