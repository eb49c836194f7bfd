/* What one search at a time works with: the states of the automaton found so far, lists of instructions, the backtracker's marks.
 *
 * A program may be run by several threads; each run takes a cache of its own.  All memory is got here and bounded: a list has room for
 * every instruction, states are thrown away when their tables are full.
 */
#ifndef AF_REGEX_CACHE_H
#define AF_REGEX_CACHE_H

#include "regex_program.h"

#define RX_WORDS_MOST (1 << 18)      /* of a table of states: 1 MiB */
#define RX_MARKS_MOST (1 << 18)      /* bits: texts that need more go through the threads in step */
#define RX_WORK_A_TURN (1 << 24)     /* steps until the caller may look for a signal */

typedef struct { int32_t at, value; } rx_job;   /* at < 0: give slot ~at its value back */

typedef struct {
    int32_t *words;
    int32_t used, room;
} rx_words;

typedef struct {
    int32_t *list[2], *seen, *stack;     /* lists of instructions; seen[i] == turn: is in the list being made */
    int32_t turn, start;                 /* start: the state a text begins in, -1: not known */
    rx_words moves, lists, offsets, table;   /* see regex_dfa.h */
    int32_t states, forgotten;           /* forgotten: how often all states were thrown away */
    rx_job *jobs;
    int64_t jobs_room;
    uint64_t *visited;
    int32_t *slots[2], *best, *taken;    /* of the threads in step; the best match's; of the thread being followed */
    int32_t slots_room;
    int64_t work;
    int (*give_way)(void);               /* not 0: stop */
} rx_cache;

static void rx_cache_close(rx_cache *c) {
    free(c->list[0]); free(c->list[1]); free(c->seen); free(c->stack);
    free(c->moves.words); free(c->lists.words); free(c->offsets.words); free(c->table.words);
    free(c->jobs); free(c->visited); free(c->slots[0]); free(c->slots[1]); free(c->best); free(c->taken);
    memset(c, 0, sizeof *c);
}

static int rx_cache_open(rx_cache *c, const rx_program *p, int (*give_way)(void)) {
    size_t list = sizeof(int32_t) * (size_t)p->max_list;
    memset(c, 0, sizeof *c);
    c->list[0] = malloc(list);
    c->list[1] = malloc(list);
    c->seen = calloc(1, list);
    c->stack = malloc(2 * list + 2 * sizeof(int32_t));
    c->start = -1;
    c->give_way = give_way;
    return c->list[0] && c->list[1] && c->seen && c->stack ? RX_NONE : RX_NO_MEMORY;
}

/* Room for `more` words; at most `most` in all.  RX_NONE, RX_NO_MEMORY, or RX_FOUND: there may be no more. */
static int rx_words_grow(rx_words *w, int64_t more, int64_t most) {
    int64_t room = w->room ? w->room : 256;
    int32_t *words;
    if (w->used + more <= w->room) return RX_NONE;
    if (w->used + more > most) return RX_FOUND;
    while (room < w->used + more) room *= 2;
    words = realloc(w->words, sizeof(int32_t) * (size_t)room);
    if (!words) return RX_NO_MEMORY;
    w->words = words;
    w->room = (int32_t)room;
    return RX_NONE;
}

/* A new turn of `seen`: nothing has been seen. */
static inline void rx_next_turn(rx_cache *c, const rx_program *p) {
    if (c->turn == INT32_MAX) {
        memset(c->seen, 0, sizeof(int32_t) * (size_t)p->max_list);
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

#endif
