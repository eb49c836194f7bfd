/* Compiles texts/level.h once per instruction-set level; texts_functions_of chooses the level's functions. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "texts/texts.h"

#define AF_BODY "texts/level.h"
#include "base/levels.h"

const texts_functions *texts_functions_of(int level) {
#if AF_X86
    if (level == AF_V4) return &texts_table_v4;
    if (level == AF_V3) return &texts_table_v3;
    if (level == AF_V2) return &texts_table_v2;
#endif
    (void)level;
    return &texts_table_portable;
}
