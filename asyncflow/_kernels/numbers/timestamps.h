/* ISO-8601 / RFC 3339 text to int64 ns since the epoch, UTC.
 *
 *     YYYY-MM-DD [ (T|t|space) hh:mm [ :ss [ (.|,)digits ] ] [ Z | z | (+|-)hh[[:]mm] ] ]
 *     YYYYMMDD   [ (T|t|space) hhmm  [  ss [ (.|,)digits ] ] [ Z | z | (+|-)hh[[:]mm] ] ]        (ISO's basic form)
 *
 * Proleptic Gregorian calendar, no offset means UTC.  Second 60 is the next minute's second 0, and 24:00:00 is the next day's
 * 00:00:00. Digits of the fraction beyond the ninth are cut off.  AF_RANGE: a good time that int64 ns cannot hold (before
 * 1677-09-21 or after 2262-04-11).
 *
 *   af_parse_timestamp   exact, scalar, defines what is accepted
 *   af_minute            a memory of the last minute seen: rows of one minute need only their seconds read (used by columns.h) */
#ifndef ASYNCFLOW_TIMESTAMPS_H
#define ASYNCFLOW_TIMESTAMPS_H

#include "numbers/numbers.h"

/* Days from 1970-01-01 to a date of the proleptic Gregorian calendar.  Years are counted from March, so that the leap day is the
 * last day of a year. */
static inline int64_t af_days(int64_t year, unsigned month, unsigned day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + (int64_t)day_of_era - 719468;
}

/* Reads `count` digits; -1 where one is not a digit or the text ends before. */
AF_INLINE int af_read_digits(const uint8_t *begin, const uint8_t *end, int count) {
    if (end - begin < count) return -1;
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (!af_digit(begin[i])) return -1;
        value = value * 10 + (begin[i] - '0');
    }
    return value;
}

/* Reads Z, +hh, +hhmm or +hh:mm that fills [begin, end) to seconds east of UTC; false where it is none of them. */
static inline bool af_read_offset(const uint8_t *begin, const uint8_t *end, int *seconds) {
    *seconds = 0;
    if (end - begin == 1 && (*begin | 0x20) == 'z') return true;
    if (end - begin < 3 || (*begin != '+' && *begin != '-')) return false;
    int hours = af_read_digits(begin + 1, end, 2), minutes = 0;
    const uint8_t *rest = begin + 3;
    if (rest < end) {
        rest += *rest == ':';
        minutes = af_read_digits(rest, end, 2);
        rest += 2;
    }
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59 || rest != end) return false;
    *seconds = (hours * 60 + minutes) * (*begin == '-' ? -60 : 60);
    return true;
}

AF_NOINLINE int af_parse_timestamp(const uint8_t *begin, const uint8_t *end, int64_t *out) {
    static const uint8_t month_days[13] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    af_trim_blanks(&begin, &end);
    if (end - begin < 8) return AF_WRONG;
    int dash = begin[4] == '-'; /* the extended form: a separator before every part */
    if (dash && (end - begin < 10 || begin[7] != '-')) return AF_WRONG;
    int year = af_read_digits(begin, end, 4), month = af_read_digits(begin + 4 + dash, end, 2), day = af_read_digits(begin + 6 + 2 * dash, end, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > month_days[month]) return AF_WRONG;
    if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0))) return AF_WRONG;
    int64_t seconds = af_days(year, (unsigned)month, (unsigned)day) * 86400, fraction_ns = 0;
    begin += 8 + 2 * dash;
    if (begin < end) {
        if ((*begin | 0x20) != 't' && *begin != ' ') return AF_WRONG;
        begin++;
        if (end - begin < 4 + dash || (dash && begin[2] != ':')) return AF_WRONG;
        int hour = af_read_digits(begin, end, 2), minute = af_read_digits(begin + 2 + dash, end, 2), second = 0, offset = 0;
        begin += 4 + dash;
        if (begin < end && (dash ? *begin == ':' : af_digit(*begin))) {
            second = af_read_digits(begin + dash, end, 2);
            begin += 2 + dash;
            if (begin < end && (*begin == '.' || *begin == ',')) {
                const uint8_t *first = ++begin;
                int64_t place = 100000000;
                for (; begin < end && af_digit(*begin); begin++, place /= 10) fraction_ns += place * (*begin - '0');
                if (begin == first) return AF_WRONG;
            }
        }
        if (hour < 0 || hour > 24 || minute < 0 || minute > 59 || second < 0 || second > 60) return AF_WRONG;
        if (hour == 24 && (minute | second | fraction_ns) != 0) return AF_WRONG;
        if (begin < end && !af_read_offset(begin, end, &offset)) return AF_WRONG;
        seconds += hour * 3600 + minute * 60 + second - offset;
    }
    __int128_t ns = (__int128_t)seconds * 1000000000 + fraction_ns;
    if (ns > INT64_MAX || ns <= INT64_MIN) return AF_RANGE;
    *out = (int64_t)ns;
    return AF_OK;
}

/* The memory of a column of times from row to row: the first 16 bytes of a text (through the minute), the text of its zone, and the
 * ns of both together.  `zone_length` 0: no zone, or Z. */
typedef struct {
    uint8_t prefix[16];
    uint8_t zone[8];
    uint32_t zone_length;
    bool set;
    int64_t base_ns;
} af_minute;

/* Sets the memory to the minute at `prefix` (16 bytes) and a zone.  False where they are no time, or so near an end of the range
 * that a second of the minute needs a check. */
AF_NOINLINE bool af_remember_minute(af_minute *minute, const uint8_t *prefix, const uint8_t *zone, uint32_t zone_length) {
    uint8_t text[24];
    memcpy(text, prefix, 16);
    memcpy(text + 16, zone, zone_length);
    minute->set = false;
    if (text[0] == ' ' || text[0] == '\t' || !af_digit(text[15])) return false; /* a text that trimming would change */
    if (text[4] != '-' || text[13] != ':' || (text[11] == '2' && text[12] == '4')) return false; /* the basic form; 24:00 has no seconds */
    if (af_parse_timestamp(text, text + 16 + zone_length, &minute->base_ns) != AF_OK) return false;
    if (minute->base_ns > INT64_MAX - 60000000000) return false;
    memcpy(minute->prefix, prefix, 16);
    memcpy(minute->zone, zone, zone_length);
    minute->zone_length = zone_length;
    minute->set = true;
    return true;
}

#endif
