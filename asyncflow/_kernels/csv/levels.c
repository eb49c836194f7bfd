/* Compiles csv/level.h once per instruction-set level; csv_functions_of chooses the level's functions. */
#include "csv/csv.h"

#define AF_BODY "csv/level.h"
#include "base/levels.h"

const csv_functions *csv_functions_of(int level) {
    static const csv_functions portable = {csv_decode_portable, csv_cut_portable};
#if AF_X86
    static const csv_functions v2 = {csv_decode_v2, csv_cut_v2};
    static const csv_functions v3 = {csv_decode_v3, csv_cut_v3};
    static const csv_functions v4 = {csv_decode_v4, csv_cut_v4};
    if (level == AF_V4) return &v4;
    if (level == AF_V3) return &v3;
    if (level == AF_V2) return &v2;
#endif
    (void)level;
    return &portable;
}
