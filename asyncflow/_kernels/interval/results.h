/* The results of a sweep: pairs and rows without a partner, by release, and of one release by arrival, left before right, none after all.
 *
 * Pairs are found in the order of their releases, and rows without a partner in that of theirs; the two are merged after each block of rows.
 * Results of one release are put in order once no more of them can come. */
#ifndef ASYNCFLOW_INTERVAL_RESULTS_H
#define ASYNCFLOW_INTERVAL_RESULTS_H

#include "interval/log.h"

enum { AF_LOG_FEW_MET = 16 }; /* results of a release that are sorted in place */

AF_INLINE bool af_log_met_after(const af_log_met *a, const af_log_met *b) { return a->left != b->left ? a->left > b->left : a->right > b->right; }

static int af_log_met_compare(const void *a, const void *b) { return af_log_met_after(a, b) ? 1 : af_log_met_after(b, a) ? -1 : 0; }

/* Room for so many results more. */
AF_INLINE bool af_log_met_room(af_interval *join, int64_t count) {
    return af_grow(&join->met, &join->met_room, join->met_count + count, sizeof *join->met);
}

/* There is room. */
AF_INLINE void af_log_give(af_interval *join, int64_t release, int64_t time, uint32_t left, uint32_t right) {
    af_log_met *met = &join->met[join->met_count];
    *met = (af_log_met){release, time, left, right};
    if (join->met_count > join->instant) {
        if (met[-1].release != release) {
            if (!join->unordered) join->instant = join->met_count;
        } else if (af_log_met_after(&met[-1], met)) {
            join->unordered = true;
        }
    }
    join->met_count++;
}

static bool af_log_give_alone(af_interval *join, int port, const af_log_row *row, int64_t release) {
    if (!af_grow(&join->alone, &join->alone_room, join->alone_count + 1, sizeof *join->alone)) return false;
    const uint32_t place = af_log_offset(row, join->sides[port].places->swept_from);
    const bool left = port == AF_LOG_LEFT;
    join->alone[join->alone_count++] = (af_log_met){release, row->time, left ? place : AF_LOG_NOBODY, left ? AF_LOG_NOBODY : place};
    return true;
}

/* The rows without a partner go among the pairs from the last instant on. */
static bool af_log_merge_alone(af_interval *join) {
    const int64_t pairs = join->met_count - join->instant, count = join->alone_count;
    if (!af_log_met_room(join, count) || !af_grow(&join->merge, &join->merge_room, pairs + 1, sizeof *join->merge)) return false;
    af_log_met *out = join->met + join->instant;
    if (pairs) memcpy(join->merge, out, (size_t)pairs * sizeof *out);
    int64_t pair = 0, alone = 0;
    while (pair < pairs && alone < count)
        *out++ = join->alone[alone].release < join->merge[pair].release ? join->alone[alone++] : join->merge[pair++];
    while (pair < pairs) *out++ = join->merge[pair++];
    while (alone < count) *out++ = join->alone[alone++];
    join->met_count += count;
    join->alone_count = 0;
    join->unordered = true;
    return true;
}

/* Results of a release are in order where the release lies before this moment; to_the_end: wherever. */
static bool af_log_order_met(af_interval *join, int64_t moment, bool to_the_end) {
    if (join->alone_count && !af_log_merge_alone(join)) return false;
    if (!join->unordered) return true;
    int64_t begin = join->instant;
    while (begin < join->met_count) {
        af_log_met *met = join->met + begin;
        int64_t count = 1;
        while (begin + count < join->met_count && met[count].release == met->release) count++;
        if (met->release >= moment && !to_the_end) break;
        bool sorted = true;
        for (int64_t i = 1; sorted && i < count; i++) sorted = !af_log_met_after(&met[i - 1], &met[i]);
        if (!sorted && count > AF_LOG_FEW_MET) qsort(met, (size_t)count, sizeof *met, af_log_met_compare);
        else if (!sorted)
            for (int64_t i = 1; i < count; i++) {
                const af_log_met own = met[i];
                int64_t at = i;
                for (; at && af_log_met_after(&met[at - 1], &own); at--) met[at] = met[at - 1];
                met[at] = own;
            }
        join->instant = begin;
        begin += count;
    }
    join->unordered = begin < join->met_count;
    if (join->unordered) join->instant = begin;
    return true;
}

#endif
