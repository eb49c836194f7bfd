/* As-of joins: what is kept of the two inputs.
 *
 * A row that the clock has not passed waits in a queue of its side (waiting.h).  A right row that the clock has passed is *known*: a row of
 * the table below.  Columns are the caller's: a row's `ref` says where they are, `place` >= 0 where the caller has put them into a place of
 * the side, and -2 - i where they are still row i of the batch that came last, which is called *fresh*.  What is held of a batch gets
 * places only before the next batch of its side: most rows have left by then.  A batch in order whose rows all count in full is not even
 * written to the queue while it is fresh: it is *straight*, and the sweep reads the caller's arrays.
 *
 * A key has four links (16 bytes).  `back`: the known right row that is last by (time, arrival), of nearest the last of those not after the
 * last left row.  Looking ahead, the other known rows are a list in that order from `head` to `tail`, and beside the list a heap `late` of
 * those that became known after a later row. */
#ifndef ASYNCFLOW_AS_OF_STATE_H
#define ASYNCFLOW_AS_OF_STATE_H

#include "base/slots.h"

enum { AF_AS_OF_LEFT, AF_AS_OF_RIGHT };
enum { AF_AS_OF_NONE = -1, AF_AS_OF_FREE = -2 };

typedef enum { AF_AS_OF_BACKWARD, AF_AS_OF_FORWARD, AF_AS_OF_NEAREST } af_as_of_direction;

typedef struct {
    int64_t moment, time, arrival; /* of a left row the moment is its time */
    int32_t ref, key;
} af_as_of_waiting;

typedef struct {
    af_as_of_waiting *items;
    int64_t begin, end, capacity;
} af_as_of_run;

/* A batch that is left in the caller's arrays: its rows from `at` on wait, and the clock has passed those before `passed`. */
typedef struct {
    const int32_t *keys;
    const int64_t *times;
    int64_t at, passed, count;
    int64_t arrival; /* of row 0 */
} af_as_of_straight;

typedef struct {
    int64_t time, arrival;
    int32_t key; /* AF_AS_OF_NONE: null; AF_AS_OF_FREE: no row */
    int32_t ref;
    int32_t next, other; /* of a list; or the two below it in a heap */
    bool matched, late;
} af_as_of_row;

typedef struct {
    int64_t time, arrival;
    int32_t row;
} af_as_of_due;

typedef struct {
    int32_t back, head, tail, late;
} af_as_of_key;

static const af_as_of_key AF_NEW_KEY = {AF_AS_OF_NONE, AF_AS_OF_NONE, AF_AS_OF_NONE, AF_AS_OF_NONE};

enum { AF_AS_OF_MOST_RUNS = 48 };

typedef struct {
    af_as_of_run runs[AF_AS_OF_MOST_RUNS]; /* each in the order of (moment, arrival) and at most half as long as the one before it */
    int64_t run_count, waiting;
    af_as_of_straight straight;    /* comes after all rows of the runs */
    const af_as_of_waiting *ready; /* whose moments the clock has passed; then those of the straight batch */
    af_as_of_waiting *merged;      /* room for them where several runs have some */
    int64_t at, count, merged_capacity;
    int64_t arrived, matched, unmatched;
    bool has_fresh, scattered; /* fresh rows stand among others of the last run, not at its end */
    af_slots places;
    int32_t *gone; /* places whose rows have left since the last `recycle` */
    int64_t gone_count, gone_capacity;
} af_as_of_side;

typedef struct {
    af_as_of_direction direction;
    int64_t wait;  /* how long after its time a left row is answered */
    int64_t reach; /* how long after its time a right row is known; -1: for ever */
    int64_t tolerance; /* -1: none */
    bool pairs, firsts, left_alone, right_alone;
    bool one_each; /* of a key no other known row than `back` is kept */
    af_as_of_side sides[2];
    af_as_of_key *keys;
    int64_t key_count, key_capacity;
    af_as_of_row *rows;
    af_slots row_slots;
    int64_t row_capacity, known;
    af_as_of_due *dues; /* known rows by time: when each is looked at */
    int64_t due_begin, due_end, due_capacity;
    af_as_of_due *due_heap; /* and those that did not come in that order */
    int64_t heap_count, heap_capacity;
    int32_t *touched; /* known rows that may be fresh */
    int64_t touched_count, touched_capacity;
    uint8_t *hits; /* of each right row that a sweep finds in a straight batch, whether it is matched */
    int64_t hit_capacity;
    int64_t clock;
    bool under_way; /* a sweep is not over */
} af_as_of;

AF_INLINE int32_t af_as_of_fresh(int64_t row) { return (int32_t)(-2 - row); }

AF_INLINE bool af_as_of_before(int64_t time, int64_t arrival, int64_t other_time, int64_t other_arrival) {
    return time < other_time || (time == other_time && arrival < other_arrival);
}

static const int64_t AF_FIRST_TIME = INT64_MIN + 1, AF_LAST_TIME = INT64_MAX - 1;

/* time + by; what would not fit is the first or last instant there is. */
AF_INLINE int64_t af_as_of_shifted(int64_t time, int64_t by) {
    int64_t sum;
    if (__builtin_add_overflow(time, by, &sum)) return by < 0 ? AF_FIRST_TIME : AF_LAST_TIME;
    return sum < AF_FIRST_TIME ? AF_FIRST_TIME : sum > AF_LAST_TIME ? AF_LAST_TIME : sum;
}

static void af_as_of_init(af_as_of *join, af_as_of_direction direction, int64_t tolerance, bool left_alone, bool right_alone, bool pairs,
                          bool firsts) {
    memset(join, 0, sizeof *join);
    join->direction = direction;
    join->tolerance = join->reach = tolerance;
    join->wait = direction == AF_AS_OF_BACKWARD ? 0 : tolerance;
    if (direction == AF_AS_OF_NEAREST && __builtin_add_overflow(tolerance, tolerance, &join->reach)) join->reach = INT64_MAX;
    join->left_alone = left_alone;
    join->right_alone = right_alone;
    join->pairs = pairs;
    join->firsts = firsts;
    join->one_each = direction == AF_AS_OF_BACKWARD && !right_alone;
    join->clock = INT64_MIN;
}

static void af_as_of_free(af_as_of *join) {
    for (int port = 0; port < 2; port++) {
        af_as_of_side *side = &join->sides[port];
        for (int64_t i = 0; i < side->run_count; i++) free(side->runs[i].items);
        free(side->merged);
        free(side->places.free_slots);
        free(side->gone);
    }
    free(join->keys);
    free(join->rows);
    free(join->row_slots.free_slots);
    free(join->dues);
    free(join->due_heap);
    free(join->touched);
    free(join->hits);
}

static uint64_t af_as_of_bytes(const af_as_of *join) {
    uint64_t total = (uint64_t)join->key_count * sizeof(af_as_of_key) + (uint64_t)join->known * sizeof(af_as_of_row);
    total += (uint64_t)(join->due_end - join->due_begin + join->heap_count) * sizeof(af_as_of_due);
    for (int port = 0; port < 2; port++) total += (uint64_t)join->sides[port].waiting * sizeof(af_as_of_waiting);
    return total;
}

/* Room for keys up to `count`. */
static bool af_as_of_room_for_keys(af_as_of *join, int64_t count) {
    if (!af_grow(&join->keys, &join->key_capacity, count, sizeof *join->keys)) return false;
    for (; join->key_count < count; join->key_count++) join->keys[join->key_count] = AF_NEW_KEY;
    return true;
}

/* A row has left: its place, where it has one, is given out again after the next `recycle`. */
static bool af_as_of_give_up(af_as_of_side *side, int32_t ref) {
    if (ref < 0) return true;
    if (!af_grow(&side->gone, &side->gone_capacity, side->gone_count + 1, sizeof *side->gone)) return false;
    side->gone[side->gone_count++] = ref;
    return true;
}

#endif
