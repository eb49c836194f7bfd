/* What one search at a time works with: the states of the automaton found so far, and the slots of the threads of the present one.
 *
 * A program may be run by several threads of the process; each run takes a cache of its own.  A cache is for one choice of slots (the begins
 * and ends of the groups that are asked for; none where only the answer yes or no is).  All memory is got here and bounded: tables
 * of states are emptied when they are full.
 */
#ifndef AF_REGEX_CACHE_H
#define AF_REGEX_CACHE_H

#include "regex/program.h"

#define RX_WORDS_MOST (1 << 18)      /* of a table of states: 1 MiB */
#define RX_WORK_A_TURN (1 << 24)     /* steps until the caller may look for a signal */

typedef struct {
    int32_t *words;
    int32_t used, room;
} rx_words;

/* A thread of the state being made: its instruction, the thread it comes from (-1: a new one), the slots that are set on the way. */
typedef struct { int32_t instruction, source, sets, count; } rx_thread;

typedef struct {
    const int32_t *place;            /* of each slot of the program among those asked for, -1: not asked for */
    int32_t slots;                   /* how many are asked for: 0, or those of the whole match first */
    int32_t *reached, *listed;       /* by instruction: the turn it was last come to, was last put into a list */
    int32_t turn;
    int32_t *stack, *way;            /* of rx_follow: what is left to follow, slots set on the way here */
    rx_thread *threads;              /* the list being made */
    rx_words sets;                   /* its threads' slots */
    rx_words moves, lists, offsets, acts, table;   /* see regex/automaton.h */
    int32_t states, forgotten;       /* forgotten: how often all states were thrown away */
    int32_t start;                   /* the state a text begins in, -1: not known */
    int32_t *rows[2], rows_room;     /* the slots of each thread; room to copy them in */
    int32_t *best;                   /* the slots of the match */
    int64_t work;
    int (*give_way)(void);           /* not 0: stop */
} rx_cache;

static void rx_cache_close(rx_cache *c) {
    free(c->reached); free(c->listed); free(c->stack); free(c->way); free(c->threads); free(c->sets.words);
    free(c->moves.words); free(c->lists.words); free(c->offsets.words); free(c->acts.words); free(c->table.words);
    free(c->rows[0]); free(c->rows[1]); free(c->best);
    memset(c, 0, sizeof *c);
}

/* `place` has to live as long as the cache.  RX_NO_MEMORY or RX_NONE; close it either way. */
static int rx_cache_open(rx_cache *c, const rx_program *p, const int32_t *place, int32_t slots, int (*give_way)(void)) {
    size_t count = (size_t)p->count + 1;
    memset(c, 0, sizeof *c);
    c->reached = calloc(count, sizeof(int32_t));
    c->listed = calloc(count, sizeof(int32_t));
    c->stack = malloc(2 * (count + 1) * sizeof(int32_t));
    c->way = malloc(((size_t)slots + 1) * sizeof(int32_t));
    c->best = malloc(((size_t)slots + 1) * sizeof(int32_t));
    c->threads = malloc(count * sizeof(rx_thread));
    c->place = place;
    c->slots = slots;
    c->start = -1;
    c->give_way = give_way;
    return c->reached && c->listed && c->stack && c->way && c->best && c->threads ? RX_NONE : RX_NO_MEMORY;
}

/* Room for `more` words, at most `most` in all but where the table is empty.  RX_NONE, RX_NO_MEMORY, or RX_FOUND: it is full. */
static int rx_words_grow(rx_words *w, int64_t more, int64_t most) {
    int64_t room = w->room ? w->room : 256;
    int32_t *words;
    if (w->used + more <= w->room) return RX_NONE;
    if (w->used > 0 && w->used + more > most) return RX_FOUND;
    while (room < w->used + more) room *= 2;
    if (room > INT32_MAX / 4) return RX_NO_MEMORY;
    words = realloc(w->words, sizeof(int32_t) * (size_t)room);
    if (!words) return RX_NO_MEMORY;
    w->words = words;
    w->room = (int32_t)room;
    return RX_NONE;
}

/* Room for the slots of this many threads. */
static int rx_rows_grow(rx_cache *c, int32_t threads) {
    if (threads <= c->rows_room || c->slots == 0) return RX_NONE;
    int32_t room = threads < 8 ? 8 : threads * 2;
    size_t bytes = sizeof(int32_t) * (size_t)c->slots * (size_t)room;
    for (int side = 0; side < 2; side++) {
        int32_t *rows = realloc(c->rows[side], bytes);
        if (!rows) return RX_NO_MEMORY;
        c->rows[side] = rows;
    }
    c->rows_room = room;
    return RX_NONE;
}

/* A new turn: no instruction has been come to, none is in the list. */
static inline void rx_next_turn(rx_cache *c, const rx_program *p) {
    if (c->turn == INT32_MAX) {
        memset(c->reached, 0, sizeof(int32_t) * ((size_t)p->count + 1));
        memset(c->listed, 0, sizeof(int32_t) * ((size_t)p->count + 1));
        c->turn = 0;
    }
    c->turn++;
}

/* Counts steps; not 0 where the search has to stop. */
static inline int rx_worked(rx_cache *c, int64_t steps) {
    c->work += steps;
    if (c->work < RX_WORK_A_TURN) return 0;
    c->work = 0;
    return c->give_way();
}

static void rx_forget(rx_cache *c) {
    c->states = c->moves.used = c->lists.used = c->offsets.used = c->acts.used = 0;
    c->start = -1;
    c->forgotten++;
    if (c->table.words) memset(c->table.words, -1, sizeof(int32_t) * (size_t)c->table.room);
}

#endif
