/* Where the groups of the first match stand: by backtracking that remembers where it was, or by all threads in step.
 *
 * Backtracking tries the ways in their order and never goes twice through one instruction at one place: a bit for each.  A failure
 * before, also of a search that began earlier, is a failure again, so that all begins together take text times program steps.  Longer
 * texts, whose bits would not fit, go through the threads in step (Pike): each holds its own slots, one byte at a time, at most one
 * thread an instruction.
 */
#ifndef AF_REGEX_SLOTS_H
#define AF_REGEX_SLOTS_H

#include "regex_dfa.h"

/* The slots asked for: `place[s]` is the place of the program's slot s in the answer, -1: not asked for; 0 and 1 are the match's own. */
typedef struct {
    const int32_t *place;
    int32_t count;
} rx_wanted;

static inline int rx_holds(const uint8_t *text, int64_t size, int64_t at, int32_t asked) {
    return !(asked & ~rx_places(at > 0 ? text[at - 1] : -1, at < size ? text[at] : -1));
}

static int rx_push(rx_cache *c, int64_t *top, int32_t at, int32_t value) {
    if (*top == c->jobs_room) {
        int64_t room = c->jobs_room ? 2 * c->jobs_room : 256;
        rx_job *jobs = realloc(c->jobs, sizeof(rx_job) * (size_t)room);
        if (!jobs) return RX_NO_MEMORY;
        c->jobs = jobs;
        c->jobs_room = room;
    }
    c->jobs[*top].at = at;
    c->jobs[(*top)++].value = value;
    return RX_NONE;
}

static int rx_fits_marks(const rx_program *p, int64_t size) {
    return (int64_t)p->marks * (size + 1) <= RX_MARKS_MOST;
}

static int rx_backtrack(const rx_program *p, rx_cache *c, const uint8_t *text, int64_t size, rx_wanted wanted, int32_t *slots) {
    int64_t width = size + 1, bits = (int64_t)p->marks * width, steps = 0;
    if (!c->visited && !(c->visited = malloc(RX_MARKS_MOST / 8 + 8))) return RX_NO_MEMORY;
    memset(c->visited, 0, (size_t)((bits + 63) / 64) * 8);
    for (int32_t s = 0; s < wanted.count; s++) slots[s] = -1;
    for (int64_t begin = 0; begin <= size; begin++) {
        int64_t top = 0;
        if (p->skips) {
            begin = rx_skip(p, text + begin, text + size) - text;
            if (begin == size) break;
        }
        if (rx_push(c, &top, p->start, (int32_t)begin)) return RX_NO_MEMORY;
        while (top) {
            rx_job job = c->jobs[--top];
            int32_t i = job.at, at = job.value;
            if (i < 0) { slots[~i] = at; continue; }
            for (;;) {
                const rx_instruction *now = p->code + i;
                int32_t mark = p->mark[i];
                if (mark >= 0) {
                    int64_t bit = mark * width + at;
                    uint64_t flag = (uint64_t)1 << (bit & 63);
                    if (c->visited[bit >> 6] & flag) break;
                    c->visited[bit >> 6] |= flag;
                }
                steps++;
                if (now->operation == RX_BYTES) {
                    if (at == size || (i = rx_target(p, now, text[at])) < 0) break;
                    at++;
                } else if (now->operation == RX_SPLIT) {
                    if (rx_push(c, &top, now->y, at)) return RX_NO_MEMORY;
                    i = now->x;
                } else if (now->operation == RX_SAVE) {
                    int32_t place = wanted.place[now->x];
                    if (place >= 0) {
                        if (rx_push(c, &top, ~place, slots[place])) return RX_NO_MEMORY;
                        slots[place] = at;
                    }
                    i = now->y;
                } else if (now->operation == RX_ASSERT) {
                    if (!rx_holds(text, size, at, now->x)) break;
                    i = now->y;
                } else {
                    slots[0] = (int32_t)begin;
                    slots[1] = at;
                    c->work += steps;
                    return RX_FOUND;
                }
            }
        }
        if (p->anchored) break;
    }
    return rx_worked(c, steps) ? RX_STOPPED : RX_NONE;
}

/* Adds what an instruction leads to at a place to the list `to` of threads, with the slots in `taken`.  Its new length, RX_NO_MEMORY. */
static int32_t rx_add_thread(const rx_program *p, rx_cache *c, int to, int32_t count, int32_t from, const uint8_t *text,
                             int64_t size, int64_t place_now, rx_wanted wanted) {
    int64_t top = 0;
    if (rx_push(c, &top, from, 0)) return RX_NO_MEMORY;
    while (top) {
        rx_job job = c->jobs[--top];
        int32_t i = job.at;
        if (i < 0) { c->taken[~i] = job.value; continue; }
        while (c->seen[i] != c->turn) {
            const rx_instruction *now = p->code + i;
            c->seen[i] = c->turn;
            if (now->operation == RX_SPLIT) {
                if (rx_push(c, &top, now->y, 0)) return RX_NO_MEMORY;
                i = now->x;
            } else if (now->operation == RX_SAVE) {
                int32_t slot = wanted.place[now->x];
                if (slot >= 0) {
                    if (rx_push(c, &top, ~slot, c->taken[slot])) return RX_NO_MEMORY;
                    c->taken[slot] = (int32_t)place_now;
                }
                i = now->y;
            } else if (now->operation == RX_ASSERT) {
                if (!rx_holds(text, size, place_now, now->x)) break;
                i = now->y;
            } else {
                memcpy(c->slots[to] + (int64_t)count * wanted.count, c->taken, sizeof(int32_t) * (size_t)wanted.count);
                c->list[to][count++] = i;
                break;
            }
        }
    }
    return count;
}

static int rx_room_for_slots(const rx_program *p, rx_cache *c, int32_t slots) {
    if (c->slots_room >= slots) return RX_NONE;
    free(c->slots[0]); free(c->slots[1]); free(c->best); free(c->taken);
    c->slots[0] = malloc(sizeof(int32_t) * (size_t)slots * (size_t)p->max_list);
    c->slots[1] = malloc(sizeof(int32_t) * (size_t)slots * (size_t)p->max_list);
    c->best = malloc(sizeof(int32_t) * (size_t)slots);
    c->taken = malloc(sizeof(int32_t) * (size_t)slots);
    c->slots_room = slots;
    if (c->slots[0] && c->slots[1] && c->best && c->taken) return RX_NONE;
    c->slots_room = 0;
    return RX_NO_MEMORY;
}

static int rx_in_step(const rx_program *p, rx_cache *c, const uint8_t *text, int64_t size, rx_wanted wanted, int32_t *slots) {
    size_t bytes = sizeof(int32_t) * (size_t)wanted.count;
    int32_t count = 0, next;
    int from = 0, found = 0;
    if (rx_room_for_slots(p, c, wanted.count)) return RX_NO_MEMORY;
    rx_next_turn(c, p);
    for (int64_t at = 0; at <= size; at++) {
        if (count == 0) {
            if (found || (p->anchored && at > 0)) break;
            if (p->skips) at = rx_skip(p, text + at, text + size) - text;
            rx_next_turn(c, p);
        }
        if (!found && (!p->anchored || at == 0)) {
            for (int32_t s = 0; s < wanted.count; s++) c->taken[s] = -1;
            c->taken[0] = (int32_t)at;
            count = rx_add_thread(p, c, from, count, p->start, text, size, at, wanted);
            if (count < 0) return RX_NO_MEMORY;
        }
        rx_next_turn(c, p);
        next = 0;
        for (int32_t t = 0; t < count; t++) {
            int32_t i = c->list[from][t], target;
            int32_t *own = c->slots[from] + (int64_t)t * wanted.count;
            if (p->code[i].operation == RX_MATCH) {
                memcpy(slots, own, bytes);
                slots[1] = (int32_t)at;
                found = 1;
                break;
            }
            if (at < size && (target = rx_target(p, p->code + i, text[at])) >= 0) {
                memcpy(c->taken, own, bytes);
                next = rx_add_thread(p, c, !from, next, target, text, size, at + 1, wanted);
                if (next < 0) return RX_NO_MEMORY;
            }
        }
        if (rx_worked(c, 2 * (int64_t)count + 1)) return RX_STOPPED;
        count = next;
        from = !from;
    }
    return found ? RX_FOUND : RX_NONE;
}

/* The slots of the first match: RX_FOUND, RX_NONE, RX_NO_MEMORY, RX_STOPPED. */
static int rx_find_slots(const rx_program *p, rx_cache *c, const uint8_t *text, int64_t size, rx_wanted wanted, int32_t *slots) {
    int fits = rx_fits_marks(p, size);
    if (p->literal) {
        const uint8_t *found = rx_skip(p, text, text + size);
        if (found == text + size) return RX_NONE;
        slots[0] = (int32_t)(found - text);
        slots[1] = slots[0] + (int32_t)p->prefix_size;
        return RX_FOUND;
    }
    /* The automaton is quick to say no. */
    if (!p->anchored || !fits) {
        int64_t end;
        int status = rx_dfa(p, c, text, size, 1, &end);
        if (status != RX_FOUND) return status;
    }
    return fits ? rx_backtrack(p, c, text, size, wanted, slots) : rx_in_step(p, c, text, size, wanted, slots);
}

#endif
