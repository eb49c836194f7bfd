/* Arrays that may become large, and then grow where they are: the pages of a large one are moved, not its bytes, and no page is zeroed that
 * was there before.  From AF_HUGE_FROM bytes on, an array has pages of its own, huge ones where the system has them; every array begins at a
 * cache line. */
#ifndef ASYNCFLOW_PAGES_H
#define ASYNCFLOW_PAGES_H

#include "base/cpu.h"

#if defined(__linux__) && !defined(MREMAP_MAYMOVE)
#error "_GNU_SOURCE comes before the first header: all files of a kernel free an array in the same way"
#endif

/* The array in other memory. */
static void *af_pages_copied(void *memory, size_t held, size_t bytes) {
    void *moved;
    if (posix_memalign(&moved, bytes < AF_HUGE_FROM ? 64 : 2 << 20, bytes ? bytes : 64) != 0) return NULL;
    af_want_huge(moved, bytes);
    if (held) memcpy(moved, memory, held < bytes ? held : bytes);
    return moved;
}

#if defined(MREMAP_MAYMOVE)

AF_INLINE size_t af_pages_size(size_t bytes) {
    const size_t huge = 2 << 20;
    return (bytes + huge - 1) & ~(huge - 1);
}

static void af_pages_free(void *memory, size_t bytes) {
    if (bytes < AF_HUGE_FROM) free(memory);
    else if (memory != NULL) munmap(memory, af_pages_size(bytes));
}

/* The array with `bytes` bytes, of which the first ones are as they were; `held`: how many it has (0: NULL).  NULL: no memory, nothing done. */
static void *af_pages_resized(void *memory, size_t held, size_t bytes) {
    void *moved;
    if (held >= AF_HUGE_FROM && bytes >= AF_HUGE_FROM) {
        moved = mremap(memory, af_pages_size(held), af_pages_size(bytes), MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
    if (bytes < AF_HUGE_FROM) {
        moved = af_pages_copied(memory, held, bytes);
        if (moved == NULL) return NULL;
    } else {
        moved = mmap(NULL, af_pages_size(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (moved == MAP_FAILED) return NULL;
        af_want_huge(moved, af_pages_size(bytes));
        if (held) memcpy(moved, memory, held);
    }
    af_pages_free(memory, held);
    return moved;
}

#else

static void af_pages_free(void *memory, size_t bytes) {
    (void)bytes;
    free(memory);
}

static void *af_pages_resized(void *memory, size_t held, size_t bytes) {
    void *moved = af_pages_copied(memory, held, bytes);
    if (moved != NULL) free(memory);
    return moved;
}

#endif

/* The same for an array whose pointer's address is given; `held` becomes `bytes`.  false: no memory, nothing done. */
static bool af_pages_grow(void *array, size_t *held, size_t bytes) {
    void *items;
    memcpy(&items, array, sizeof items);
    items = af_pages_resized(items, *held, bytes);
    if (items == NULL) return false;
    memcpy(array, &items, sizeof items);
    *held = bytes;
    return true;
}

#endif
