/* Between sweeps: what is asked of the state, places without holes, keys that are called otherwise, and rows as arrays and back.
 *
 * What is loaded has been checked (saved.py).  Logs are made anew: of rows that had come in the order in which they come to be found. */
#ifndef ASYNCFLOW_INTERVAL_UPKEEP_H
#define ASYNCFLOW_INTERVAL_UPKEEP_H

#include "interval/parts.h"

/* Columns of a side's rows.  A row without a key has the key 0. */
typedef struct {
    int64_t *places, *keys, *times, *seen, *arrivals, *comes;
    uint8_t *keyed, *matched, *ahead;
} af_log_columns;

AF_INLINE int64_t af_log_save_row(const af_log_side *side, const af_log_row *row, int64_t comes, bool ahead, const af_log_columns *to, int64_t at) {
    const int64_t place = side->places->first + af_log_offset(row, side->places->first);
    to->places[at] = place;
    to->keys[at] = row->key;
    to->times[at] = row->time;
    to->seen[at] = row->seen;
    to->arrivals[at] = af_log_arrival(side->places, place);
    to->comes[at] = comes;
    to->keyed[at] = row->keyed;
    to->matched[at] = row->matched;
    to->ahead[at] = ahead;
    return at + 1;
}

/* The rows of a side of one part, from there on; there is room for all that live.  Where the next ones go. */
static int64_t af_log_save(const af_log_side *side, const af_log_columns *to, int64_t at) {
    for (uint32_t number = side->base; number != side->top; number++) {
        const af_log_row *row = af_log_row_of(side, number);
        if (!af_log_has_left(row)) at = af_log_save_row(side, row, INT64_MIN, false, to, at);
    }
    for (int64_t i = 0; i < side->run_count; i++)
        for (int64_t k = side->runs[i].from; k < side->runs[i].to; k++)
            at = af_log_save_row(side, &side->runs[i].rows[k].row, side->runs[i].rows[k].comes, true, to, at);
    return at;
}

/* A row that a sweep has met, into the log of a part.  False: no memory. */
static bool af_log_load_row(af_interval *join, int port, const af_log_row *own) {
    if (!af_log_room(join, port)) return false;
    af_log_side *side = &join->sides[port];
    const uint32_t number = side->top++;
    af_log_row *row = af_log_row_of(side, number);
    *row = *own;
    if (row->seen != AF_LOG_IN_TIME && !af_log_late_add(side, number)) return false;
    if (!row->keyed) return true;
    uint32_t *newest = &af_log_bucket_of(join, row->key)->newest[port];
    row->before = *newest;
    *newest = number;
    return true;
}

/* Rows in the order in which they come, those that have come first, into a side that had no row; `from` has the places 0, 1, ... of the order
 * in which rows arrived.  False: no memory. */
static bool af_log_load(af_log_parts *all, int port, const af_log_columns *from, const int64_t *order, int64_t count, bool named) {
    af_log_places *places = &all->places[port];
    if (count && !af_log_note_arrivals(places, count)) return false;
    for (int64_t i = 0; i < count; i++) places->arrivals[i] = from->arrivals[i];
    places->next = count;
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = order[i];
        const af_log_row own = {.key = from->keys[at], .time = from->times[at], .seen = from->seen[at], .place = (uint32_t)at & AF_LOG_PLACES,
                            .matched = from->matched[at] & 1, .keyed = from->keyed[at] & 1};
        af_interval *join = &all->parts[af_log_part_of(all, own.key, own.keyed, named, at)];
        af_log_side *side = &join->sides[port];
        side->live++;
        if (!from->ahead[at]) {
            if (!af_log_load_row(join, port, &own)) return false;
            continue;
        }
        if (!side->run_count && af_log_new_run(side) == NULL) return false;
        af_log_run *run = side->runs;
        if (!af_log_run_room(run, 1)) return false;
        run->rows[run->to++] = (af_log_ahead){from->comes[at], own};
    }
    return true;
}

/* Of each row of a side: its place is another one. */
static void af_log_move(af_log_side *side, af_log_row *row, const int64_t *moved) {
    row->place = (uint32_t)moved[af_log_offset(row, side->places->first)] & AF_LOG_PLACES;
}

/* Places without holes, from the next one on: the i-th of them was `kept[i]`; `live`: how many.  False: no memory. */
static bool af_log_compact(af_log_parts *all, int port, int64_t live, int64_t *kept) {
    af_log_places *places = &all->places[port];
    const int64_t span = places->next - places->first, next = places->next;
    int64_t room = AF_LOG_FIRST_ROOM, count = 0;
    while (room < live) room *= 2;
    int64_t *moved = malloc((size_t)(span + 1) * sizeof *moved), *arrivals = af_resized(NULL, 0, (size_t)room * sizeof *arrivals);
    if (moved == NULL || arrivals == NULL) {
        free(moved);
        free(arrivals);
        return false;
    }
    for (int64_t place = places->first; place < next; place++) {
        const int64_t arrival = af_log_arrival(places, place);
        if (arrival < 0) continue;
        moved[place - places->first] = next + count;
        arrivals[(next + count) & (room - 1)] = arrival;
        kept[count++] = place;
    }
    for (int part = 0; part < all->count; part++) {
        af_log_side *side = &all->parts[part].sides[port];
        for (uint32_t number = side->base; number != side->top; number++)
            if (!af_log_has_left(af_log_row_of(side, number))) af_log_move(side, af_log_row_of(side, number), moved);
        for (int64_t i = 0; i < side->run_count; i++)
            for (int64_t k = side->runs[i].from; k < side->runs[i].to; k++) af_log_move(side, &side->runs[i].rows[k].row, moved);
    }
    free(moved);
    free(places->arrivals);
    places->arrivals = arrivals;
    places->room = room;
    places->first = next;
    places->next = next + count;
    return true;
}

/* When the first row that has come and has no partner is due, of a side that gives such rows out; false: none. */
static bool af_log_first_alone(const af_log_side *side, int64_t *time) {
    bool found = false;
    for (uint32_t number = side->base; side->alone && number != side->top; number++) {
        const af_log_row *row = af_log_row_of(side, number);
        if (row->matched || row->seen != AF_LOG_IN_TIME) continue;
        *time = af_log_due(side, row);
        found = true;
        break; /* those after it are due later */
    }
    for (int64_t i = 0; side->alone && i < side->late_count; i++) {
        if (af_log_row_of(side, side->late[i].number)->matched || (found && side->late[i].due >= *time)) continue;
        *time = side->late[i].due;
        found = true;
    }
    return found;
}

/* When the first row of those ahead comes; false: none. */
static bool af_log_first_ahead(const af_log_side *side, int64_t *time) {
    bool found = false;
    for (int64_t i = 0; i < side->run_count; i++) {
        const af_log_run *run = &side->runs[i];
        if (run->from == run->to || (found && run->rows[run->from].comes >= *time)) continue;
        *time = run->rows[run->from].comes;
        found = true;
    }
    return found;
}

/* Calls `what(row)` for all rows that have a key. */
#define AF_LOG_FOR_ROWS(join, row, what)                                                                                  \
    for (int port_ = 0; port_ < 2; port_++) {                                                                         \
        af_log_side *side_ = &(join)->sides[port_];                                                                       \
        for (uint32_t number_ = side_->base; number_ != side_->top; number_++) {                                      \
            af_log_row *row = af_log_row_of(side_, number_);                                                                  \
            if (row->keyed && !af_log_has_left(row)) { what; }                                                            \
        }                                                                                                             \
        for (int64_t i_ = 0; i_ < side_->run_count; i_++)                                                             \
            for (int64_t k_ = side_->runs[i_].from; k_ < side_->runs[i_].to; k_++) {                                  \
                af_log_row *row = &side_->runs[i_].rows[k_].row;                                                          \
                if (row->keyed) { what; }                                                                             \
            }                                                                                                         \
    }

/* The keys of all rows that have one; how many there are. */
static int64_t af_log_keys(af_log_parts *all, int64_t *keys) {
    int64_t count = 0;
    for (int part = 0; part < all->count; part++) AF_LOG_FOR_ROWS(&all->parts[part], row, if (keys != NULL) keys[count] = row->key; count++)
    return count;
}

/* Key k, below `count`, is called names[k], below `kept`, or is gone where that is below 0; it stays in its part.  False: no memory. */
static bool af_log_rename_keys(af_log_parts *all, const int32_t *names, int64_t count, int64_t kept) {
    af_log_parts renamed = {.count = all->count};
    if (!af_log_name_parts(&renamed, kept)) return false;
    for (int64_t key = 0; key < all->name_count && key < count; key++)
        if (names[key] >= 0) renamed.names[names[key]] = all->names[key];
    free(all->names);
    all->names = renamed.names;
    all->name_count = renamed.name_count;
    all->name_room = renamed.name_room;
    for (int part = 0; part < all->count; part++) {
        af_interval *join = &all->parts[part];
        AF_LOG_FOR_ROWS(join, row, row->key = names[row->key])
        if (join->buckets != NULL && !af_log_rehash(join, (int64_t)join->mask + 1)) return false;
    }
    return true;
}

#endif
