/* What a window kernel keeps: cells in pages in panes.
 *
 * A cell is one group's accumulators in one pane: 8 bytes of row count (0: no such group here), then one accumulator after another,
 * as laid out once per stage (af_op).  Cells of 64 neighbouring group ids make a page; a pane has a table of pages, allocated as
 * groups come, from an arena that recycles them.  A cell of count, sum, min, max and mean over one column is one cache line.
 *
 *   accumulator   words of 8 bytes in the cell
 *   NUMBER        rows left out (null or filtered); where wanted sum: high, low (float64: sum and compensation; int64: 128 bits, low
 *                 word first); where wanted least, greatest (as words that sort like the values)
 *   MOMENTS       n, mean, m2                      COMOMENTS   n, mean x, mean y, m2 x, m2 y, co-moment
 *   PICK          arrival (-1: none), key, value   DISTINCT    number of values (they are in the pane's set)
 *   SKETCH        where it is (sketches/sketches.h)
 *
 * Text in a PICK and a SKETCH are blocks of their own that belong to the cell.  Values of a DISTINCT are in one hash set per pane; where cells
 * are merged and emptied one by one (size None, see window/slots.h) in a set of the cell's own, whose address is the accumulator's second
 * word. */
#ifndef ASYNCFLOW_WINDOW_CELLS_H
#define ASYNCFLOW_WINDOW_CELLS_H

#include <math.h>
#include <sys/mman.h>

#include "sketches/sketches.h"

typedef __int128 af_wide; /* pane and window numbers: no int64 time or size makes them overflow */

enum { AF_PAGE_CELLS = 64, AF_PAGE_SHIFT = 6, AF_MAX_CHUNK = 2 << 20, AF_FIRST_CHUNK = 64 << 10 };

typedef enum { AF_NUMBER, AF_MOMENTS, AF_COMOMENTS, AF_PICK, AF_DISTINCT, AF_SKETCH } af_op_kind;
typedef enum { AF_INT64, AF_FLOAT64, AF_BOOL, AF_STRING } af_value_kind;
typedef enum { AF_KEY_NONE, AF_KEY_TIME, AF_KEY_VALUE } af_pick_key;

/* One accumulator: what it reads and where it is in the cell.  Columns and masks by position, -1 for none. */
typedef struct {
    int kind; /* af_op_kind */
    int input, second, mask;
    int input_kind, second_kind; /* af_value_kind */
    int offset;
    int sum, extremes;                       /* NUMBER */
    int key, key_input, key_kind;            /* PICK: af_pick_key, column and kind of the key */
    int greatest, last, valued;              /* PICK: which is better; whether there is a value besides the key */
    int set;                                 /* DISTINCT: which of the pane's sets */
    int sketch, counters;                    /* SKETCH: af_sketch_kind; how many counters */
} af_op;

typedef struct {
    uint32_t capacity, length;
    uint8_t bytes[];
} af_text;

typedef struct {
    uint64_t hash, value; /* value: a word, or where the text begins in the set's text */
    int32_t group;        /* -1: empty */
    uint32_t length;
} af_member;

typedef struct {
    af_member *members;
    uint64_t mask, count; /* mask 0: nothing allocated */
    uint8_t *text;
    uint64_t text_bytes, text_capacity;
} af_set;

typedef struct {
    af_wide number, first; /* first: the first window of a sub-pane; AF_NO_FIRST for the pane itself */
    af_wide low, high;     /* the windows it counts in */
    uint8_t **pages;
    uint32_t page_count, used_pages;
    af_set *sets;
} af_pane;

#define AF_WIDE_MAX ((af_wide)1 << 126)
#define AF_NO_FIRST (-AF_WIDE_MAX)

typedef struct {
    uint8_t *memory;
    size_t bytes;
} af_chunk;

typedef struct {
    af_chunk *chunks;
    size_t chunk_count, carved; /* bytes of the last chunk in use */
    void *free_pages;
    size_t used_pages, bytes, peak_pages;
} af_arena;

typedef struct {
    af_op *ops;
    int op_count, set_count;
    bool own_sets, has_blocks; /* DISTINCT has a set per cell; cells have blocks of their own */
    size_t cell_bytes, page_bytes;
    uint8_t *empty_page;
    af_arena arena;
    uint64_t text_bytes, set_bytes, sketch_bytes, table_bytes;
    uint64_t seed;
} af_store;

AF_INLINE int64_t *af_i64(uint8_t *cell, int offset) { return (int64_t *)(cell + offset); }
AF_INLINE double *af_f64(uint8_t *cell, int offset) { return (double *)(cell + offset); }

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

/* -- texts ---------------------------------------------------------------------------------------------------------- */

static bool af_text_set(af_store *store, int64_t *slot, const uint8_t *bytes, uint32_t length) {
    af_text *text = (af_text *)(intptr_t)*slot;
    if (text == NULL || text->capacity < length || text->capacity / 4 > length + 64) {
        uint32_t capacity = length < 16 ? 16 : length;
        if (text != NULL) store->text_bytes -= text->capacity;
        af_text *grown = realloc(text, sizeof(af_text) + capacity);
        if (grown == NULL) return false;
        text = grown;
        text->capacity = capacity;
        store->text_bytes += capacity;
        *slot = (int64_t)(intptr_t)text;
    }
    text->length = length;
    if (length) memcpy(text->bytes, bytes, length);
    return true;
}

static void af_text_drop(af_store *store, int64_t *slot) {
    af_text *text = (af_text *)(intptr_t)*slot;
    if (text != NULL) store->text_bytes -= text->capacity;
    free(text);
    *slot = 0;
}

/* -- sets ----------------------------------------------------------------------------------------------------------- */

AF_INLINE uint64_t af_member_place(uint64_t hash, int32_t group) { return af_fold(hash + (uint64_t)(uint32_t)group, 0xD6E8FEB86659FD93ull); }

static void af_set_free(af_store *store, af_set *set) {
    if (set->mask) store->set_bytes -= (set->mask + 1) * sizeof(af_member);
    store->set_bytes -= set->text_capacity;
    free(set->members);
    free(set->text);
    memset(set, 0, sizeof *set);
}

/* Room for `slots` members, under new group names where `names` is given (group g becomes names[g]). */
static bool af_set_resize(af_store *store, af_set *set, uint64_t slots, const int32_t *names) {
    af_member *members = malloc(slots * sizeof(af_member));
    if (members == NULL) return false;
    for (uint64_t i = 0; i < slots; i++) members[i].group = -1;
    for (uint64_t i = 0; set->mask && i <= set->mask; i++) {
        af_member member = set->members[i];
        if (member.group < 0) continue;
        if (names != NULL) member.group = names[member.group];
        uint64_t at = af_member_place(member.hash, member.group) & (slots - 1);
        while (members[at].group >= 0) at = (at + 1) & (slots - 1);
        members[at] = member;
    }
    if (set->mask) store->set_bytes -= (set->mask + 1) * sizeof(af_member);
    store->set_bytes += slots * sizeof(af_member);
    free(set->members);
    set->members = members;
    set->mask = slots - 1;
    return true;
}

/* Adds (group, value): 1 where it is new, 0 where it was there, -1: no memory.  `text` NULL: the value is `word`. */
static int af_set_add(af_store *store, af_set *set, int32_t group, uint64_t hash, uint64_t word, const uint8_t *text, uint32_t length) {
    if (set->count * 2 >= set->mask && !af_set_resize(store, set, set->mask ? (set->mask + 1) * 2 : store->own_sets ? 4 : 16, NULL)) return -1;
    uint64_t at = af_member_place(hash, group) & set->mask;
    for (; set->members[at].group >= 0; at = (at + 1) & set->mask) {
        const af_member *member = &set->members[at];
        if (member->hash != hash || member->group != group || member->length != length) continue;
        if (text == NULL ? member->value == word : length == 0 || memcmp(set->text + member->value, text, length) == 0) return 0;
    }
    if (text != NULL) {
        word = set->text_bytes;
        if (word + length > set->text_capacity) {
            uint64_t capacity = set->text_capacity ? set->text_capacity * 2 : store->own_sets ? 32 : 256;
            while (capacity < word + length) capacity *= 2;
            uint8_t *grown = realloc(set->text, capacity);
            if (grown == NULL) return -1;
            store->set_bytes += capacity - set->text_capacity;
            set->text = grown;
            set->text_capacity = capacity;
        }
        if (length) memcpy(set->text + word, text, length);
        set->text_bytes += length;
    }
    set->members[at] = (af_member){hash, word, group, length};
    set->count++;
    return 1;
}

/* The set that a cell owns, made when first needed; NULL: no memory. */
AF_INLINE af_set *af_own_set(af_store *store, int64_t *slot) {
    af_set *set = (af_set *)(intptr_t)*slot;
    if (AF_LIKELY(set != NULL) || (set = calloc(1, sizeof(af_set))) == NULL) return set;
    store->set_bytes += sizeof(af_set);
    *slot = (int64_t)(intptr_t)set;
    return set;
}

static void af_own_set_drop(af_store *store, int64_t *slot) {
    af_set *set = (af_set *)(intptr_t)*slot;
    if (set == NULL) return;
    af_set_free(store, set);
    store->set_bytes -= sizeof(af_set);
    free(set);
    *slot = 0;
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

/* Forgets what a cell owns. */
static void af_cell_drop(af_store *store, uint8_t *cell) {
    for (int i = 0; i < store->op_count; i++) {
        const af_op *op = &store->ops[i];
        if (op->kind == AF_SKETCH) af_sketch_drop(op->sketch, af_i64(cell, op->offset), &store->sketch_bytes);
        if (op->kind == AF_DISTINCT && store->own_sets) af_own_set_drop(store, af_i64(cell, op->offset + 8));
        if (op->kind != AF_PICK) continue;
        if (op->key == AF_KEY_VALUE && op->key_kind == AF_STRING) af_text_drop(store, af_i64(cell, op->offset + 8));
        if (op->valued && op->input_kind == AF_STRING) af_text_drop(store, af_i64(cell, op->offset + 16));
    }
}

static void af_pane_free(af_store *store, af_pane *pane) {
    if (pane == NULL) return;
    for (uint32_t i = 0; i < pane->page_count; i++) {
        uint8_t *page = pane->pages[i];
        if (page == NULL) continue;
        for (int j = 0; store->has_blocks && j < AF_PAGE_CELLS; j++)
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
