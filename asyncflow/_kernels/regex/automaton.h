/* The automaton of a program, with states made on demand: finds whether there is a match, the first match, and the positions of its
 * groups.
 *
 * A state is a list of threads in the order of their priority; a thread is the instruction that follows the byte before.
 * Instructions that take no byte (splits, saves, assertions) are followed once the next byte is known, so that only ways that the
 * byte continues become threads. A state also has the kind of the byte before (none, a line end, a letter), as far as assertions of
 * the program ask for it, and whether a match may still begin here; if so, a new thread comes after the others.  A match removes
 * all threads of lower priority.  Threads of higher priority go on, and a match of one of them replaces the match found before.
 *
 * Each thread has a row of slots: begin and end of the wanted groups on its way.  A move to the next state says which thread of the
 * old state each thread continues, and which slots are set to the position of the byte.  Usually no slot changes, and a step is one
 * load.  A move is the position of the next state's row of moves; or RX_UNKNOWN; or RX_DEAD, where no thread goes on; or an act at
 * position RX_NOTED minus the move:
 *
 *     next row (-1: none), flags, [source, n, n slots: of the match],
 *     number of threads that continue another thread, for each: its number, source, n, n slots,
 *     number of threads that continue themselves with slots set, for each: its number, n, n slots
 *
 * Cost: a step is at most the program's size times the number of slots.  A hash table finds states by their lists; when a table is
 * full, all states are dropped.  After Laurikari (2000, tagged automata, with one byte of lookahead), and Cox (RE2, 2010) for
 * states made on demand.
 */
#ifndef AF_REGEX_AUTOMATON_H
#define AF_REGEX_AUTOMATON_H

#include "regex/cache.h"

enum { RX_UNKNOWN = -1, RX_DEAD = -2, RX_NOTED = -8 };
#define RX_RESTARTS 8       /* of a state, beside RX_AFTER_...: a match may begin here */
#define RX_MATCHED 1        /* of an act: the text up to here is a match */
#define RX_SKIPS 2          /* the next state has no threads: the search may skip to the next place where a match can begin */
#define RX_CHANGES 4        /* slots change */
#define RX_ONLY_MATCH 8     /* only slots of the match change, all of them, so that a match at the next byte undoes the act */

/* Follows the instruction of a thread to those that take this byte, and adds the threads of the next state.  RX_FOUND where a match
 * is reached, RX_NO_MEMORY, or RX_NONE. */
static int rx_follow(const rx_program *p, rx_cache *c, int32_t from, int32_t source, int byte, int32_t places, int32_t *count) {
    int32_t top = 0, set = 0;
    c->stack[top++] = from;
    c->stack[top++] = 0;
    while (top) {
        set = c->stack[--top];
        int32_t i = c->stack[--top];
        while (c->reached[i] != c->turn) {
            const rx_instruction *at = p->code + i;
            c->reached[i] = c->turn;
            if (at->operation == RX_SPLIT) {
                c->stack[top++] = at->y;
                c->stack[top++] = set;
                i = at->x;
            } else if (at->operation == RX_SAVE) {
                int32_t slot = c->slots ? c->place[at->x] : -1, s = 0;
                while (slot >= 0 && s < set && c->way[s] != slot) s++;
                if (slot >= 0 && s == set) c->way[set++] = slot;
                i = at->y;
            } else if (at->operation == RX_ASSERT) {
                if (at->x & ~places) break;
                i = at->y;
            } else {
                int32_t target = -1;
                if (at->operation == RX_BYTES) {
                    if (byte >= 0) target = rx_target(p, at, byte);
                    if (target < 0 || c->listed[target] == c->turn) break;
                    c->listed[target] = c->turn;
                }
                if (set && rx_words_grow(&c->sets, set, INT32_MAX / 8)) return RX_NO_MEMORY;
                rx_thread *thread = c->threads + (*count)++;
                thread->instruction = target;
                thread->source = source;
                thread->sets = c->sets.used;
                thread->count = set;
                if (set) memcpy(c->sets.words + c->sets.used, c->way, sizeof(int32_t) * (size_t)set);
                c->sets.used += set;
                if (target < 0) return RX_FOUND;
                break;
            }
        }
    }
    return RX_NONE;
}

static inline uint32_t rx_hash(const int32_t *state) {
    uint32_t h = (uint32_t)state[1] * 0x9E3779B1u + (uint32_t)state[0];
    for (int32_t i = 2; i < state[0] + 2; i++) h = (h ^ (uint32_t)state[i]) * 0x85EBCA6Bu, h ^= h >> 15;
    return h;
}

/* Doubles the table of states; RX_NO_MEMORY or RX_NONE. */
static int rx_rehash(rx_cache *c) {
    int32_t room = c->table.room ? c->table.room * 2 : 64;
    int32_t *table = malloc(sizeof(int32_t) * (size_t)room);
    if (!table) return RX_NO_MEMORY;
    memset(table, -1, sizeof(int32_t) * (size_t)room);
    for (int32_t s = 0; s < c->states; s++) {
        uint32_t place = rx_hash(c->lists.words + c->offsets.words[s]) & (uint32_t)(room - 1);
        while (table[place] >= 0) place = (place + 1) & (uint32_t)(room - 1);
        table[place] = s;
    }
    free(c->table.words);
    c->table.words = table;
    c->table.room = room;
    return RX_NONE;
}

/* The number of the state of the first `count` threads, made where it is new; or RX_NO_MEMORY.  All other states may be dropped. */
static int32_t rx_state(const rx_program *p, rx_cache *c, int32_t count, int32_t after) {
    int32_t stride = p->classes + 1, *state;
    uint32_t place;
    if (rx_rows_grow(c, count)) return RX_NO_MEMORY;
    for (;;) {
        int moves = rx_words_grow(&c->moves, stride, RX_WORDS_MOST);
        int lists = rx_words_grow(&c->lists, count + 2, RX_WORDS_MOST);
        int offsets = rx_words_grow(&c->offsets, 1, RX_WORDS_MOST);
        if (moves < 0 || lists < 0 || offsets < 0) return RX_NO_MEMORY;
        if (!moves && !lists && !offsets) break;
        rx_forget(c);
    }
    if (c->states * 2 >= c->table.room && rx_rehash(c)) return RX_NO_MEMORY;
    state = c->lists.words + c->lists.used;
    state[0] = count;
    state[1] = after;
    for (int32_t i = 0; i < count; i++) state[2 + i] = c->threads[i].instruction;
    place = rx_hash(state) & (uint32_t)(c->table.room - 1);
    for (; c->table.words[place] >= 0; place = (place + 1) & (uint32_t)(c->table.room - 1)) {
        const int32_t *other = c->lists.words + c->offsets.words[c->table.words[place]];
        if (other[0] == count && !memcmp(other, state, sizeof(int32_t) * (size_t)(count + 2))) return c->table.words[place];
    }
    c->offsets.words[c->offsets.used++] = c->lists.used;
    c->lists.used += count + 2;
    for (int32_t k = 0; k < stride; k++) c->moves.words[c->moves.used + k] = RX_UNKNOWN;
    c->moves.used += stride;
    c->table.words[place] = c->states;
    return c->states++;
}

static inline int32_t *rx_put(const rx_cache *c, int32_t *act, const rx_thread *thread) {
    *act++ = thread->count;
    if (thread->count) memcpy(act, c->sets.words + thread->sets, sizeof(int32_t) * (size_t)thread->count);
    return act + thread->count;
}

/* Writes an act for the list of threads; where there is a match it is the last thread.  Returns the act's position, or RX_NO_MEMORY. */
static int32_t rx_write_act(const rx_program *p, rx_cache *c, int32_t count, int32_t matched, int32_t after, int32_t flags) {
    int64_t words = 8;
    int32_t row = -1, others = 0, *act, *head;
    int full;
    for (int32_t t = 0; t < count + matched; t++) words += 4 + c->threads[t].count;
    for (;;) {
        if (count || after & RX_RESTARTS) {
            row = rx_state(p, c, count, after);
            if (row < 0) return RX_NO_MEMORY;
            row *= p->classes + 1;
        }
        full = rx_words_grow(&c->acts, words, RX_WORDS_MOST);
        if (full < 0) return RX_NO_MEMORY;
        if (!full) break;
        rx_forget(c);
    }
    head = act = c->acts.words + c->acts.used;
    *act++ = row;
    *act++ = flags;
    if (c->slots) {
        if (matched) {
            *act++ = c->threads[count].source;
            act = rx_put(c, act, c->threads + count);
        }
        int32_t *number = act++;
        *number = 0;
        for (int32_t t = 0; t < count; t++) {
            if (c->threads[t].source == t) { others += c->threads[t].count > 0; continue; }
            *act++ = t;
            *act++ = c->threads[t].source;
            act = rx_put(c, act, c->threads + t);
            (*number)++;
        }
        *act++ = others;
        for (int32_t t = 0; t < count; t++) {
            if (c->threads[t].source != t || !c->threads[t].count) continue;
            *act++ = t;
            act = rx_put(c, act, c->threads + t);
        }
    }
    c->acts.used += (int32_t)(act - head);
    return (int32_t)(head - c->acts.words);
}

/* Makes the move of a state on a class of bytes (see the head).  `status`: RX_NO_MEMORY or RX_NONE.  The state may be dropped by this. */
static int32_t rx_make_move(const rx_program *p, rx_cache *c, int32_t row, int32_t class_, int *status) {
    int32_t stride = p->classes + 1, forgotten = c->forgotten, count = 0, flags = 0, move, after;
    const int32_t *state = c->lists.words + c->offsets.words[row / stride];
    int byte = class_ == p->classes ? -1 : p->byte_of[class_];
    int before = state[1] & RX_AFTER_NOTHING ? -1 : state[1] & RX_AFTER_LINE ? '\n' : state[1] & RX_AFTER_WORD ? 'a' : ' ';
    int32_t places = rx_places(before, byte), restarts = state[1] & RX_RESTARTS, matched = RX_NONE;
    rx_next_turn(c, p);
    c->sets.used = 0;
    for (int32_t i = 0; i < state[0] && !matched; i++)
        matched = rx_follow(p, c, state[2 + i], i, byte, places, &count);
    if (restarts && !matched) matched = rx_follow(p, c, p->start, -1, byte, places, &count);
    c->work += 4 * (int64_t)(state[0] + count) + 64;
    if (matched < 0) { *status = RX_NO_MEMORY; return RX_DEAD; }
    count -= matched;
    after = byte < 0 ? 0 : ((byte == '\n' ? RX_AFTER_LINE : rx_is_word(byte) ? RX_AFTER_WORD : 0) & p->asks);
    if (restarts && !matched && byte >= 0) after |= RX_RESTARTS;
    if (matched) flags |= RX_MATCHED | RX_CHANGES;
    if (count == 0 && after & RX_RESTARTS && p->skips) flags |= RX_SKIPS;
    if (matched && c->threads[count].source >= 0) flags |= RX_ONLY_MATCH;
    for (int32_t t = 0; t < count && c->slots; t++)
        if (c->threads[t].source != t || c->threads[t].count) flags = (flags | RX_CHANGES) & ~RX_ONLY_MATCH;
    if (!flags && !count && !(after & RX_RESTARTS)) {
        move = RX_DEAD;
    } else if (!flags) {
        move = rx_state(p, c, count, after);
        if (move < 0) { *status = RX_NO_MEMORY; return RX_DEAD; }
        move *= stride;
    } else {
        move = rx_write_act(p, c, count, matched, after, flags);
        if (move < 0) { *status = RX_NO_MEMORY; return RX_DEAD; }
        move = RX_NOTED - move;
    }
    if (c->forgotten == forgotten) c->moves.words[row + class_] = move;
    return move;
}

/* Writes to `to` the slots of a thread that continues thread `source`, or that begins here (-1). */
static inline int32_t *rx_continue(rx_cache *c, int32_t *to, int32_t source, int32_t here) {
    int32_t slots = c->slots;
    if (source >= 0) {
        const int32_t *from = c->rows[0] + (int64_t)source * slots;
        for (int32_t s = 0; s < slots; s++) to[s] = from[s];
    } else {
        for (int32_t s = 0; s < slots; s++) to[s] = -1;
        to[0] = here;
    }
    return to;
}

/* Sets the slots that `act` lists; returns the position after the list. */
static inline const int32_t *rx_set(const int32_t *act, int32_t *to, int32_t here) {
    for (int32_t n = *act++; n > 0; n--) to[*act++] = here;
    return act;
}

/* Performs an act: sets the slots of the match, then those of the threads, from the slots before. */
static void rx_do(rx_cache *c, const int32_t *act, int32_t here) {
    int32_t flags = act[1], moved, slots = c->slots;
    act += 2;
    if (flags & RX_MATCHED) {
        rx_continue(c, c->best, *act, here);
        act = rx_set(act + 1, c->best, here);
        c->best[1] = here;
    }
    moved = *act++;
    if (moved) {
        const int32_t *first = act;
        int32_t *spare = c->rows[1];
        for (int32_t t = 0; t < moved; t++, spare += slots) act = rx_set(act + 2, rx_continue(c, spare, act[1], here), here);
        spare = c->rows[1];
        for (int32_t t = 0; t < moved; t++, spare += slots) {
            int32_t *to = c->rows[0] + (int64_t)first[0] * slots;
            for (int32_t s = 0; s < slots; s++) to[s] = spare[s];
            first += 3 + first[2];
        }
    }
    for (int32_t n = *act++; n > 0; n--) act = rx_set(act + 1, c->rows[0] + (int64_t)act[0] * slots, here);
}

/* The state at the begin of a text, or RX_NO_MEMORY. */
static int32_t rx_start_state(const rx_program *p, rx_cache *c) {
    if (c->start < 0) {
        c->threads[0].instruction = p->start;
        c->start = rx_state(p, c, p->anchored ? 1 : 0, (RX_AFTER_NOTHING & p->asks) | (p->anchored ? 0 : RX_RESTARTS));
    }
    return c->start;
}

/* Finds the first match: RX_FOUND, with its slots in `best`; or RX_NONE, RX_NO_MEMORY, RX_STOPPED.  Without slots it stops at any
 * match. */
static int rx_search(const rx_program *p, rx_cache *c, const uint8_t *text, int64_t size) {
    const uint8_t *at = text, *stop = text + size;
    const int32_t *act;
    int32_t row = rx_start_state(p, c), move;
    int status = RX_NONE, found = RX_NONE;
    if (row < 0) return RX_NO_MEMORY;
    row *= p->classes + 1;
    if (p->anchored && c->slots) rx_continue(c, c->rows[0], -1, 0);
    if (p->skips) at = rx_skip(p, at, stop);
    while (at < stop) {
        const uint8_t *from = at, *pause = stop - at > 65536 ? at + 65536 : stop;
        const int32_t *moves = c->moves.words;
        while (at < pause) {
            move = moves[row + p->class_of[*at]];
            if (move == row) { /* A run of bytes that stay in the state: no load waits for the one before. */
                do at++;
                while (at < pause && moves[row + p->class_of[*at]] == row);
                continue;
            }
            if (move >= 0) { row = move; at++; continue; }
            if (move == RX_UNKNOWN) {
                move = rx_make_move(p, c, row, p->class_of[*at], &status);
                if (status) return status;
                moves = c->moves.words;
                if (c->work >= RX_WORK_A_TURN) pause = at + 1;
                if (move >= 0) { row = move; at++; continue; }
            }
            if (move == RX_DEAD) return found;
            act = c->acts.words + (RX_NOTED - move);
            if (act[1] & RX_MATCHED) {
                found = RX_FOUND;
                if (!c->slots) return found;
            }
            while (act[1] & RX_ONLY_MATCH && act[0] == row && at + 1 < pause) { /* of a run of matches the last is enough */
                move = moves[row + p->class_of[at[1]]];
                if (move > RX_NOTED) break;
                const int32_t *next = c->acts.words + (RX_NOTED - move);
                if (!(next[1] & RX_ONLY_MATCH) || next[0] != row) break;
                act = next;
                at++;
            }
            if (act[1] & RX_CHANGES) rx_do(c, act, (int32_t)(at - text));
            row = act[0];
            if (row < 0) return found;
            at++;
            if (act[1] & RX_SKIPS) at = rx_skip(p, at, stop);
        }
        if (rx_worked(c, at - from)) return RX_STOPPED;
    }
    move = c->moves.words[row + p->classes];
    if (move == RX_UNKNOWN) move = rx_make_move(p, c, row, p->classes, &status);
    if (status) return status;
    if (move <= RX_NOTED) {
        if (c->slots) rx_do(c, c->acts.words + (RX_NOTED - move), (int32_t)size);
        found = RX_FOUND;
    }
    return found;
}

#endif
