/* The NDJSON decoder for every instruction-set level. */
#include "json_levels.h"

#include "json_tile.h"

#define AF_BODY "json_walk.h"
#include "levels.h"

#if AF_X86
#define JSON_AT_LEVEL(level, name, arguments)                                                                             \
    ((level) == AF_V4 ? name##_v4 arguments : (level) == AF_V3 ? name##_v3 arguments : (level) == AF_V2 ? name##_v2 arguments \
                                                                                                        : name##_portable arguments)
#else
#define JSON_AT_LEVEL(level, name, arguments) name##_portable arguments
#endif

bool json_survey(int level, const uint8_t *block, size_t size, json_lines *lines) {
    return JSON_AT_LEVEL(level, json_survey, (block, size, lines));
}

bool json_decode(int level, json_job *job) { return JSON_AT_LEVEL(level, json_decode, (job)); }
