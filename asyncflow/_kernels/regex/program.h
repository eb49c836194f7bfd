/* The program of a pattern, and facts that are derived from it once.
 *
 * An instruction is three int32 (operation, x, y); a move is three int32 (first byte, last byte, instruction).
 * model/patterns/program.py describes their meaning.  Derived here: classes of bytes that no instruction and no assertion tells
 * apart, so that the automaton needs one column per class; the kinds of the byte before that assertions ask for; and the bytes that
 * a match can begin with.
 */
#ifndef AF_REGEX_PROGRAM_H
#define AF_REGEX_PROGRAM_H

#include "base/cpu.h"

enum { RX_MATCH, RX_BYTES, RX_SPLIT, RX_SAVE, RX_ASSERT };
enum { RX_BEGIN_LINE = 1, RX_END_LINE = 2, RX_BEGIN_TEXT = 4, RX_END_TEXT = 8, RX_WORD = 16, RX_NOT_WORD = 32 };
enum { RX_AFTER_NOTHING = 1, RX_AFTER_LINE = 2, RX_AFTER_WORD = 4 };
enum { RX_NONE = 0, RX_FOUND = 1, RX_NO_MEMORY = -1, RX_STOPPED = -2 };

typedef struct { int32_t operation, x, y; } rx_instruction;
typedef struct { int32_t low, high, target; } rx_move;

typedef struct {
    const rx_instruction *code;
    const rx_move *moves;
    const uint8_t *prefix;     /* every match begins with these bytes */
    int64_t prefix_size;
    int32_t count, start, anchored, literal;
    int32_t classes;           /* of bytes; one more stands for the end of the text */
    uint8_t class_of[256];
    uint8_t byte_of[256];      /* one byte of each class */
    int32_t asks;              /* the kinds of the byte before that an assertion asks for: RX_AFTER_... */
    int32_t skips;             /* every match begins with a byte of `first`, wherever it begins */
    uint8_t first[256];
} rx_program;

static inline int rx_is_word(int byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_';
}

/* Raises the Python exception that give_way has set. */
static inline int rx_raise(void) { return -1; }

/* The assertions that hold between two bytes (-1: no byte), as bits. */
static inline int32_t rx_places(int before, int after) {
    int32_t places = rx_is_word(before) != rx_is_word(after) ? RX_WORD : RX_NOT_WORD;
    if (before < 0) places |= RX_BEGIN_TEXT | RX_BEGIN_LINE;
    if (before == '\n') places |= RX_BEGIN_LINE;
    if (after < 0) places |= RX_END_TEXT | RX_END_LINE;
    if (after == '\n') places |= RX_END_LINE;
    return places;
}

/* The instruction to which a BYTES instruction leads on this byte, or -1. */
static inline int32_t rx_target(const rx_program *p, const rx_instruction *at, int byte) {
    const rx_move *move = p->moves + at->x;
    int32_t count = at->y;
    while (count > 8) {
        int32_t half = count / 2;
        if (move[half].low <= byte) { move += half; count -= half; }
        else count = half;
    }
    for (; count > 0 && move->low <= byte; move++, count--)
        if (byte <= move->high) return move->target;
    return -1;
}

static void rx_find_classes(rx_program *p) {
    uint8_t begins[257] = {0};
    p->asks = 0;
    for (int32_t i = 0; i < p->count; i++) {
        const rx_instruction *at = p->code + i;
        if (at->operation == RX_BYTES)
            for (int32_t m = at->x; m < at->x + at->y; m++)
                begins[p->moves[m].low] = begins[p->moves[m].high + 1] = 1;
        if (at->operation == RX_ASSERT) {
            if (at->x & (RX_BEGIN_TEXT | RX_BEGIN_LINE)) p->asks |= RX_AFTER_NOTHING;
            if (at->x & RX_BEGIN_LINE) p->asks |= RX_AFTER_LINE;
            if (at->x & (RX_WORD | RX_NOT_WORD)) p->asks |= RX_AFTER_WORD;
            if (at->x & (RX_BEGIN_LINE | RX_END_LINE)) begins['\n'] = begins['\n' + 1] = 1;
            if (at->x & (RX_WORD | RX_NOT_WORD))
                for (int byte = 1; byte < 256; byte++)
                    if (rx_is_word(byte) != rx_is_word(byte - 1)) begins[byte] = 1;
        }
    }
    p->classes = 0;
    for (int byte = 0; byte < 256; byte++) {
        if (byte == 0 || begins[byte]) p->byte_of[p->classes++] = (uint8_t)byte;
        p->class_of[byte] = (uint8_t)(p->classes - 1);
    }
}

/* Finds the bytes that a match can begin with.  There is nothing to skip where a match can be empty, or asks for the byte before it. */
static void rx_find_first(rx_program *p, int32_t *stack, uint8_t *seen) {
    int32_t top = 0;
    memset(p->first, 0, sizeof p->first);
    p->skips = 1;
    stack[top++] = p->start;
    while (top) {
        int32_t i = stack[--top];
        const rx_instruction *at = p->code + i;
        if (seen[i]) continue;
        seen[i] = 1;
        switch (at->operation) {
        case RX_BYTES:
            for (int32_t m = at->x; m < at->x + at->y; m++)
                for (int byte = p->moves[m].low; byte <= p->moves[m].high; byte++) p->first[byte] = 1;
            break;
        case RX_SPLIT: stack[top++] = at->x; stack[top++] = at->y; break;
        case RX_SAVE: stack[top++] = at->y; break;
        default: p->skips = 0;
        }
    }
    int count = 0;
    for (int byte = 0; byte < 256; byte++) count += p->first[byte];
    if (count > 240 || p->anchored) p->skips = 0;
}

/* Derives the facts; the caller has set code, moves, prefix, count, start, anchored and literal.  RX_NO_MEMORY or RX_NONE. */
static int rx_program_open(rx_program *p) {
    int32_t *stack = malloc(sizeof(int32_t) * (2 * (size_t)p->count + 2));
    uint8_t *seen = calloc((size_t)p->count + 1, 1);
    if (stack && seen) {
        rx_find_classes(p);
        rx_find_first(p, stack, seen);
    }
    int status = stack && seen ? RX_NONE : RX_NO_MEMORY;
    free(stack);
    free(seen);
    return status;
}

/* The first place of the prefix, of two bytes or more, in [at, stop), or NULL: places where its first and its last byte stand, 16 at once. */
static inline const uint8_t *rx_find_prefix(const rx_program *p, const uint8_t *at, const uint8_t *stop) {
    const uint8_t *prefix = p->prefix;
    const int64_t more = p->prefix_size - 1;
#if AF_X86
    const __m128i first = _mm_set1_epi8((char)prefix[0]), last = _mm_set1_epi8((char)prefix[more]);
    for (; stop - at >= more + 16; at += 16) {
        const __m128i begins = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)at), first);
        const __m128i ends = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(at + more)), last);
        for (uint32_t bits = (uint32_t)_mm_movemask_epi8(_mm_and_si128(begins, ends)); bits; bits &= bits - 1) {
            const uint8_t *place = at + __builtin_ctz(bits);
            if (memcmp(place + 1, prefix + 1, (size_t)more) == 0) return place;
        }
    }
#endif
    return at < stop ? memmem(at, (size_t)(stop - at), prefix, (size_t)more + 1) : NULL;
}

/* The next place from `at` on where a match can begin; `stop` where there is none.  Only for programs that skip. */
static inline const uint8_t *rx_skip(const rx_program *p, const uint8_t *at, const uint8_t *stop) {
    if (at == stop) return stop;
    if (p->prefix_size > 0) {
        const uint8_t *found = p->prefix_size == 1 ? memchr(at, p->prefix[0], (size_t)(stop - at))
                                                   : rx_find_prefix(p, at, stop);
        return found ? found : stop;
    }
    while (at < stop && !p->first[*at]) at++;
    return at;
}

#endif
