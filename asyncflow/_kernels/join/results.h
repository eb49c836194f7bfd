/* The results of a sweep: pairs and rows without a partner, by moment, and of one moment by arrival, left before right, none after all. */
#ifndef ASYNCFLOW_JOIN_RESULTS_H
#define ASYNCFLOW_JOIN_RESULTS_H

#include "join/rows.h"

enum { AF_FEW_MET = 16 }; /* pairs of a moment that are sorted in place */

AF_INLINE int af_met_order(const af_met *a, const af_met *b) {
    if (a->left_arrival != b->left_arrival) return a->left_arrival < b->left_arrival ? -1 : 1;
    return a->right_arrival < b->right_arrival ? -1 : a->right_arrival > b->right_arrival;
}

static int af_met_compare(const void *a, const void *b) { return af_met_order(a, b); }

static bool af_give(af_join *join, int32_t left, int32_t right, int64_t release) {
    if (!af_grow(&join->met, &join->met_capacity, join->met_count + 1, sizeof *join->met)) return false;
    const af_join_row *one = left == AF_NONE ? NULL : &join->sides[AF_LEFT].rows[left];
    const af_join_row *other = right == AF_NONE ? NULL : &join->sides[AF_RIGHT].rows[right];
    const int64_t time = one == NULL ? other->time : other == NULL || one->time > other->time ? one->time : other->time;
    af_met *met = &join->met[join->met_count];
    *met = (af_met){release, time, one == NULL ? INT64_MAX : (int64_t)one->arrival, other == NULL ? INT64_MAX : (int64_t)other->arrival, left, right};
    if (join->met_count > join->group && af_met_order(met - 1, met) > 0) join->unordered = true;
    join->met_count++;
    return true;
}

static void af_end_group(af_join *join) {
    if (join->unordered) {
        af_met *met = join->met + join->group;
        const int64_t count = join->met_count - join->group;
        if (count > AF_FEW_MET) qsort(met, (size_t)count, sizeof *met, af_met_compare);
        else
            for (int64_t i = 1; i < count; i++) {
                const af_met own = met[i];
                int64_t at = i;
                for (; at && af_met_order(&met[at - 1], &own) > 0; at--) met[at] = met[at - 1];
                met[at] = own;
            }
    }
    join->group = join->met_count;
    join->unordered = false;
}

AF_INLINE bool af_meet(af_join *join, int32_t left, int32_t right, int64_t release) {
    af_join_row *one = &join->sides[AF_LEFT].rows[left], *other = &join->sides[AF_RIGHT].rows[right];
    bool done = true;
    if (join->pairs) done = af_give(join, left, right, release);
    else if (join->firsts && !one->matched) done = af_give(join, left, AF_NONE, release);
    one->matched = other->matched = 1;
    return done;
}

#endif
