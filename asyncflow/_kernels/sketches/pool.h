/* The memory of a state's sketches: small blocks that are freed are kept for the next ones.
 *
 * A window that closes frees as many small sketches as the next one needs: from a list of spare ones each costs a load and a store.  Spare
 * blocks are of whole lines of 64 bytes, up to AF_SPARE_LINES of them, one list for each size.  They come to no more than what is in use, nor
 * to more than AF_SPARE_MOST bytes, those of the size that came last going before others.
 *
 * A new sketch gets room for as many values as those that went lately had on average, so that most need not grow. */
#ifndef ASYNCFLOW_SKETCH_POOL_H
#define ASYNCFLOW_SKETCH_POOL_H

#include "base/cpu.h"

enum { AF_SPARE_LINES = 18, AF_SPARE_MOST = 4 << 20, AF_LATELY = 64, AF_FIRST_ROOM = 8, AF_MOST_FIRST_ROOM = 128 };

typedef struct {
    void **blocks; /* the last one that came is the next that goes */
    uint32_t count, room;
} af_spares;

typedef struct {
    uint64_t held, spare_bytes; /* bytes of what is in use, as owners count them, and of spare blocks and their lists */
    af_spares spares[AF_SPARE_LINES + 1]; /* of so many lines */
    uint32_t lately; /* values that a sketch that goes has, on average of the last ones, times AF_LATELY */
    bool wide;       /* AVX-512 is to be used */
} af_pool;

AF_INLINE size_t af_pool_lines(size_t bytes) { return (bytes + 63) / 64; }
AF_INLINE size_t af_spare_bytes(size_t lines) { return lines * 64 + sizeof(void *); }

/* Whether one more spare block of so many lines is not too much. */
AF_INLINE bool af_spare_fits(const af_pool *pool, size_t lines) {
    const uint64_t bytes = pool->spare_bytes + af_spare_bytes(lines);
    return bytes <= AF_SPARE_MOST && bytes <= pool->held;
}

/* A block; NULL: no memory. */
AF_INLINE void *af_pool_take(af_pool *pool, size_t bytes) {
    enum { AHEAD = 4 };
    const size_t lines = af_pool_lines(bytes);
    if (lines > AF_SPARE_LINES) return malloc(bytes);
    af_spares *spares = &pool->spares[lines];
    if (spares->count == 0) return malloc(lines * 64);
    pool->spare_bytes -= af_spare_bytes(lines);
    if (spares->count > AHEAD) __builtin_prefetch(spares->blocks[spares->count - 1 - AHEAD], 1); /* in no cache any more */
    return spares->blocks[--spares->count];
}

/* Frees the spare blocks, but for those of so many lines. */
AF_NOINLINE void af_pool_release(af_pool *pool, size_t kept) {
    for (size_t lines = 1; lines <= AF_SPARE_LINES; lines++) {
        af_spares *spares = &pool->spares[lines];
        if (lines == kept) continue;
        pool->spare_bytes -= spares->count * af_spare_bytes(lines);
        while (spares->count) free(spares->blocks[--spares->count]);
        free(spares->blocks);
        *spares = (af_spares){0};
    }
}

/* Room for one more block of so many lines; false: there is to be no more, or no memory. */
AF_NOINLINE bool af_spares_reserve(af_pool *pool, size_t lines) {
    af_spares *spares = &pool->spares[lines];
    if (!af_spare_fits(pool, lines)) af_pool_release(pool, lines); /* what sketches grew out of */
    if (!af_spare_fits(pool, lines)) {
        if (spares->count && pool->spare_bytes > pool->held) {
            pool->spare_bytes -= af_spare_bytes(lines);
            free(spares->blocks[--spares->count]);
        }
        return false;
    }
    if (spares->count < spares->room) return true;
    const uint32_t room = spares->room ? 2 * spares->room : 16;
    void **blocks = realloc(spares->blocks, room * sizeof *blocks);
    if (blocks == NULL) return false;
    spares->blocks = blocks;
    spares->room = room;
    return true;
}

/* Takes back a block of so many bytes, which are no longer counted as held. */
AF_INLINE void af_pool_give(af_pool *pool, void *block, size_t bytes) {
    const size_t lines = af_pool_lines(bytes);
    if (lines > AF_SPARE_LINES) {
        free(block);
    } else {
        af_spares *spares = &pool->spares[lines];
        if (AF_LIKELY(spares->count < spares->room && af_spare_fits(pool, lines)) || af_spares_reserve(pool, lines)) {
            spares->blocks[spares->count++] = block;
            pool->spare_bytes += af_spare_bytes(lines);
        } else {
            free(block);
        }
    }
    if (AF_UNLIKELY(pool->held == 0 && pool->spare_bytes)) af_pool_release(pool, 0);
}

/* Takes note of how many values a sketch had that goes, AF_MOST_FIRST_ROOM at most. */
AF_INLINE void af_pool_note(af_pool *pool, uint32_t length) { pool->lately += length - pool->lately / AF_LATELY; }

/* For how many values a new sketch has room. */
AF_INLINE uint32_t af_pool_room(const af_pool *pool) {
    const uint32_t usual = pool->lately / AF_LATELY;
    uint32_t room = AF_FIRST_ROOM;
    while (room < usual) room *= 2;
    return room;
}

/* A block of `wanted` bytes in place of one of `bytes` (or of NULL and 0), with what it held; NULL: no memory, and the block is as before. */
AF_INLINE void *af_pool_resize(af_pool *pool, void *block, size_t bytes, size_t wanted) {
    if (af_pool_lines(bytes) > AF_SPARE_LINES && af_pool_lines(wanted) > AF_SPARE_LINES) return realloc(block, wanted);
    void *moved = af_pool_take(pool, wanted);
    if (moved == NULL || block == NULL) return moved;
    memcpy(moved, block, bytes < wanted ? bytes : wanted);
    af_pool_give(pool, block, bytes);
    return moved;
}

#endif
