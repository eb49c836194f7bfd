/* A window state saved and loaded: panes in order, the cells of each in the order of their groups' ranks (accumulators/saved.h has the rest).
 *
 * A pane's `first` is the first window that it counts in: greater than its number says, it is a sub-pane.  Panes of the block whose windows
 * are being given out are saved merged with those behind them, as they are kept (window/emit.h): which ones those are follows from the
 * last window closed.  The merged beginning of the next block is left out; the next window merges it anew, in the same order. */
#ifndef ASYNCFLOW_WINDOW_SAVED_H
#define ASYNCFLOW_WINDOW_SAVED_H

#include "window/state.h"

static int af_saved_words(const af_store *store) {
    int words = 2; /* group and rows */
    for (int i = 0; i < store->op_count; i++) words += af_accumulator_saved_words(&store->ops[i]);
    return words;
}

static int64_t af_high_word(af_wide value) { return (int64_t)(value >> 64); }
static int64_t af_low_word(af_wide value) { return (int64_t)(uint64_t)value; }
static af_wide af_wide_of(int64_t high, int64_t low) { return (af_wide)((unsigned __int128)(uint64_t)high << 64 | (uint64_t)low); }

/* -- saving ----------------------------------------------------------------------------------------------------------- */

static void af_saving_free(af_saving *saving) {
    free(saving->panes.bytes);
    free(saving->cells.bytes);
    free(saving->blocks.bytes);
    free(saving->data.bytes);
    memset(saving, 0, sizeof *saving);
}

static void af_placed_free(af_saving *saving) {
    for (int i = 0; saving->placed != NULL && i < saving->store->set_count; i++) free(saving->placed[i]);
    free(saving->placed);
    free(saving->placed_at);
    free(saving->placed_count);
    saving->placed = NULL;
    saving->placed_at = saving->placed_count = NULL;
}

/* The pane's sets in order. */
static void af_placed_pane(af_saving *saving, const af_pane *pane, const int32_t *ranks) {
    const size_t sets = (size_t)saving->store->set_count;
    saving->placed = calloc(sets + 1, sizeof *saving->placed);
    saving->placed_at = calloc(sets + 1, sizeof *saving->placed_at);
    saving->placed_count = calloc(sets + 1, sizeof *saving->placed_count);
    if (saving->placed == NULL || saving->placed_at == NULL || saving->placed_count == NULL) saving->failed = true;
    for (int i = 0; !saving->failed && i < saving->store->op_count; i++) {
        const af_op *op = &saving->store->ops[i];
        if (op->family != AF_DISTINCT) continue;
        saving->placed_count[op->set] = pane->sets[op->set].count;
        if ((saving->placed[op->set] = af_placed_of(op, &pane->sets[op->set], ranks)) == NULL) saving->failed = true;
    }
}

/* The groups with rows of a pane as rank << 32 | group, ascending; to be freed.  NULL: no memory.  A group without a rank (below 0, or
 * at `rank_count` or above) makes `ranked` false. */
static uint64_t *af_ranked_groups(const af_store *store, const af_pane *pane, const int32_t *ranks, int64_t rank_count, int64_t *count, bool *ranked) {
    uint64_t *groups = malloc(((size_t)pane->used_pages * AF_PAGE_CELLS + 1) * sizeof *groups);
    bool rising = true;
    *count = 0;
    for (uint32_t i = 0; groups != NULL && i < pane->page_count; i++)
        for (int j = 0; pane->pages[i] != NULL && j < AF_PAGE_CELLS; j++) {
            const int64_t group = (int64_t)i * AF_PAGE_CELLS + j;
            if (*af_i64(pane->pages[i] + (size_t)j * store->cell_bytes, 0) == 0) continue;
            if (group >= rank_count || ranks[group] < 0) {
                *ranked = false;
                continue;
            }
            groups[*count] = (uint64_t)ranks[group] << 32 | (uint64_t)group;
            rising = rising && (*count == 0 || groups[*count] > groups[*count - 1]);
            ++*count;
        }
    if (groups != NULL && !rising) qsort(groups, (size_t)*count, sizeof *groups, af_compare_ranked);
    return groups;
}

static void af_save_pane(af_saving *saving, const af_pane *pane, const int32_t *ranks, int64_t rank_count, bool *ranked) {
    const af_store *store = saving->store;
    int64_t count;
    uint64_t *groups = af_ranked_groups(store, pane, ranks, rank_count, &count, ranked);
    if (groups == NULL) saving->failed = true;
    if (groups == NULL || count == 0 || !*ranked) {
        free(groups);
        return;
    }
    const af_saved_pane head = {af_high_word(pane->number), af_low_word(pane->number), af_high_word(pane->low), af_low_word(pane->low), count};
    af_save_bytes(saving, &saving->panes, &head, sizeof head);
    if (store->set_count) af_placed_pane(saving, pane, ranks);
    for (int64_t i = 0; !saving->failed && i < count; i++) {
        const uint32_t group = (uint32_t)groups[i];
        uint8_t *cell = pane->pages[group >> AF_PAGE_SHIFT] + (size_t)(group % AF_PAGE_CELLS) * store->cell_bytes;
        saving->rank = (int64_t)(groups[i] >> 32);
        af_save_word(saving, saving->rank);
        af_save_word(saving, *af_i64(cell, 0));
        for (int j = 0; j < store->op_count; j++) {
            saving->accumulator = j;
            af_accumulator_save(saving, &store->ops[j], cell);
        }
        saving->cell++;
    }
    af_placed_free(saving);
    free(groups);
}

/* All panes and cells; false: no memory.  `ranked` false: a group that holds rows has no rank. */
static bool af_state_save(const af_state *state, const int32_t *ranks, int64_t rank_count, af_saving *saving, int *is_ranked) {
    bool ranked_all = true, *ranked = &ranked_all;
    saving->store = &state->store;
    for (size_t i = state->head; !saving->failed && *ranked && i < state->end; i++) af_save_pane(saving, state->panes[i], ranks, rank_count, ranked);
    *is_ranked = ranked_all;
    return !saving->failed;
}

/* -- loading ---------------------------------------------------------------------------------------------------------- */

typedef struct {
    const af_saved_pane *panes;
    const int64_t *cells;
    const af_saved_block *blocks;
    const uint8_t *data;
    int64_t pane_count, cell_count, block_count, data_bytes;
    int64_t arrivals;
    af_wide closed;
    int64_t cell; /* out: where it does not fit */
    int32_t accumulator;
} af_saved_state;

static void af_saved_closed(af_saved_state *saved, bool some, int64_t high, uint64_t low) {
    saved->closed = some ? af_wide_of(high, (int64_t)low) : AF_NO_FIRST;
}

static bool af_closed(const af_state *state) { return state->closed != AF_NO_FIRST; }

/* Whether this is the pane of some time, and the window the last one but those of such panes. */
static bool af_pane_possible(const af_state *state, af_wide number) {
    const af_wide least = af_floor_div((af_wide)INT64_MIN - state->offset, state->every), most = af_floor_div((af_wide)INT64_MAX - state->offset, state->every);
    if (!state->sized) return number == 0;
    return number >= least * state->steps && number < (most + 1) * state->steps;
}

static bool af_window_possible(const af_state *state, af_wide window) {
    if (window == AF_NO_FIRST) return true;
    const af_wide least = af_floor_div((af_wide)INT64_MIN - state->offset, state->every) * state->steps;
    const af_wide most = (af_floor_div((af_wide)INT64_MAX - state->offset, state->every) + 1) * state->steps;
    return state->sized && window >= -af_floor_div(state->span - 1 - least, state->steps) && window <= af_floor_div(most, state->steps);
}

/* A saved pane, empty, behind those there are: AF_FITS, AF_UNFIT or AF_NO_MEMORY. */
static int af_load_pane(af_state *state, const af_saved_pane *saved, af_wide closed, af_pane **made) {
    const af_wide number = af_wide_of(saved->number_high, saved->number_low), low = af_wide_of(saved->first_high, saved->first_low);
    if (!af_pane_possible(state, number)) return AF_UNFIT;
    const af_wide all = state->sized ? -af_floor_div(state->span - 1 - number, state->steps) : 0, high = af_floor_div(number, state->steps);
    const af_wide first = low == all ? AF_NO_FIRST : low;
    const af_pane *last = state->head < state->end ? state->panes[state->end - 1] : NULL;
    if (low < all || low > high || high <= closed || (last != NULL && !af_pane_before(last, number, first))) return AF_UNFIT;
    if (!af_panes_reserve(state, 1) || (*made = af_pane_new(&state->store)) == NULL) return AF_NO_MEMORY;
    (*made)->number = number;
    (*made)->first = first;
    (*made)->low = low;
    (*made)->high = high;
    state->panes[state->end++] = *made;
    return AF_FITS;
}

/* Room for groups 0 .. groups - 1 in a new pane; memory that no group touches is not either. */
static bool af_pane_first_reserve(af_store *store, af_pane *pane, int64_t groups) {
    const uint32_t wanted = (uint32_t)((groups + AF_PAGE_CELLS - 1) >> AF_PAGE_SHIFT);
    if ((pane->pages = calloc(wanted, sizeof *pane->pages)) == NULL) return false;
    pane->page_count = wanted;
    store->table_bytes += wanted * sizeof *pane->pages;
    return true;
}

static int af_load_cell(af_loading *loading) {
    af_store *store = loading->store;
    const uint32_t at = (uint32_t)loading->group >> AF_PAGE_SHIFT;
    af_pane *pane = loading->pane;
    if (pane->pages[at] == NULL && af_pane_page(store, pane, at) == NULL) return AF_NO_MEMORY;
    uint8_t *cell = pane->pages[at] + (size_t)((uint32_t)loading->group % AF_PAGE_CELLS) * store->cell_bytes;
    *af_i64(cell, 0) = loading->rows;
    int done = AF_FITS;
    for (int j = 0; j < store->op_count && done == AF_FITS; j++) {
        loading->accumulator = j;
        done = af_accumulator_load(loading, &store->ops[j], cell);
    }
    return done;
}

static int af_load_all(af_state *state, af_saved_state *saved, int64_t *group_count) {
    af_loading loading = {.store = &state->store, .words = saved->cells, .blocks = saved->blocks, .blocks_left = saved->block_count,
                          .arrivals = saved->arrivals, .data = {saved->data, (uint64_t)saved->data_bytes}};
    if (!af_window_possible(state, saved->closed)) return AF_UNFIT;
    const int words = af_saved_words(&state->store);
    int64_t left = saved->cell_count;
    *group_count = saved->cell = saved->accumulator = 0;
    for (int64_t i = 0; i < saved->pane_count; i++) {
        const int64_t count = saved->panes[i].cells;
        if (count < 1 || count > left) return AF_UNFIT;
        int done = af_load_pane(state, &saved->panes[i], saved->closed, &loading.pane);
        const int64_t last = loading.words[(count - 1) * words]; /* groups ascend: the greatest */
        if (done == AF_FITS && (last < 0 || last >= INT32_MAX)) done = AF_UNFIT;
        if (done == AF_FITS && !af_pane_first_reserve(&state->store, loading.pane, last + 1)) done = AF_NO_MEMORY;
        if (last + 1 > *group_count) *group_count = last + 1;
        for (int64_t j = 0, before = -1; j < count && done == AF_FITS; j++) {
            const int64_t group = af_load_word(&loading);
            loading.rows = af_load_word(&loading);
            if (group <= before || group > last || loading.rows < 1 || loading.rows > AF_MOST_ROWS) return AF_UNFIT;
            loading.group = (int32_t)group;
            done = af_load_cell(&loading);
            before = group;
            saved->cell = loading.cell;
            saved->accumulator = loading.accumulator;
            loading.cell++;
        }
        if (done != AF_FITS) return done;
        left -= count;
    }
    return left == 0 && loading.blocks_left == 0 && loading.data.left == 0 ? AF_FITS : AF_UNFIT;
}

/* Into an empty state of the same shape; where that does not end in AF_FITS the state is empty again. */
static int af_state_load(af_state *state, af_saved_state *saved, int64_t *group_count) {
    const int done = af_load_all(state, saved, group_count);
    if (done == AF_FITS) {
        state->arrivals = saved->arrivals;
        state->closed = saved->closed;
        if (state->span != 1 && saved->closed != AF_NO_FIRST)
            state->flipped_block = (af_floor_div(saved->closed * state->steps, state->span) + 1) * state->span;
        state->open_changed = 1;
        return done;
    }
    for (size_t i = state->head; i < state->end; i++) af_pane_free(&state->store, state->panes[i]);
    state->head = state->end = 0;
    *group_count = 0;
    return done;
}

#endif
