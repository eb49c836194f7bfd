/* Whether bytes are UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).  A level header: include it from a body
 * compiled by levels.h; af_utf8_valid by itself is level-independent.
 *
 *   af_utf8_valid(bytes, length)          scalar, eight ASCII bytes a step
 *   AF_AT(utf8_valid)(bytes, length)      the same answer, with the level's instructions */
#ifndef ASYNCFLOW_UTF8_H
#define ASYNCFLOW_UTF8_H

#include "cpu.h"

AF_NOINLINE bool af_utf8_valid(const uint8_t *bytes, size_t length) {
    size_t i = 0;
    while (i < length) {
        uint8_t lead = bytes[i];
        if (lead < 0x80) {
            i++;
            while (length - i >= 8 && (af_load64(bytes + i) & 0x8080808080808080u) == 0) i += 8;
            continue;
        }
        unsigned more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        /* the second byte alone tells overlong forms, surrogates and what lies above the last code point */
        uint8_t lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        uint8_t highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (lead < 0xC2 || lead > 0xF4 || length - i <= more) return false;
        if (bytes[i + 1] < lowest || bytes[i + 1] > highest) return false;
        for (unsigned k = 2; k <= more; k++)
            if ((bytes[i + k] & 0xC0) != 0x80) return false;
        i += more + 1;
    }
    return true;
}

#endif

#ifdef AF_LEVEL
AF_LEVEL_INLINE bool AF_AT(utf8_valid)(const uint8_t *bytes, size_t length) { return af_utf8_valid(bytes, length); }
#endif
