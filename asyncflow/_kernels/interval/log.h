/* The interval join: the rows of two inputs, in a log of each side, and one table of buckets over both logs.
 *
 * A log is a ring of rows in the order in which they come to be found (sweep.h says when that is).  A row is known by its number, which counts
 * up and wraps at 2^32; live rows have the numbers base .. top - 1.  A bucket holds the number of the newest row of either side, and each row
 * that of the row before it in its bucket.  Nothing is ever taken out of a bucket or chain: a number below the base is gone.
 *
 * Rows also have a place: where the caller keeps their columns.  Places count up in the order of arrival, and wrap at 2^30 inside a row.  The
 * places from `first` on are in use.  Rows that come in order leave in the order of their places, and arrive by number as places count.
 * Once a row is late or out of order, `arrivals` has the number of arrival of each place, or -1 where the row has left.
 *
 * A join may be in parts, each with the rows of its keys: logs, buckets and results of its own, and places in common.  Threads sweep parts side
 * by side: a sweep writes nothing that parts have in common but that a place of its own is left.  parts.h has what is done with all parts. */
#ifndef ASYNCFLOW_INTERVAL_LOG_H
#define ASYNCFLOW_INTERVAL_LOG_H

#include "base/pages.h"
#include "base/slots.h"

enum { AF_LOG_LEFT, AF_LOG_RIGHT };
enum { AF_LOG_BLOCK = 64, AF_LOG_FIRST_ROOM = 64, AF_LOG_MOST_PARTS = 64 };

static const int64_t AF_LOG_FIRST_TIME = INT64_MIN + 1, AF_LOG_LAST_TIME = INT64_MAX - 1, AF_LOG_IN_TIME = INT64_MIN;
static const uint32_t AF_LOG_PLACES = (UINT32_C(1) << 30) - 1;
static const int64_t AF_LOG_MOST_ROWS = INT64_C(1) << 29; /* of a side: far from where numbers and places wrap */

/* time + by; what would not fit is the first or last instant there is. */
AF_INLINE int64_t af_log_shifted(int64_t time, int64_t by) {
    int64_t sum;
    if (__builtin_add_overflow(time, by, &sum)) return by < 0 ? AF_LOG_FIRST_TIME : AF_LOG_LAST_TIME;
    return sum < AF_LOG_FIRST_TIME ? AF_LOG_FIRST_TIME : sum > AF_LOG_LAST_TIME ? AF_LOG_LAST_TIME : sum;
}

typedef struct {
    int64_t key, time;
    int64_t seen;    /* the watermark before the row where that is later than its time, else AF_LOG_IN_TIME */
    uint32_t before; /* the row that was the newest of the bucket */
    uint32_t place : 30, matched : 1, keyed : 1;
} af_log_row;

/* A row that the sweep has not met, and when it will. */
typedef struct {
    int64_t comes;
    af_log_row row;
} af_log_ahead;

/* Rows in the order in which they come. */
typedef struct {
    af_log_ahead *rows;
    int64_t from, to, room;
} af_log_run;

typedef struct {
    int64_t due;
    uint32_t number;
} af_log_late;

/* The places of a side's rows, of all parts. */
typedef struct {
    int64_t *arrivals; /* or NULL */
    int64_t room, first, next, arrived;
    int64_t comes;      /* when the last row comes of those that have arrived */
    int64_t swept_from; /* the first place in use when the sweep began */
} af_log_places;

typedef struct {
    af_log_places *places;
    af_log_row *rows;
    uint32_t mask, base, top;
    int64_t live, matched, unmatched;
    int64_t reach;   /* how long after its time a row expires */
    int64_t delay;   /* how long after its time a row comes at the earliest */
    int64_t low, high; /* the times of the other side that a row looks for, from its own time */
    af_log_run *runs;    /* rows ahead of the sweep, in parts in the order of arrival */
    int64_t run_count, run_room;
    af_log_run merged;   /* of several runs what the clock has passed */
    const af_log_ahead *ready; /* what the clock has passed */
    int64_t ready_at, ready_count;
    af_log_late *late;   /* of the log's late rows a heap by when they are due */
    int64_t late_count, late_room;
    bool alone;      /* rows without a partner are given out */
} af_log_side;

typedef struct {
    uint32_t newest[2];
} af_log_bucket;

typedef struct {
    int64_t release, time;
    uint32_t left, right; /* places from the first ones that were in use when the sweep began; AF_LOG_NOBODY: none */
} af_log_met;

typedef struct {
    uint32_t who, number;
} af_log_hit;

typedef struct {
    af_log_side sides[2];
    af_log_bucket *buckets; /* NULL: none yet */
    uint64_t mask, seeds[2];
    bool pairs, firsts, numbered;
    int64_t clock;
    bool sweeping;
    int64_t moment; /* results are known that are released before it */
    af_log_met *met, *alone, *merge;
    int64_t met_from, met_count, met_room, alone_count, alone_room, merge_room; /* before met_from: given out */
    int64_t instant; /* the first result of the last instant */
    bool unordered;
    af_log_hit *hits;
    int64_t hit_count, hit_room;
} af_interval;

static const uint32_t AF_LOG_NOBODY = UINT32_MAX;

static void af_interval_init(af_interval *join, af_log_places *places, int64_t lower, int64_t upper, bool left_alone, bool right_alone, bool pairs,
                             bool firsts) {
    memset(join, 0, sizeof *join);
    join->pairs = pairs;
    join->firsts = firsts;
    join->clock = INT64_MIN;
    for (int port = 0; port < 2; port++) {
        af_log_side *side = &join->sides[port];
        side->places = &places[port];
        side->base = side->top = UINT32_MAX - 200; /* numbers wrap soon: in every run, not in those of billions of rows alone */
        side->alone = port == AF_LOG_LEFT ? left_alone : right_alone;
        side->low = port == AF_LOG_LEFT ? lower : -upper;
        side->high = port == AF_LOG_LEFT ? upper : -lower;
        side->reach = side->high > 0 ? side->high : 0;
        side->delay = side->low > 0 ? side->low : 0;
    }
}

AF_INLINE int64_t af_log_ring_room(const af_log_side *side) { return side->rows == NULL ? 0 : (int64_t)side->mask + 1; }

AF_INLINE int64_t af_log_bucket_count(const af_interval *join) { return join->buckets == NULL ? 0 : (int64_t)join->mask + 1; }

static void af_interval_free(af_interval *join) {
    for (int port = 0; port < 2; port++) {
        af_log_side *side = &join->sides[port];
        af_pages_free(side->rows, (size_t)af_log_ring_room(side) * sizeof(af_log_row));
        for (int64_t i = 0; i < side->run_count; i++) free(side->runs[i].rows);
        free(side->runs);
        free(side->merged.rows);
        free(side->late);
    }
    af_pages_free(join->buckets, (size_t)af_log_bucket_count(join) * sizeof(af_log_bucket));
    free(join->met);
    free(join->alone);
    free(join->merge);
    free(join->hits);
}

AF_INLINE af_log_row *af_log_row_of(const af_log_side *side, uint32_t number) { return &side->rows[number & side->mask]; }

AF_INLINE bool af_log_alive(const af_log_side *side, uint32_t number) { return number - side->base < side->top - side->base; }

/* A row's place, from the first one in use. */
AF_INLINE uint32_t af_log_offset(const af_log_row *row, int64_t first) { return (row->place - (uint32_t)first) & AF_LOG_PLACES; }

AF_INLINE int64_t af_log_expiry(const af_log_side *side, const af_log_row *row) { return af_log_shifted(row->time, side->reach); }

AF_INLINE int64_t af_log_due(const af_log_side *side, const af_log_row *row) {
    const int64_t expiry = af_log_expiry(side, row);
    return row->seen > expiry ? row->seen : expiry;
}

AF_INLINE uint64_t af_log_hash(const af_interval *join, int64_t key) { return af_fold((uint64_t)key >> 4 ^ join->seeds[0], join->seeds[1] | 1); }

/* Sixteen neighbouring keys have their buckets side by side, so that keys which count up cost few cache lines; which sixteen is hashed. */
AF_INLINE af_log_bucket *af_log_bucket_of(const af_interval *join, int64_t key) {
    return &join->buckets[(af_log_hash(join, key) ^ ((uint64_t)key & 15)) & join->mask];
}

/* Buckets for all rows of both logs, which are chained anew. */
static bool af_log_rehash(af_interval *join, int64_t count) {
    af_log_bucket *buckets = af_pages_resized(join->buckets, (size_t)af_log_bucket_count(join) * sizeof *buckets, (size_t)count * sizeof *buckets);
    if (buckets == NULL) return false;
    join->buckets = buckets;
    join->mask = (uint64_t)count - 1;
    const af_log_bucket none = {{join->sides[0].base - 1, join->sides[1].base - 1}};
    for (int64_t i = 0; i < count; i++) buckets[i] = none;
    for (int port = 0; port < 2; port++) {
        const af_log_side *side = &join->sides[port];
        uint32_t number = side->base;
        for (; side->top - number >= 16; number += 8) {
            for (uint32_t i = 8; i < 16; i++) __builtin_prefetch(af_log_bucket_of(join, af_log_row_of(side, number + i)->key), 1);
            for (uint32_t i = 0; i < 8; i++) {
                af_log_row *row = af_log_row_of(side, number + i);
                if (!row->keyed) continue;
                uint32_t *newest = &af_log_bucket_of(join, row->key)->newest[port];
                row->before = *newest;
                *newest = number + i;
            }
        }
        for (; number != side->top; number++) {
            af_log_row *row = af_log_row_of(side, number);
            if (!row->keyed) continue;
            uint32_t *newest = &af_log_bucket_of(join, row->key)->newest[port];
            row->before = *newest;
            *newest = number;
        }
    }
    return true;
}

/* The ring of a log with room for so many rows: a power of two, and no less than there are.  In a ring that grows, rows move from one half. */
static bool af_log_ring(af_log_side *side, int64_t room) {
    const int64_t before = af_log_ring_room(side);
    const bool grows = room >= before;
    af_log_row *rows = grows ? side->rows : NULL;
    rows = af_pages_resized(rows, grows ? (size_t)before * sizeof *rows : 0, (size_t)room * sizeof *rows);
    if (rows == NULL) return false;
    const uint32_t mask = (uint32_t)room - 1;
    const af_log_row *from = grows ? rows : side->rows;
    for (uint32_t number = side->base; number != side->top; number++)
        if (!grows || (number & mask) != (number & side->mask)) rows[number & mask] = from[number & side->mask];
    if (!grows) af_pages_free(side->rows, (size_t)before * sizeof *rows);
    side->rows = rows;
    side->mask = mask;
    return true;
}

/* Room for a block of rows in the log, and buckets for them: twice as many as the rows of the longer log. */
static bool af_log_room(af_interval *join, int port) {
    af_log_side *side = &join->sides[port];
    const int64_t wanted = (int64_t)(side->top - side->base) + AF_LOG_BLOCK;
    if (AF_UNLIKELY(wanted > af_log_ring_room(side))) {
        int64_t room = af_log_ring_room(side) ? 2 * af_log_ring_room(side) : AF_LOG_FIRST_ROOM;
        if (wanted > AF_LOG_MOST_ROWS || !af_log_ring(side, room)) return false;
    }
    const int64_t buckets = af_log_bucket_count(join);
    if (AF_UNLIKELY(2 * wanted > buckets)) return af_log_rehash(join, buckets ? 2 * buckets : 2 * AF_LOG_FIRST_ROOM);
    if (AF_UNLIKELY(((side->top + AF_LOG_BLOCK) ^ side->top) >> 30)) return af_log_rehash(join, buckets); /* numbers of long ago would come to life */
    return true;
}

/* Memory that is not needed any more is given back, with a wide margin. */
static bool af_log_trim(af_interval *join) {
    int64_t longest = AF_LOG_FIRST_ROOM;
    for (int port = 0; port < 2; port++) {
        af_log_side *side = &join->sides[port];
        const int64_t count = side->top - side->base;
        if (count > longest) longest = count;
        int64_t room = af_log_ring_room(side);
        if (room <= 16 * AF_LOG_BLOCK || room < 8 * count) continue;
        while (room > 16 * AF_LOG_BLOCK && room >= 4 * count) room /= 2;
        if (!af_log_ring(side, room)) return false;
    }
    int64_t buckets = af_log_bucket_count(join);
    if (buckets <= 32 * AF_LOG_BLOCK || buckets < 32 * longest) return true;
    while (buckets > 32 * AF_LOG_BLOCK && buckets >= 8 * longest) buckets /= 2;
    return af_log_rehash(join, buckets);
}

/* The number of arrival of the row at a place in use, or -1 where it has left. */
AF_INLINE int64_t af_log_arrival(const af_log_places *places, int64_t place) {
    return places->arrivals == NULL ? place + (places->arrived - places->next) : places->arrivals[place & (places->room - 1)];
}

/* The array of arrivals by place, with room for so many more. */
static bool af_log_note_arrivals(af_log_places *places, int64_t count) {
    int64_t room = places->room ? places->room : AF_LOG_FIRST_ROOM;
    while (room < places->next - places->first + count) room *= 2;
    int64_t *arrivals = af_resized(NULL, 0, (size_t)room * sizeof *arrivals);
    if (arrivals == NULL) return false;
    for (int64_t place = places->first; place < places->next; place++) arrivals[place & (room - 1)] = af_log_arrival(places, place);
    free(places->arrivals);
    places->arrivals = arrivals;
    places->room = room;
    return true;
}

/* So many places more. */
static bool af_log_place_room(af_log_places *places, int64_t count) {
    const int64_t wanted = places->next - places->first + count;
    if (wanted > AF_LOG_MOST_ROWS) return false;
    return places->arrivals == NULL || wanted <= places->room || af_log_note_arrivals(places, count);
}

AF_INLINE void af_log_place_free(const af_log_side *side, const af_log_row *row) {
    const af_log_places *places = side->places;
    if (AF_UNLIKELY(places->arrivals != NULL)) places->arrivals[row->place & (places->room - 1)] = -1;
}

static uint64_t af_interval_bytes(const af_interval *join) {
    uint64_t total = (uint64_t)af_log_bucket_count(join) * sizeof(af_log_bucket);
    for (int port = 0; port < 2; port++) {
        const af_log_side *side = &join->sides[port];
        total += (uint64_t)af_log_ring_room(side) * sizeof(af_log_row);
        total += (uint64_t)side->late_room * sizeof(af_log_late) + (uint64_t)side->merged.room * sizeof(af_log_ahead);
        for (int64_t i = 0; i < side->run_count; i++) total += (uint64_t)side->runs[i].room * sizeof(af_log_ahead);
    }
    return total;
}

#endif
