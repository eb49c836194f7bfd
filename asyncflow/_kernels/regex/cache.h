/* Working memory of one search at a time: the states of the automaton made so far, and the slots of the present state's threads.
 *
 * Threads of the process may run one program at the same time; each run takes a cache of its own.  A cache belongs to one choice of
 * slots (begins and ends of the wanted groups; none where only yes or no is wanted).  Invariant: all memory is allocated here and
 * bounded, because full tables of states are emptied.
 */
#ifndef AF_REGEX_CACHE_H
#define AF_REGEX_CACHE_H

#include "regex/program.h"

#define RX_WORDS_MOST (1 << 18)      /* of a table of states: 1 MiB */
#define RX_WORK_A_TURN (1 << 24)     /* steps between two calls of give_way */

typedef struct {
    int32_t *words;
    int32_t used, room;
} rx_words;

/* A thread of the state under construction: its instruction, the thread that it continues (-1: none), and the slots set on the way. */
typedef struct { int32_t instruction, source, sets, count; } rx_thread;

typedef struct {
    const int32_t *place;            /* of each slot of the program, its place among the wanted slots; -1: not wanted */
    int32_t slots;                   /* number of wanted slots: 0, or at least 2, those of the whole match first */
    int32_t *reached, *listed;       /* by instruction: the turn in which it was last reached, last put into a list */
    int32_t turn;
    int32_t *stack, *way;            /* of rx_follow: instructions left to follow, slots set on the way */
    rx_thread *threads;              /* the list under construction */
    rx_words sets;                   /* slots of its threads */
    rx_words moves, lists, offsets, acts, table;   /* see regex/automaton.h */
    int32_t states, forgotten;       /* forgotten: how often all states were dropped */
    int32_t start;                   /* the state at the begin of a text, -1: not made yet */
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

/* Opens a cache; `place` must live as long as the cache.  RX_NO_MEMORY or RX_NONE; the caller closes the cache in both cases. */
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

/* Makes room for `more` words.  A table that is not empty holds at most `most` words.  RX_NONE, RX_NO_MEMORY, or RX_FOUND where the
 * table is full. */
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

/* Makes room for the slots of that many threads. */
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

/* Begins a turn, in which no instruction has been reached or listed. */
static inline void rx_next_turn(rx_cache *c, const rx_program *p) {
    if (c->turn == INT32_MAX) {
        memset(c->reached, 0, sizeof(int32_t) * ((size_t)p->count + 1));
        memset(c->listed, 0, sizeof(int32_t) * ((size_t)p->count + 1));
        c->turn = 0;
    }
    c->turn++;
}

/* Counts steps; not 0 where the search must stop. */
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
