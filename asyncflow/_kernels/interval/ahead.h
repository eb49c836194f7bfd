/* Rows that the clock has not passed: taken in, and handed to the sweep in the order in which they come.
 *
 * A run is in that order, of one moment in the order of arrival.  Rows that come in order go on the last run; others make a run of their own,
 * and a run becomes one with the run before it where that is not twice as long: so there are few, and a row is moved O(log n) times. */
#ifndef ASYNCFLOW_INTERVAL_AHEAD_H
#define ASYNCFLOW_INTERVAL_AHEAD_H

#include "interval/log.h"

static bool af_log_run_room(af_log_run *run, int64_t count) {
    if (run->from == run->to) run->from = run->to = 0;
    if (AF_LIKELY(run->to + count <= run->room)) return true;
    if (run->from) {
        memmove(run->rows, run->rows + run->from, (size_t)(run->to - run->from) * sizeof *run->rows);
        run->to -= run->from;
        run->from = 0;
    }
    return af_grow(&run->rows, &run->room, run->to + count, sizeof *run->rows);
}

/* Two sorted stretches into one; of one moment the rows of the first stretch come first. */
static void af_log_merge_ahead(const af_log_ahead *a, int64_t na, const af_log_ahead *b, int64_t nb, af_log_ahead *out) {
    while (na && nb) {
        if (b->comes < a->comes) *out++ = *b++, nb--;
        else *out++ = *a++, na--;
    }
    if (na) memcpy(out, a, (size_t)na * sizeof *a);
    if (nb) memcpy(out, b, (size_t)nb * sizeof *b);
}

/* Sorts, by merging; `other` has as much room. */
static void af_log_sort_ahead(af_log_ahead *rows, af_log_ahead *other, int64_t count) {
    enum { SHORT = 12 };
    for (int64_t begin = 0; begin < count; begin += SHORT) {
        const int64_t end = begin + SHORT < count ? begin + SHORT : count;
        for (int64_t i = begin + 1; i < end; i++) {
            if (rows[i - 1].comes <= rows[i].comes) continue;
            const af_log_ahead own = rows[i];
            int64_t at = i;
            for (; at > begin && rows[at - 1].comes > own.comes; at--) rows[at] = rows[at - 1];
            rows[at] = own;
        }
    }
    af_log_ahead *from = rows, *to = other;
    for (int64_t width = SHORT; width < count; width *= 2) {
        for (int64_t begin = 0; begin < count; begin += 2 * width) {
            const int64_t middle = begin + width < count ? begin + width : count;
            const int64_t end = begin + 2 * width < count ? begin + 2 * width : count;
            if (middle == end || from[middle - 1].comes <= from[middle].comes) memcpy(to + begin, from + begin, (size_t)(end - begin) * sizeof *from);
            else af_log_merge_ahead(from + begin, middle - begin, from + middle, end - middle, to + begin);
        }
        af_log_ahead *swapped = from;
        from = to, to = swapped;
    }
    if (from != rows) memcpy(rows, from, (size_t)count * sizeof *rows);
}

/* A new last run, empty. */
static af_log_run *af_log_new_run(af_log_side *side) {
    if (!af_grow(&side->runs, &side->run_room, side->run_count + 1, sizeof *side->runs)) return NULL;
    side->runs[side->run_count] = (af_log_run){0};
    return &side->runs[side->run_count++];
}

/* The last run becomes one with the run before it. */
static bool af_log_join_runs(af_log_side *side) {
    af_log_run *one = &side->runs[side->run_count - 2], *other = &side->runs[side->run_count - 1], both = {0};
    const int64_t first = one->to - one->from, second = other->to - other->from;
    if (!af_log_run_room(&both, first + second)) return false;
    af_log_merge_ahead(one->rows + one->from, first, other->rows + other->from, second, both.rows);
    both.to = first + second;
    free(one->rows);
    free(other->rows);
    *one = both;
    side->run_count--;
    return true;
}

/* The last `count` rows of the last run have come now; they may be out of order. */
static bool af_log_settle(af_log_side *side, int64_t count, bool in_order) {
    af_log_run *last = &side->runs[side->run_count - 1];
    const int64_t before = last->to - count;
    if (AF_LIKELY(in_order && (before == last->from || last->rows[before - 1].comes <= last->rows[before].comes))) return true;
    af_log_run own = {0};
    if (!af_log_run_room(&own, count)) return false;
    memcpy(own.rows, last->rows + before, (size_t)count * sizeof *own.rows);
    own.to = count;
    last->to = before;
    if (!in_order) {
        af_log_ahead *other = malloc((size_t)count * sizeof *other);
        if (other != NULL) af_log_sort_ahead(own.rows, other, count);
        free(other);
        if (other == NULL) {
            free(own.rows);
            return false;
        }
    }
    if (before == last->from) { /* an empty run is replaced */
        free(last->rows);
        *last = own;
    } else {
        af_log_run *made = af_log_new_run(side);
        if (made == NULL) {
            free(own.rows);
            return false;
        }
        *made = own;
    }
    while (side->run_count > 1) {
        const af_log_run *a = &side->runs[side->run_count - 2], *b = &side->runs[side->run_count - 1];
        if (a->to - a->from >= 2 * (b->to - b->from)) break;
        if (!af_log_join_runs(side)) return false;
    }
    return true;
}

/* How many rows of a run come before the clock. */
static int64_t af_log_passed(const af_log_run *run, int64_t clock) {
    const int64_t count = run->to - run->from;
    const af_log_ahead *rows = run->rows + run->from;
    if (clock == INT64_MAX || !count || rows[count - 1].comes < clock) return count;
    int64_t low = 0, high = count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (rows[middle].comes < clock) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The rows that the clock has passed are ready; they lie in a run, or merged. */
static bool af_log_ready_now(af_log_side *side, int64_t clock) {
    int64_t runs = 0;
    side->ready = NULL;
    side->ready_at = side->ready_count = 0;
    for (int64_t i = 0; i < side->run_count; i++) {
        af_log_run *run = &side->runs[i];
        const int64_t count = af_log_passed(run, clock);
        if (!count) continue;
        const af_log_ahead *rows = run->rows + run->from;
        run->from += count;
        if (runs++ == 0) {
            side->ready = rows;
            side->ready_count = count;
            continue;
        }
        af_log_run both = {0};
        if (!af_log_run_room(&both, side->ready_count + count)) return false;
        af_log_merge_ahead(side->ready, side->ready_count, rows, count, both.rows);
        free(side->merged.rows);
        side->merged = both;
        side->ready = both.rows;
        side->ready_count += count;
    }
    if (runs < 2) { /* what lies in a run stays until the sweep is over */
        free(side->merged.rows);
        side->merged = (af_log_run){0};
    }
    return true;
}

/* The sweep is over: runs that are empty go, and room that stands empty. */
static void af_log_runs_trim(af_log_side *side) {
    int64_t kept = 0;
    for (int64_t i = 0; i < side->run_count; i++) {
        af_log_run *run = &side->runs[i];
        if (run->from < run->to) {
            side->runs[kept++] = *run;
        } else if (!kept && i + 1 == side->run_count && run->room <= 4 * side->ready_count) {
            run->from = run->to = 0; /* as many rows come again, mostly */
            side->runs[kept++] = *run;
        } else {
            free(run->rows);
        }
    }
    side->run_count = kept;
    side->ready = NULL;
    free(side->merged.rows);
    side->merged = (af_log_run){0};
}

#endif
