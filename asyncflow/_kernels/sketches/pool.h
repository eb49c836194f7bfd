/* The memory of a state's sketches: small blocks that are freed are kept for the next ones.
 *
 * A window that closes frees as many small sketches as the next one needs: from a list of spare ones each costs a load and a store.  Spare
 * blocks are of whole lines of 64 bytes, up to AF_SPARE_LINES of them, one list for each size.  They come to AF_SPARE_MOST bytes at most, and
 * where nothing is held, nothing is spare.
 *
 * A new sketch gets room for as many values as those that went lately had on average, so that most need not grow. */
#ifndef ASYNCFLOW_SKETCH_POOL_H
#define ASYNCFLOW_SKETCH_POOL_H

#include "base/cpu.h"

enum { AF_SPARE_LINES = 18, AF_SPARE_MOST = 4 << 20, AF_LATELY = 64, AF_FIRST_ROOM = 8, AF_MOST_FIRST_ROOM = 128 };

typedef struct {
    uint64_t held, spare_bytes; /* bytes of what is in use, as owners count them, and of spare blocks */
    void *spare[AF_SPARE_LINES + 1];
    uint32_t lately; /* values that a sketch that goes has, on average of the last ones, times AF_LATELY */
    bool wide;       /* AVX-512 is to be used */
} af_pool;

AF_INLINE size_t af_pool_lines(size_t bytes) { return (bytes + 63) / 64; }

/* A block; NULL: no memory. */
AF_INLINE void *af_pool_take(af_pool *pool, size_t bytes) {
    const size_t lines = af_pool_lines(bytes);
    if (lines > AF_SPARE_LINES) return malloc(bytes);
    void *block = pool->spare[lines];
    if (block == NULL) return malloc(lines * 64);
    memcpy(&pool->spare[lines], block, sizeof(void *));
    pool->spare_bytes -= lines * 64;
    __builtin_prefetch(pool->spare[lines], 1); /* the next one is in no cache any more */
    return block;
}

AF_NOINLINE void af_pool_release(af_pool *pool) {
    for (size_t lines = 0; lines <= AF_SPARE_LINES; lines++)
        for (void *block; (block = pool->spare[lines]) != NULL; free(block)) memcpy(&pool->spare[lines], block, sizeof(void *));
    pool->spare_bytes = 0;
}

/* Takes back a block of so many bytes, which are no longer counted as held. */
AF_INLINE void af_pool_give(af_pool *pool, void *block, size_t bytes) {
    const size_t lines = af_pool_lines(bytes);
    if (lines > AF_SPARE_LINES || pool->spare_bytes + lines * 64 > AF_SPARE_MOST) {
        free(block);
    } else {
        memcpy(block, &pool->spare[lines], sizeof(void *));
        pool->spare[lines] = block;
        pool->spare_bytes += lines * 64;
    }
    if (AF_UNLIKELY(pool->held == 0 && pool->spare_bytes)) af_pool_release(pool);
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
