/* As-of joins: each left row with the right row of its key that is nearest in time, by merging two runs of rows in order of time.
 *
 * The *moment* of a right row is its time, or the watermark before it where that is later: from then on left rows find it.  The moment of a
 * left row, its release, is `wait` after its time.  The sweep goes through both queues of rows (waiting.h) by moment, right rows first: a
 * right row becomes known (known.h), a left row is answered from what is known.  What a left row must not see has not come yet, so no row
 * is asked for its watermark again.
 *
 * Results come in the order of (release, left arrival, right arrival), none last.  They come from left rows as these are answered, and from
 * right rows without a partner as these are due; left rows are in order already, so only results of one moment are ever sorted.
 *
 * Cost: a row touches its key and the key's known row; one that does not come in order, or outlives its batch, is written to a queue and
 * read from it besides (32 bytes). */
#ifndef ASYNCFLOW_AS_OF_H
#define ASYNCFLOW_AS_OF_H

#include "as_of/known.h"

enum { AF_AS_OF_AHEAD = 16, AF_AS_OF_MANY_KEYS = 1 << 12 }; /* how many rows ahead memory is asked for, and from how many keys on */

typedef struct {
    int64_t left, right;
} af_as_of_arrivals;

/* Where results go; all arrays have room for every result that there can be.  `release` is NULL where it is always the time. */
typedef struct {
    int64_t *left, *right, *time, *release;
    int64_t count;
    af_as_of_arrivals *arrivals; /* of the results of this moment; NULL where their order needs no sorting */
    int64_t group;         /* the first result of this moment */
    int64_t moment;
} af_as_of_results;

AF_INLINE bool af_as_of_arrivals_before(af_as_of_arrivals one, af_as_of_arrivals other) {
    return one.left < other.left || (one.left == other.left && one.right < other.right);
}

/* The results of a moment into their order: mostly they are. */
static void af_as_of_end_moment(af_as_of_results *out) {
    const int64_t count = out->count - out->group;
    if (out->arrivals != NULL && count > 1) {
        /* Left rows come in order but where the end of time makes their moments one; rows without a partner in order of time.  So this is
         * the heapsort of a few, and no sort at all of most. */
        af_as_of_arrivals *of = out->arrivals;
        bool sorted = true;
        for (int64_t i = 1; i < count; i++) sorted &= !af_as_of_arrivals_before(of[i], of[i - 1]);
        int64_t *columns[4] = {out->left + out->group, out->right + out->group, out->time + out->group,
                               out->release == NULL ? NULL : out->release + out->group};
        for (int64_t heap = count / 2, end = count; !sorted && end > 1;) {
            if (heap) heap--;
            else {
                end--;
                const af_as_of_arrivals first = of[0];
                of[0] = of[end];
                of[end] = first;
                for (int c = 0; c < 4 && columns[c] != NULL; c++) {
                    const int64_t value = columns[c][0];
                    columns[c][0] = columns[c][end];
                    columns[c][end] = value;
                }
            }
            for (int64_t at = heap, child; (child = 2 * at + 1) < end; at = child) {
                if (child + 1 < end && af_as_of_arrivals_before(of[child], of[child + 1])) child++;
                if (!af_as_of_arrivals_before(of[at], of[child])) break;
                const af_as_of_arrivals own = of[at];
                of[at] = of[child];
                of[child] = own;
                for (int c = 0; c < 4 && columns[c] != NULL; c++) {
                    const int64_t value = columns[c][at];
                    columns[c][at] = columns[c][child];
                    columns[c][child] = value;
                }
            }
        }
    }
    out->group = out->count;
}

/* Results of this moment follow; false: there are `limit` results of the moments before it. */
AF_INLINE bool af_as_of_moment(af_as_of_results *out, int64_t moment, int64_t limit) {
    if (moment <= out->moment) return true;
    af_as_of_end_moment(out);
    out->moment = moment;
    return out->count < limit;
}

AF_INLINE void af_as_of_give(af_as_of_results *out, int64_t left, int64_t right, int64_t time, int64_t release,
                             af_as_of_arrivals arrivals) {
    const int64_t at = out->count++;
    out->left[at] = left;
    out->right[at] = right;
    out->time[at] = time;
    if (out->release != NULL) out->release[at] = release;
    if (AF_UNLIKELY(out->arrivals != NULL)) out->arrivals[at - out->group] = arrivals;
}

AF_INLINE bool af_as_of_answer(af_as_of *join, af_as_of_direction direction, const af_as_of_waiting *left, int64_t release,
                                af_as_of_results *out) {
    af_as_of_side *side = &join->sides[AF_AS_OF_LEFT];
    const af_as_of_arrivals alone = {left->arrival, INT64_MAX};
    int32_t found = AF_AS_OF_NONE;
    if (AF_LIKELY(left->key != AF_AS_OF_NONE)) found = af_as_of_find(join, direction, &join->keys[left->key], left->time);
    if (AF_LIKELY(found != AF_AS_OF_NONE)) {
        af_as_of_row *right = &join->rows[found];
        right->matched = true;
        side->matched++;
        const int64_t time = right->time > left->time ? right->time : left->time;
        const af_as_of_arrivals arrivals = {left->arrival, right->arrival};
        if (AF_LIKELY(join->pairs)) af_as_of_give(out, left->ref, right->ref, time, release, arrivals);
        else if (join->firsts) af_as_of_give(out, left->ref, AF_AS_OF_NONE, left->time, release, alone);
    } else {
        side->unmatched++;
        if (join->left_alone) af_as_of_give(out, left->ref, AF_AS_OF_NONE, left->time, release, alone);
    }
    return AF_LIKELY(left->ref < 0) || af_as_of_give_up(side, left->ref);
}

enum { AF_AS_OF_SWEPT, AF_AS_OF_MORE, AF_AS_OF_NO_MEMORY };

/* The rows that are due before `until` leave. */
static int af_as_of_expire(af_as_of *join, int64_t until, int64_t limit, af_as_of_results *out) {
    const bool to_the_end = until == INT64_MAX;
    for (const af_as_of_due *first; (first = af_as_of_due_first(join)) != NULL;) {
        const int64_t due = af_as_of_shifted(first->time, join->reach);
        if (due >= until && !to_the_end) break;
        const int32_t row = first->row;
        const af_as_of_row *own = &join->rows[row];
        if (join->right_alone && !own->matched) {
            if (!af_as_of_moment(out, due, limit)) return AF_AS_OF_MORE;
            af_as_of_give(out, AF_AS_OF_NONE, own->ref, own->time, due, (af_as_of_arrivals){INT64_MAX, own->arrival});
        }
        const bool later = own->time != first->time || own->arrival != first->arrival;
        af_as_of_due_pop(join, first);
        if (!(later ? af_as_of_due_add(join, row) : af_as_of_leave(join, row))) return AF_AS_OF_NO_MEMORY;
    }
    return AF_AS_OF_SWEPT;
}

AF_INLINE void af_as_of_ask(const af_as_of *join, const af_as_of_side *side, af_as_of_direction direction) {
    if (AF_UNLIKELY(side->at + 2 * AF_AS_OF_AHEAD >= side->count)) return;
    int32_t key = side->ready[side->at + 2 * AF_AS_OF_AHEAD].key;
    if (key >= 0) __builtin_prefetch(&join->keys[key]);
    key = side->ready[side->at + AF_AS_OF_AHEAD].key;
    if (key < 0) return;
    const af_as_of_key *links = &join->keys[key];
    const int32_t row = direction == AF_AS_OF_BACKWARD ? links->back : side == &join->sides[AF_AS_OF_RIGHT] ? links->tail : links->head;
    if (row >= 0) __builtin_prefetch(&join->rows[row]);
}

/* The same for a straight batch that is at `row`. */
AF_INLINE void af_as_of_ask_straight(const af_as_of *join, const af_as_of_straight *batch, int64_t row) {
    if (AF_UNLIKELY(row + 2 * AF_AS_OF_AHEAD >= batch->passed)) return;
    int32_t key = batch->keys[row + 2 * AF_AS_OF_AHEAD];
    if (key >= 0) __builtin_prefetch(&join->keys[key]);
    key = batch->keys[row + AF_AS_OF_AHEAD];
    if (key >= 0 && join->keys[key].back >= 0) __builtin_prefetch(&join->rows[join->keys[key].back]);
}

/* The right rows of a straight batch from `first` on that a sweep has seen become known: of each key the last one, which `head` names. */
static bool af_as_of_last_known(af_as_of *join, const af_as_of_straight *rights, int64_t first, int64_t stop) {
    const bool many = join->key_count > AF_AS_OF_MANY_KEYS;
    int64_t matched = 0, others = 0;
    for (int64_t at = first; at < stop; at++) {
        if (many) af_as_of_ask_straight(join, rights, at);
        const int32_t key = rights->keys[at];
        if (AF_UNLIKELY(key == AF_AS_OF_NONE || join->keys[key].head == at)) {
            const af_as_of_waiting row = af_as_of_straight_row(rights, at);
            if (!af_as_of_known(join, &row)) return false;
            if (key == AF_AS_OF_NONE) continue;
            join->rows[join->keys[key].back].matched = join->hits[at];
            join->keys[key].head = AF_AS_OF_NONE;
        } else {
            matched += join->hits[at];
            others++;
        }
    }
    join->sides[AF_AS_OF_RIGHT].matched += matched;
    join->sides[AF_AS_OF_RIGHT].unmatched += others - matched;
    return true;
}

/* Looking back, the steps of the sweep below for what is left of two straight batches, whose rows are in no queue: all left rows that
 * the clock has passed, and the right rows before them.  None of these is late, so the last one of a key takes the place of the known row,
 * and those between need no row of the table: `head` of their key, which looking back has no other use for, is the last so far, and `hits`
 * tells which are matched. */
static int af_as_of_sweep_straight(af_as_of *join, int64_t limit, af_as_of_results *out) {
    af_as_of_side *left = &join->sides[AF_AS_OF_LEFT], *right = &join->sides[AF_AS_OF_RIGHT];
    const af_as_of_straight lefts = left->straight, rights = right->straight;
    if (lefts.at == lefts.passed) return AF_AS_OF_SWEPT;
    if (!af_grow(&join->hits, &join->hit_capacity, rights.passed, 1)) return AF_AS_OF_NO_MEMORY;
    if (rights.passed > rights.at) memset(join->hits + rights.at, 0, (size_t)(rights.passed - rights.at));
    af_as_of_key *keys = join->keys;
    const bool many = join->key_count > AF_AS_OF_MANY_KEYS, pairs = join->pairs;
    const bool matched_come = join->pairs || join->firsts, others_come = join->left_alone;
    int64_t *left_refs = out->left, *right_refs = out->right, *times = out->time;
    uint8_t *hits = join->hits;
    const int64_t tolerance = join->tolerance;
    int64_t at = lefts.at, right_at = rights.at, count = out->count, moment = out->moment, matched = 0;
    int state = AF_AS_OF_SWEPT;
    for (; at < lefts.passed; at++) {
        const int64_t time = lefts.times[at];
        for (; right_at < rights.passed && rights.times[right_at] <= time; right_at++) {
            if (many && right_at + AF_AS_OF_AHEAD < rights.passed && rights.keys[right_at + AF_AS_OF_AHEAD] >= 0)
                __builtin_prefetch(&keys[rights.keys[right_at + AF_AS_OF_AHEAD]]);
            if (AF_LIKELY(rights.keys[right_at] >= 0)) keys[rights.keys[right_at]].head = (int32_t)right_at;
        }
        if (time > moment) {
            if (AF_UNLIKELY(count >= limit)) {
                state = AF_AS_OF_MORE;
                break;
            }
            moment = time;
        }
        if (many) af_as_of_ask_straight(join, &lefts, at);
        const int32_t key = lefts.keys[at], ahead = key < 0 ? AF_AS_OF_NONE : keys[key].head;
        int64_t partner = AF_AS_OF_NONE;
        if (AF_LIKELY(ahead >= 0) && (tolerance < 0 || rights.times[ahead] >= af_as_of_shifted(time, -tolerance))) {
            hits[ahead] = 1;
            partner = af_as_of_fresh(ahead);
        } else if (ahead < 0 && key >= 0) {
            const int32_t found = af_as_of_find(join, AF_AS_OF_BACKWARD, &keys[key], time);
            if (found >= 0) {
                join->rows[found].matched = true;
                partner = join->rows[found].ref;
            }
        }
        const bool alone = partner == AF_AS_OF_NONE;
        matched += !alone;
        if (!(alone ? others_come : matched_come)) continue;
        left_refs[count] = af_as_of_fresh(at);
        right_refs[count] = pairs ? partner : AF_AS_OF_NONE;
        times[count++] = time;
    }
    left->matched += matched;
    left->unmatched += at - lefts.at - matched;
    left->straight.at = at;
    right->straight.at = right_at;
    out->count = count;
    out->moment = moment;
    return af_as_of_last_known(join, &rights, rights.at, right_at) ? state : AF_AS_OF_NO_MEMORY;
}

AF_INLINE int af_as_of_sweep_towards(af_as_of *join, af_as_of_direction direction, int64_t limit, af_as_of_results *out) {
    af_as_of_side *left = &join->sides[AF_AS_OF_LEFT], *right = &join->sides[AF_AS_OF_RIGHT];
    const bool many = direction != AF_AS_OF_BACKWARD || join->key_count > AF_AS_OF_MANY_KEYS;
    af_as_of_waiting rooms[2];
    const af_as_of_waiting *row, *next;
    int state;
    for (;;) {
        if (direction == AF_AS_OF_BACKWARD && join->one_each && left->at == left->count && right->at == right->count)
            if ((state = af_as_of_sweep_straight(join, limit, out)) != AF_AS_OF_SWEPT) return state;
        row = af_as_of_next_ready(left, &rooms[AF_AS_OF_LEFT]);
        int64_t release = INT64_MAX;
        if (row != NULL) {
            release = row->time;
            if (direction != AF_AS_OF_BACKWARD) release = af_as_of_shifted(release, join->wait);
        }
        for (; (next = af_as_of_next_ready(right, &rooms[AF_AS_OF_RIGHT])) != NULL && next->moment <= release; af_as_of_ready_done(right)) {
            if (many) af_as_of_ask(join, right, direction);
            if (!af_as_of_known(join, next)) return AF_AS_OF_NO_MEMORY;
        }
        if (row == NULL) break;
        if (join->right_alone && (state = af_as_of_expire(join, release, limit, out)) != AF_AS_OF_SWEPT) return state;
        if (!af_as_of_moment(out, release, limit)) return AF_AS_OF_MORE;
        if (many) af_as_of_ask(join, left, direction);
        if (!af_as_of_answer(join, direction, row, release, out)) return AF_AS_OF_NO_MEMORY;
        af_as_of_ready_done(left);
    }
    if (join->reach >= 0 && (state = af_as_of_expire(join, join->clock, limit, out)) != AF_AS_OF_SWEPT) return state;
    af_as_of_end_moment(out);
    for (int32_t row = 0; join->reach < 0 && join->clock == INT64_MAX && row < join->row_slots.top; row++)
        if (join->rows[row].key != AF_AS_OF_FREE && !af_as_of_leave(join, row)) return AF_AS_OF_NO_MEMORY;
    af_as_of_tidy_runs(left);
    af_as_of_tidy_runs(right);
    join->under_way = false;
    return AF_AS_OF_SWEPT;
}

/* Goes on to the clock, or until `limit` results are there and their moment is over. */
static int af_as_of_sweep(af_as_of *join, int64_t limit, af_as_of_results *out) {
    out->count = out->group = 0;
    out->moment = INT64_MIN;
    switch (join->direction) {
        case AF_AS_OF_BACKWARD: return af_as_of_sweep_towards(join, AF_AS_OF_BACKWARD, limit, out);
        case AF_AS_OF_FORWARD: return af_as_of_sweep_towards(join, AF_AS_OF_FORWARD, limit, out);
        default: return af_as_of_sweep_towards(join, AF_AS_OF_NEAREST, limit, out);
    }
}

/* The rows that the clock passes are ready. */
static bool af_as_of_begin(af_as_of *join, int64_t clock) {
    join->clock = clock;
    join->under_way = true;
    af_as_of_side *left = &join->sides[AF_AS_OF_LEFT], *right = &join->sides[AF_AS_OF_RIGHT];
    return af_as_of_take_ready(left, clock, join->wait) && af_as_of_take_ready(right, clock, 0);
}

#endif
