/* Compiles json/walk.h once per instruction-set level, and calls the chosen level. */
#include "json/levels.h"

#include "json/scratch.h"

#define AF_BODY "json/walk.h"
#include "base/levels.h"

#if AF_X86
#define JSON_AT_LEVEL(level, name, arguments)                                                                             \
    ((level) == AF_V4 ? name##_v4 arguments : (level) == AF_V3 ? name##_v3 arguments : (level) == AF_V2 ? name##_v2 arguments \
                                                                                                        : name##_portable arguments)
#else
#define JSON_AT_LEVEL(level, name, arguments) name##_portable arguments
#endif

bool json_survey(int level, json_job *job) { return JSON_AT_LEVEL(level, json_survey, (job)); }

bool json_decode(int level, json_job *job) { return JSON_AT_LEVEL(level, json_decode, (job)); }

void json_release(json_job *job) {
    free(job->rejects);
    if (job->scratch == NULL) return;
    if (json_is_large(job->scratch, job->plan)) json_free_scratch(job->scratch);
    else json_keep_scratch(job->scratch);
}
