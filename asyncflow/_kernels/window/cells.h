/* What a window kernel keeps: cells in pages in panes.
 *
 * Cells (accumulators/cell.h) of 64 neighbouring group ids make a page; a pane has a table of pages, allocated as groups come, from an
 * arena that recycles them.  A cell of count, sum, min, max and mean over one column is one cache line. */
#ifndef ASYNCFLOW_WINDOW_CELLS_H
#define ASYNCFLOW_WINDOW_CELLS_H

#include <sys/mman.h>

#include "accumulators/accumulators.h"

enum { AF_PAGE_SHIFT = 6, AF_MAX_CHUNK = 2 << 20, AF_FIRST_CHUNK = 64 << 10 };
_Static_assert(1 << AF_PAGE_SHIFT == AF_PAGE_CELLS, "a page's cells");

#define AF_WIDE_MAX ((af_wide)1 << 126)
#define AF_NO_FIRST (-AF_WIDE_MAX)

/* -- arena ---------------------------------------------------------------------------------------------------------- */

static void af_advise_huge(void *memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    if (bytes == AF_MAX_CHUNK) madvise(memory, bytes, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

static uint8_t *af_page_new(af_store *store) {
    af_arena *arena = &store->arena;
    uint8_t *page = arena->free_pages;
    if (page != NULL) {
        memcpy(&arena->free_pages, page, sizeof(void *));
    } else {
        af_chunk *last = arena->chunk_count ? &arena->chunks[arena->chunk_count - 1] : NULL;
        if (last == NULL || arena->carved + store->page_bytes > last->bytes) {
            size_t bytes = arena->bytes < AF_FIRST_CHUNK ? AF_FIRST_CHUNK : arena->bytes > AF_MAX_CHUNK ? AF_MAX_CHUNK : arena->bytes;
            if (bytes < store->page_bytes) bytes = store->page_bytes;
            af_chunk *chunks = realloc(arena->chunks, (arena->chunk_count + 1) * sizeof(af_chunk));
            if (chunks == NULL) return NULL;
            arena->chunks = chunks;
            void *memory = NULL;
            if (posix_memalign(&memory, bytes == AF_MAX_CHUNK ? AF_MAX_CHUNK : 64, bytes) != 0) return NULL;
            af_advise_huge(memory, bytes);
            last = &chunks[arena->chunk_count++];
            *last = (af_chunk){memory, bytes};
            arena->bytes += bytes;
            arena->carved = 0;
        }
        page = last->memory + arena->carved;
        arena->carved += store->page_bytes;
    }
    if (++arena->used_pages > arena->peak_pages) arena->peak_pages = arena->used_pages;
    return page;
}

static void af_page_free(af_store *store, uint8_t *page) {
    memcpy(page, &store->arena.free_pages, sizeof(void *));
    store->arena.free_pages = page;
    store->arena.used_pages--;
}

static void af_arena_free(af_arena *arena) {
    for (size_t i = 0; i < arena->chunk_count; i++) free(arena->chunks[i].memory);
    free(arena->chunks);
    memset(arena, 0, sizeof *arena);
}

/* -- panes ---------------------------------------------------------------------------------------------------------- */

static af_pane *af_pane_new(af_store *store) {
    af_pane *pane = calloc(1, sizeof(af_pane));
    if (pane == NULL) return NULL;
    if (store->set_count) {
        pane->sets = calloc((size_t)store->set_count, sizeof(af_set));
        if (pane->sets == NULL) {
            free(pane);
            return NULL;
        }
    }
    store->table_bytes += sizeof(af_pane);
    return pane;
}

/* Room for groups 0 .. groups - 1. */
static bool af_pane_reserve(af_store *store, af_pane *pane, int64_t groups) {
    size_t wanted = (size_t)(groups + AF_PAGE_CELLS - 1) >> AF_PAGE_SHIFT;
    if (wanted <= pane->page_count) return true;
    if (wanted < (size_t)pane->page_count * 3 / 2) wanted = (size_t)pane->page_count * 3 / 2;
    uint8_t **pages = realloc(pane->pages, wanted * sizeof *pages);
    if (pages == NULL) return false;
    memset(pages + pane->page_count, 0, (wanted - pane->page_count) * sizeof *pages);
    store->table_bytes += (wanted - pane->page_count) * sizeof *pages;
    pane->pages = pages;
    pane->page_count = (uint32_t)wanted;
    return true;
}

AF_NOINLINE uint8_t *af_pane_page(af_store *store, af_pane *pane, uint32_t at) {
    uint8_t *page = af_page_new(store);
    if (page == NULL) return NULL;
    memcpy(page, store->empty_page, store->page_bytes);
    pane->used_pages++;
    return pane->pages[at] = page;
}

static void af_pane_free(af_store *store, af_pane *pane) {
    if (pane == NULL) return;
    for (uint32_t i = 0; i < pane->page_count; i++) {
        uint8_t *page = pane->pages[i];
        if (page == NULL) continue;
        for (int j = 0; af_cells_own(store) && j < AF_PAGE_CELLS; j++)
            if (*af_i64(page + (size_t)j * store->cell_bytes, 0)) af_cell_drop(store, page + (size_t)j * store->cell_bytes);
        af_page_free(store, page);
    }
    for (int i = 0; i < store->set_count; i++) af_set_free(store, &pane->sets[i]);
    store->table_bytes -= sizeof(af_pane) + (size_t)pane->page_count * sizeof *pane->pages;
    free(pane->sets);
    free(pane->pages);
    free(pane);
}

/* Moves every cell to its group's new name; false: no memory (the pane then is as before). */
static bool af_pane_rename(af_store *store, af_pane *pane, const int32_t *names, int64_t groups) {
    af_pane renamed = {0};
    if (!af_pane_reserve(store, &renamed, groups ? groups : 1)) return false;
    for (uint32_t i = 0; i < pane->page_count; i++) {
        for (int j = 0; pane->pages[i] != NULL && j < AF_PAGE_CELLS; j++) {
            uint8_t *cell = pane->pages[i] + (size_t)j * store->cell_bytes;
            if (*af_i64(cell, 0) == 0) continue;
            uint32_t group = (uint32_t)names[(int64_t)i * AF_PAGE_CELLS + j], at = group >> AF_PAGE_SHIFT;
            if (renamed.pages[at] == NULL && af_pane_page(store, &renamed, at) == NULL) {
                for (uint32_t p = 0; p < renamed.page_count; p++)
                    if (renamed.pages[p] != NULL) af_page_free(store, renamed.pages[p]);
                store->table_bytes -= (size_t)renamed.page_count * sizeof *renamed.pages;
                free(renamed.pages);
                return false;
            }
            memcpy(renamed.pages[at] + (size_t)(group % AF_PAGE_CELLS) * store->cell_bytes, cell, store->cell_bytes);
        }
    }
    for (uint32_t i = 0; i < pane->page_count; i++)
        if (pane->pages[i] != NULL) af_page_free(store, pane->pages[i]);
    store->table_bytes -= (size_t)pane->page_count * sizeof *pane->pages;
    free(pane->pages);
    pane->pages = renamed.pages;
    pane->page_count = renamed.page_count;
    pane->used_pages = renamed.used_pages;
    for (int i = 0; i < store->set_count; i++)
        if (pane->sets[i].mask && !af_set_resize(store, &pane->sets[i], pane->sets[i].mask + 1, names)) return false;
    return true;
}

#endif
