/* What is done with all parts of an interval join: rows go to the part of their key, and results of the parts into one order.
 *
 * Which part a key falls to depends on the number of parts and on seeds, and nothing that comes out depends on it: results of the parts are
 * merged by release and by the places of their rows, which is a whole order. */
#ifndef ASYNCFLOW_INTERVAL_PARTS_H
#define ASYNCFLOW_INTERVAL_PARTS_H

#include "interval/sweep.h"

typedef struct {
    af_interval *parts;
    int count;            /* a power of two */
    uint8_t *names;       /* the part of each name, where keys are named and there are several parts */
    int64_t name_count, name_room;
    af_log_places places[2];
} af_log_parts;

static bool af_log_parts_init(af_log_parts *all, int count) {
    memset(all, 0, sizeof *all);
    all->parts = calloc((size_t)count, sizeof *all->parts);
    if (all->parts == NULL) return false;
    all->count = count;
    for (int port = 0; port < 2; port++) all->places[port].comes = INT64_MIN;
    return true;
}

static void af_log_parts_free(af_log_parts *all) {
    for (int part = 0; part < all->count; part++) af_interval_free(&all->parts[part]);
    for (int port = 0; port < 2; port++) free(all->places[port].arrivals);
    free(all->parts);
    free(all->names);
}

/* -- rows in --------------------------------------------------------------------------------------------------------------------------------- */

/* So many names have a part.  Sixteen neighbours have the same one, as their buckets stand together. */
static bool af_log_name_parts(af_log_parts *all, int64_t count) {
    if (all->count == 1 || count <= all->name_count) return true;
    if (!af_grow(&all->names, &all->name_room, count, sizeof *all->names)) return false;
    for (; all->name_count < count; all->name_count++) all->names[all->name_count] = (uint8_t)(all->name_count >> 4 & (all->count - 1));
    return true;
}

/* The part of a key; of rows without one those take turns. */
AF_INLINE int af_log_part_of(const af_log_parts *all, int64_t key, bool keyed, bool named, int64_t turn) {
    if (all->count == 1) return 0;
    if (AF_UNLIKELY(!keyed)) return (int)(turn & (all->count - 1));
    return named ? all->names[key] : (int)(af_log_hash(all->parts, key) >> 52 & (uint64_t)(all->count - 1));
}

typedef struct {
    const int64_t *numbers; /* or NULL, and */
    const int32_t *names;   /* below 0: null */
    const uint8_t *valid;   /* of numbers, or NULL */
    const int64_t *times, *marks; /* marks: the watermark before each; or NULL, and */
    int64_t watermark, lag; /* that before the first, and how far it follows the times */
} af_log_arrivals;


AF_INLINE int64_t af_log_key_at(const af_log_arrivals *come, int64_t i, bool *keyed) {
    *keyed = come->numbers == NULL ? come->names[i] >= 0 : come->valid == NULL || come->valid[i];
    return !*keyed ? 0 : come->numbers == NULL ? come->names[i] : come->numbers[i];
}

/* Where a part's rows go. */
typedef struct {
    af_log_ahead *out;
    int64_t before, taken;
    bool in_order;
} af_log_inlet;

/* `of_row`: the part of each row, or NULL: there is one.  What is said of `af_log_hold`. */
AF_INLINE bool af_log_take_in(af_log_parts *all, int port, const af_log_arrivals *come, int64_t count, const uint8_t *of_row, af_log_inlet *inlets,
                              uint8_t *late, int64_t *late_count, int64_t *partly) {
    const af_log_side *side = &all->parts->sides[port];
    af_log_places *places = side->places;
    const int64_t reach = all->parts->sides[1 - port].reach, clock = all->parts->clock;
    int64_t last = AF_LOG_LAST_TIME, first;
    if (side->high <= AF_LOG_LAST_TIME - reach) last = side->high + reach;
    if (__builtin_add_overflow(side->low, reach, &first)) first = AF_LOG_LAST_TIME; /* low is far above 0 */
    int64_t watermark = come->watermark, before = places->comes, latest = places->comes, taken = 0;
    bool in_order = true, in_time = true;
    for (int64_t i = 0; i < count; i++) {
        const int64_t time = come->times[i];
        int64_t seen = come->marks == NULL ? watermark : come->marks[i];
        if (come->marks == NULL) {
            int64_t reached;
            if (__builtin_sub_overflow(time, come->lag, &reached)) reached = INT64_MIN;
            if (reached > watermark) watermark = reached;
        }
        if (seen < clock) seen = clock;
        int64_t comes = side->delay ? af_log_shifted(time, side->delay) : time;
        if (AF_LIKELY(seen <= time)) {
            seen = AF_LOG_IN_TIME;
        } else {
            if (seen > af_log_shifted(time, last)) {
                late[i] = 1;
                ++*late_count;
                continue;
            }
            *partly += seen > af_log_shifted(time, first);
            if (seen > comes) comes = seen;
            in_time = false;
        }
        af_log_inlet *inlet = of_row == NULL ? inlets : &inlets[of_row[i]];
        bool keyed;
        const int64_t key = af_log_key_at(come, i, &keyed);
        af_log_ahead *out = &inlet->out[inlet->taken++];
        out->comes = comes;
        out->row = (af_log_row){.key = key, .time = time, .seen = seen, .keyed = keyed, .place = (uint32_t)(places->next + taken) & AF_LOG_PLACES};
        if (of_row != NULL) {
            inlet->in_order = inlet->in_order && comes >= inlet->before;
            inlet->before = comes;
        }
        in_order = in_order && comes >= before;
        before = comes;
        if (comes > latest) latest = comes;
        taken++;
    }
    if (of_row == NULL && !in_order) { /* of the rows that were there before, the last run knows */
        for (int64_t i = 1; i < taken && inlets->in_order; i++) inlets->in_order = inlets->out[i - 1].comes <= inlets->out[i].comes;
    }
    if (AF_UNLIKELY(places->arrivals == NULL && !(in_time && in_order)) && !af_log_note_arrivals(places, count)) return false;
    for (int64_t i = 0; places->arrivals != NULL && i < taken; i++) places->arrivals[(places->next + i) & (places->room - 1)] = places->arrived + i;
    places->next += taken;
    places->arrived += taken;
    places->comes = latest;
    return true;
}

/* Takes rows in, but for those that are late for all of the other side; `late` (flags) is then written.  How many were: `late_count`, and
 * late for some, `partly`.  False: no memory. */
static bool af_log_hold(af_log_parts *all, int port, const af_log_arrivals *come, int64_t count, uint8_t *late, int64_t *late_count, int64_t *partly) {
    int64_t counts[AF_LOG_MOST_PARTS] = {count};
    af_log_inlet inlets[AF_LOG_MOST_PARTS];
    uint8_t *of_row = NULL;
    if (!af_log_place_room(&all->places[port], count)) return false;
    if (all->count > 1) {
        of_row = malloc((size_t)count);
        if (of_row == NULL) return false;
        counts[0] = 0;
        for (int64_t i = 0; i < count; i++) {
            bool keyed;
            const int64_t key = af_log_key_at(come, i, &keyed);
            of_row[i] = (uint8_t)af_log_part_of(all, key, keyed, come->numbers == NULL, i);
            counts[of_row[i]]++;
        }
    }
    bool done = true;
    for (int part = 0; done && part < all->count; part++) {
        af_log_side *side = &all->parts[part].sides[port];
        done = (side->run_count || af_log_new_run(side) != NULL) && af_log_run_room(&side->runs[side->run_count - 1], counts[part]);
        if (!done) break;
        const af_log_run *run = &side->runs[side->run_count - 1];
        inlets[part] = (af_log_inlet){.out = run->rows + run->to, .before = INT64_MIN, .in_order = true};
    }
    if (done) {
        if (of_row == NULL) done = af_log_take_in(all, port, come, count, NULL, inlets, late, late_count, partly);
        else done = af_log_take_in(all, port, come, count, of_row, inlets, late, late_count, partly);
    }
    free(of_row);
    for (int part = 0; done && part < all->count; part++) {
        af_log_side *side = &all->parts[part].sides[port];
        const int64_t taken = inlets[part].taken;
        side->runs[side->run_count - 1].to += taken;
        side->live += taken;
        done = !taken || af_log_settle(side, taken, inlets[part].in_order);
    }
    return done;
}

/* -- results out ----------------------------------------------------------------------------------------------------------------------------- */

/* Places of rows that have left in all parts are free, up to the first one in use. */
static void af_log_free_places(af_log_parts *all) {
    for (int port = 0; port < 2; port++) {
        af_log_places *places = &all->places[port];
        if (places->arrivals != NULL) {
            while (places->first < places->next && places->arrivals[places->first & (places->room - 1)] < 0) places->first++;
            continue;
        }
        int64_t least = places->next - places->first; /* rows leave in the order of their places */
        for (int part = 0; part < all->count; part++) {
            const af_log_side *side = &all->parts[part].sides[port];
            const af_log_row *row = NULL;
            if (side->base != side->top) row = af_log_row_of(side, side->base);
            else if (side->ready != NULL && side->ready_at < side->ready_count) row = &side->ready[side->ready_at].row;
            else
                for (int64_t i = 0; i < side->run_count && row == NULL; i++)
                    if (side->runs[i].from < side->runs[i].to) row = &side->runs[i].rows[side->runs[i].from].row;
            if (row != NULL && af_log_offset(row, places->first) < least) least = af_log_offset(row, places->first);
        }
        places->first += least;
    }
}

static void af_log_merge_met(const af_log_met *a, int64_t na, const af_log_met *b, int64_t nb, af_log_met *out) {
    const af_log_met *a_end = a + na, *b_end = b + nb;
    while (a != a_end && b != b_end) { /* no branch on which it is */
        const uint64_t mine = (uint64_t)a->left << 32 | a->right, other = (uint64_t)b->left << 32 | b->right;
        const bool second = (b->release < a->release) | ((b->release == a->release) & (other < mine));
        *out++ = *(second ? b : a);
        b += second;
        a += !second;
    }
    if (a != a_end) memcpy(out, a, (size_t)(a_end - a) * sizeof *a);
    if (b != b_end) memcpy(out, b, (size_t)(b_end - b) * sizeof *b);
}

/* How many results of a part are released before this moment. */
static int64_t af_log_met_before(const af_interval *join, int64_t moment) {
    int64_t low = join->met_from, high = join->met_count;
    if (moment == INT64_MAX) return high - low;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (join->met[middle].release < moment) low = middle + 1;
        else high = middle;
    }
    return low - join->met_from;
}

/* The results that all parts know, in order, and how many there are (-1: no memory). */
static const af_log_met *af_log_met_all(af_log_parts *all, int64_t *count) {
    const af_log_met *lists[AF_LOG_MOST_PARTS];
    int64_t counts[AF_LOG_MOST_PARTS], total = 0, moment = INT64_MAX;
    for (int part = 0; part < all->count; part++)
        if (all->parts[part].moment < moment) moment = all->parts[part].moment;
    for (int part = 0; part < all->count; part++) {
        af_interval *join = &all->parts[part];
        lists[part] = join->met + join->met_from;
        counts[part] = af_log_met_before(join, moment);
        join->met_from += counts[part];
        total += counts[part];
    }
    *count = total;
    int from = 0; /* merged into the room of one part and of another in turn */
    for (int left = all->count; total && left > 1; left /= 2, from ^= 1) {
        af_interval *own = &all->parts[from];
        if (!af_grow(&own->merge, &own->merge_room, total, sizeof *own->merge)) {
            *count = -1;
            return NULL;
        }
        af_log_met *out = own->merge;
        for (int part = 0; part < left; part += 2) {
            af_log_merge_met(lists[part], counts[part], lists[part + 1], counts[part + 1], out);
            lists[part / 2] = out;
            counts[part / 2] = counts[part] + counts[part + 1];
            out += counts[part / 2];
        }
    }
    return lists[0];
}

AF_INLINE bool af_log_sweeping(const af_log_parts *all) {
    for (int part = 0; part < all->count; part++)
        if (all->parts[part].sweeping) return true;
    return false;
}

static uint64_t af_log_bytes(const af_log_parts *all) {
    uint64_t total = (uint64_t)all->name_room + (uint64_t)(all->places[0].room + all->places[1].room) * sizeof(int64_t);
    for (int part = 0; part < all->count; part++) total += af_interval_bytes(&all->parts[part]);
    return total;
}

#endif
