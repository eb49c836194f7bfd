/* A window kernel's life: made from a shape and accumulators, shrunk when much of it is free, renamed when groups go, freed. */
#ifndef ASYNCFLOW_WINDOW_STATE_H
#define ASYNCFLOW_WINDOW_STATE_H

#include "window/slots.h"

enum { AF_SHRINK_EVERY = 16, AF_SHRINK_ABOVE = 8 << 20 };

/* The shape: size 0 is one window over everything.  `every` in 1 .. size, offset in 0 .. every - 1. */
static void af_state_shape(af_state *state, int64_t size, int64_t every, int64_t offset) {
    const af_wide least = (af_wide)1 << 63;
    state->sized = size > 0;
    state->size = size > 0 ? size : 1;
    state->every = size > 0 ? (uint64_t)every : 1;
    state->offset = offset;
    state->tail = (uint64_t)state->size % state->every;
    state->steps = state->tail ? 2 : 1;
    state->span = (af_wide)((uint64_t)state->size / state->every) * state->steps + (state->tail != 0);
    state->reciprocal = UINT64_MAX / state->every;
    state->bias = (least + offset + (af_wide)state->every - 1) / (af_wide)state->every;
    state->shift = (uint64_t)(state->bias * (af_wide)state->every - least - offset);
    state->advanced = INT64_MIN;
    state->closed = state->head_block = state->flipped_block = AF_NO_FIRST;
}

static void af_state_free(af_state *state) {
    af_store *store = &state->store;
    if (state->out.active && state->out.owned) af_pane_free(store, state->out.pane);
    for (size_t i = state->head; i < state->end; i++) af_pane_free(store, state->panes[i]);
    for (size_t i = 0; i < state->fresh_count; i++) af_pane_free(store, state->fresh[i]);
    af_pane_free(store, state->head_pane);
    af_arena_free(&store->arena);
    af_pool_release(&store->sketches, 0);
    free(state->panes);
    free(state->out.groups);
    free(store->ops);
    free(store->empty_page);
    memset(state, 0, sizeof *state);
}

/* Gives the memory of all rows back; the columns stay declared. */
static void af_result_drop(af_result *result) {
    for (int i = 0; i < result->output_count; i++) {
        af_output *output = &result->outputs[i];
        free(output->words);
        free(output->valid);
        free(output->text);
        free(output->items);
        output->words = NULL, output->valid = NULL, output->text = NULL, output->items = NULL;
        output->text_capacity = output->item_capacity = 0;
    }
    free(result->starts);
    free(result->ends);
    free(result->groups);
    result->starts = result->ends = NULL, result->groups = NULL;
    result->capacity = 0;
    af_result_clear(result);
}

static void af_result_free(af_result *result) {
    af_result_drop(result);
    free(result->outputs);
    free(result->ranks);
    free(result->present);
    memset(result, 0, sizeof *result);
}

static bool af_move_pages(af_store *store, af_pane *pane) {
    for (uint32_t i = 0; pane != NULL && i < pane->page_count; i++) {
        if (pane->pages[i] == NULL) continue;
        uint8_t *page = af_page_new(store);
        if (page == NULL) return false;
        memcpy(page, pane->pages[i], store->page_bytes);
        pane->pages[i] = page;
    }
    return true;
}

/* Gives memory back when for some time no more than a quarter of it was in use.  Called between windows; without memory to
 * move to, everything stays where it is. */
static void af_state_shrink(af_state *state) {
    af_store *store = &state->store;
    af_arena *arena = &store->arena;
    if (arena->bytes <= AF_SHRINK_ABOVE || arena->peak_pages * store->page_bytes > arena->bytes / 4) {
        arena->peak_pages = arena->used_pages;
        return;
    }
    af_arena old = *arena;
    size_t pages = old.used_pages;
    memset(arena, 0, sizeof *arena);
    if (pages) { /* one chunk for all, so that moving cannot fail half-way */
        void *memory = NULL;
        arena->chunks = malloc(sizeof(af_chunk));
        if (arena->chunks == NULL || posix_memalign(&memory, 64, pages * store->page_bytes) != 0) {
            free(arena->chunks);
            *arena = old;
            return;
        }
        arena->chunks[0] = (af_chunk){memory, pages * store->page_bytes};
        arena->chunk_count = 1;
        arena->bytes = pages * store->page_bytes;
        for (size_t i = state->head; i < state->end; i++) af_move_pages(store, state->panes[i]);
        af_move_pages(store, state->head_pane);
    }
    af_arena_free(&old);
}

/* Marks the groups that are held. */
static void af_mark_live(const af_state *state, const af_pane *pane, uint8_t *live, int64_t group_count) {
    for (uint32_t i = 0; pane != NULL && i < pane->page_count; i++) {
        if (pane->pages[i] == NULL) continue;
        for (int64_t j = 0; j < AF_PAGE_CELLS && (int64_t)i * AF_PAGE_CELLS + j < group_count; j++)
            if (*af_i64(pane->pages[i] + (size_t)j * state->store.cell_bytes, 0)) live[(int64_t)i * AF_PAGE_CELLS + j] = 1;
    }
}

static uint64_t af_state_bytes(const af_state *state, const af_result *result) {
    const af_store *store = &state->store;
    uint64_t total = store->arena.bytes + store->text_bytes + store->set_bytes + store->sketches.held + store->sketches.spare_bytes + store->sum_bytes + store->table_bytes + state->capacity * sizeof(af_pane *);
    total += (uint64_t)result->capacity * (20 + 9 * (uint64_t)result->output_count) + (uint64_t)result->ranks_capacity * 4;
    for (int i = 0; i < result->output_count; i++) total += result->outputs[i].text_capacity + result->outputs[i].item_capacity * sizeof(af_item);
    return total + (uint64_t)state->out.capacity * 4;
}

#endif
