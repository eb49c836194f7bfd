/* The automaton of a program, made as texts need it: whether there is a match, and where the first one ends.
 *
 * A state is a list of instructions in the order of their priority and what stands before them (nothing, a line end, a letter), as far as
 * an assertion in the list asks.  Assertions wait in the list until the next byte is known: then those that hold are followed and the
 * others dropped.  A match is therefore seen on the move that follows it; everything of lower priority goes.  Where a match may begin
 * anywhere, the list ends in one more entry, `count`, that begins anew at every byte.
 *
 * A state has a row of moves, one for each class of bytes and one for the end of the text.  A move is the place of the next state's
 * row; or negative: not known, no way on (after a match, or not), or a state after a match or one from which a search may skip ahead.
 * When a table is full all states go.  A step costs at most the program's size, mostly one load.  Rob Pike, Russ Cox, RE2 (2010).
 */
#ifndef AF_REGEX_DFA_H
#define AF_REGEX_DFA_H

#include "regex_cache.h"

enum { RX_UNKNOWN = -1, RX_DEAD = -2, RX_DEAD_MATCHED = -3, RX_NOTED = -8 };
enum { RX_AFTER_NOTHING = 1, RX_AFTER_LINE = 2, RX_AFTER_WORD = 4 };
#define RX_AFTER_MATCH 1
#define RX_IS_START 2

/* Follows an instruction into the list being made; `places` < 0: assertions wait.  Returns the list's new length. */
static int32_t rx_follow(const rx_program *p, rx_cache *c, int32_t *list, int32_t count, int32_t from, int32_t places) {
    int32_t top = 0;
    c->stack[top++] = from;
    while (top) {
        int32_t i = c->stack[--top];
        while (c->seen[i] != c->turn) {
            const rx_instruction *at = p->code + i;
            c->seen[i] = c->turn;
            if (at->operation == RX_SPLIT) {
                c->stack[top++] = at->y;
                i = at->x;
            } else if (at->operation == RX_SAVE) {
                i = at->y;
            } else if (at->operation == RX_ASSERT && places >= 0) {
                if (at->x & ~places) break;
                i = at->y;
            } else {
                list[count++] = i;
                break;
            }
        }
    }
    return count;
}

static inline uint32_t rx_hash(const int32_t *list, int32_t count, int32_t after) {
    uint32_t h = (uint32_t)after * 0x9E3779B1u + (uint32_t)count;
    for (int32_t i = 0; i < count; i++) h = (h ^ (uint32_t)list[i]) * 0x85EBCA6Bu, h ^= h >> 15;
    return h;
}

/* The table of states at half its size or less; RX_NO_MEMORY or RX_NONE. */
static int rx_rehash(rx_cache *c) {
    int32_t room = c->table.room ? c->table.room * 2 : 64;
    int32_t *table = malloc(sizeof(int32_t) * (size_t)room);
    if (!table) return RX_NO_MEMORY;
    memset(table, -1, sizeof(int32_t) * (size_t)room);
    for (int32_t s = 0; s < c->states; s++) {
        const int32_t *state = c->lists.words + c->offsets.words[s];
        uint32_t place = rx_hash(state + 2, state[0], state[1]) & (uint32_t)(room - 1);
        while (table[place] >= 0) place = (place + 1) & (uint32_t)(room - 1);
        table[place] = s;
    }
    free(c->table.words);
    c->table.words = table;
    c->table.room = room;
    return RX_NONE;
}

static void rx_forget(rx_cache *c) {
    c->states = c->moves.used = c->lists.used = c->offsets.used = 0;
    c->start = -1;
    c->forgotten++;
    if (c->table.words) memset(c->table.words, -1, sizeof(int32_t) * (size_t)c->table.room);
}

/* The number of the state of a list, made where it is new; RX_NO_MEMORY. */
static int32_t rx_state(const rx_program *p, rx_cache *c, const int32_t *list, int32_t count, int32_t after) {
    int32_t stride = p->classes + 1, *state, asks = 0;
    uint32_t place;
    for (int32_t i = 0; i < count && !asks; i++) asks = list[i] < p->count && p->code[list[i]].operation == RX_ASSERT;
    if (!asks) after = 0;
    for (;;) {
        if (c->states * 2 >= c->table.room && rx_rehash(c)) return RX_NO_MEMORY;
        place = rx_hash(list, count, after) & (uint32_t)(c->table.room - 1);
        for (; c->table.words[place] >= 0; place = (place + 1) & (uint32_t)(c->table.room - 1)) {
            state = c->lists.words + c->offsets.words[c->table.words[place]];
            if (state[0] == count && state[1] == after && !memcmp(state + 2, list, sizeof(int32_t) * (size_t)count))
                return c->table.words[place];
        }
        int moves = rx_words_grow(&c->moves, stride, RX_WORDS_MOST), lists = rx_words_grow(&c->lists, count + 2, RX_WORDS_MOST);
        int offsets = rx_words_grow(&c->offsets, 1, RX_WORDS_MOST);
        if (moves == RX_NO_MEMORY || lists == RX_NO_MEMORY || offsets == RX_NO_MEMORY) return RX_NO_MEMORY;
        if (!moves && !lists && !offsets) break;
        rx_forget(c);
    }
    state = c->lists.words + c->lists.used;
    state[0] = count;
    state[1] = after;
    memcpy(state + 2, list, sizeof(int32_t) * (size_t)count);
    c->offsets.words[c->offsets.used++] = c->lists.used;
    c->lists.used += count + 2;
    for (int32_t k = 0; k < stride; k++) c->moves.words[c->moves.used + k] = RX_UNKNOWN;
    c->moves.used += stride;
    c->table.words[place] = c->states;
    return c->states++;
}

/* The move of a state on a class; RX_NO_MEMORY in `status` or RX_NONE.  The state may be gone afterwards. */
static int32_t rx_make_move(const rx_program *p, rx_cache *c, int32_t row, int32_t class_, int *status) {
    int32_t stride = p->classes + 1, forgotten = c->forgotten;
    const int32_t *state = c->lists.words + c->offsets.words[row / stride];
    int32_t count = state[0], after = state[1], next = 0, matched = 0, number, move;
    const int32_t *list = state + 2;
    int byte = class_ == p->classes ? -1 : p->byte_of[class_];
    int before = after & RX_AFTER_NOTHING ? -1 : after & RX_AFTER_LINE ? '\n' : after & RX_AFTER_WORD ? 'a' : ' ';
    int32_t places = rx_places(before, byte), expanded = 0;
    /* Assertions: those that hold are followed. */
    rx_next_turn(c, p);
    for (int32_t i = 0; i < count; i++) {
        if (list[i] == p->count) c->list[0][expanded++] = p->count;
        else expanded = rx_follow(p, c, c->list[0], expanded, list[i], places);
    }
    rx_next_turn(c, p);
    for (int32_t i = 0; i < expanded && !matched; i++) {
        int32_t at = c->list[0][i], target;
        if (at == p->count) {
            if (byte < 0) continue;
            next = rx_follow(p, c, c->list[1], next, p->start, -1);
            c->list[1][next++] = p->count;
        } else if (p->code[at].operation == RX_MATCH) {
            matched = 1;
        } else if (byte >= 0 && (target = rx_target(p, p->code + at, byte)) >= 0) {
            next = rx_follow(p, c, c->list[1], next, target, -1);
        }
    }
    c->work += expanded + next;
    if (next == 0) {
        move = matched ? RX_DEAD_MATCHED : RX_DEAD;
    } else {
        after = byte == '\n' ? RX_AFTER_LINE : rx_is_word(byte) ? RX_AFTER_WORD : 0;
        number = rx_state(p, c, c->list[1], next, after);
        if (number == RX_NO_MEMORY) { *status = RX_NO_MEMORY; return RX_DEAD; }
        move = number * stride;
        int32_t start = p->skips && number == c->start;
        if (matched || start) move = RX_NOTED - (move << 2 | (start ? RX_IS_START : 0) | (matched ? RX_AFTER_MATCH : 0));
        if (c->forgotten != forgotten) return move;   /* all states went, the one that this is a move of with them */
    }
    c->moves.words[row + class_] = move;
    return move;
}

/* The state that a text begins in; RX_NO_MEMORY. */
static int32_t rx_start_state(const rx_program *p, rx_cache *c) {
    if (c->start < 0) {
        int32_t count;
        rx_next_turn(c, p);
        count = rx_follow(p, c, c->list[1], 0, p->start, -1);
        if (!p->anchored) c->list[1][count++] = p->count;
        c->start = rx_state(p, c, c->list[1], count, RX_AFTER_NOTHING);
    }
    return c->start;
}

/* Whether there is a match, and where the first one ends; with `earliest` any end will do. */
static int rx_dfa(const rx_program *p, rx_cache *c, const uint8_t *text, int64_t size, int earliest, int64_t *end) {
    const uint8_t *at = text, *stop = text + size;
    int32_t row = rx_start_state(p, c), move;
    int status = RX_NONE;
    int64_t last = -1;
    if (row < 0) return RX_NO_MEMORY;
    row *= p->classes + 1;
    if (p->skips) at = rx_skip(p, at, stop);
    while (at < stop) {
        const uint8_t *from = at, *pause = stop - at > 65536 ? at + 65536 : stop;
        const int32_t *moves = c->moves.words;
        while (at < pause) {
            move = moves[row + p->class_of[*at]];
            if (move >= 0) { row = move; at++; continue; }
            if (move == RX_UNKNOWN) {
                move = rx_make_move(p, c, row, p->class_of[*at], &status);
                if (status) return status;
                moves = c->moves.words;
                if (c->work >= RX_WORK_A_TURN) pause = at + 1;
            }
            if (move >= 0) {
                row = move;
            } else if (move <= RX_NOTED) {
                move = RX_NOTED - move;
                row = move >> 2;
                if (move & RX_AFTER_MATCH) {
                    last = at - text;
                    if (earliest) goto found;
                }
                if (move & RX_IS_START) { at = rx_skip(p, at + 1, stop); continue; }
            } else {
                if (move == RX_DEAD_MATCHED) last = at - text;
                goto ended;
            }
            at++;
        }
        if (rx_worked(c, at - from)) return RX_STOPPED;
    }
    move = c->moves.words[row + p->classes];
    if (move == RX_UNKNOWN) move = rx_make_move(p, c, row, p->classes, &status);
    if (status) return status;
    if (move == RX_DEAD_MATCHED) last = size;
ended:
    if (last < 0) return RX_NONE;
found:
    *end = last;
    return RX_FOUND;
}

#endif
