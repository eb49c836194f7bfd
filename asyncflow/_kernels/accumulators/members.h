/* DISTINCT: how many different values, exactly.
 *
 * The cell holds the number of different values.  The values are in one hash set per pane; where cells are merged and emptied one by one
 * (size None, see window/slots.h) each cell has a set of its own.  A saved state lists the values by cell, in ascending order. */
#ifndef ASYNCFLOW_ACCUMULATORS_MEMBERS_H
#define ASYNCFLOW_ACCUMULATORS_MEMBERS_H

#include "accumulators/saved.h"
#include "accumulators/sets.h"

typedef struct {
    int64_t count;
    int64_t own; /* where the cell's own set is; only where cells have sets of their own */
} af_members;

_Static_assert(sizeof(af_members) == 16, "a cell's words");

AF_INLINE int af_members_words(const af_op *op, const af_store *store) { return store->own_sets ? 2 : 1; }
AF_INLINE int af_members_saved_words(const af_op *op) { return 0; }
AF_INLINE bool af_members_blocks(const af_op *op, const af_store *store) { return store->own_sets; }
AF_INLINE void af_members_empty(const af_op *op, int64_t *slot) {}

/* Counted anew as values are put into the other pane's set. */
AF_INLINE bool af_members_copy(af_store *store, const af_op *op, int64_t *slot) {
    *slot = 0;
    return true;
}

AF_INLINE void af_members_drop(af_store *store, const af_op *op, int64_t *slot) {
    if (store->own_sets) af_own_set_drop(store, slot + 1);
}

AF_NOINLINE bool af_members_add(const af_feed *feed, const af_op *op, const af_block *block) {
    const int64_t begin = feed->begin; /* in registers: cells may be anywhere */
    af_store *store = feed->store;
    const af_input *column = &feed->rows->inputs[op->input];
    const int32_t *groups = feed->rows->groups;
    for (uint32_t k = 0; k < block->count; k++) {
        const int64_t row = begin + block->rows[k];
        const int32_t group = store->own_sets ? 0 : groups[row];
        af_set *set = store->own_sets ? af_own_set(store, af_i64(block->cells[k], op->offset) + 1) : &feed->panes[block->rows[k]]->sets[op->set];
        int added;
        if (set == NULL) return false;
        if (op->input_kind == AF_KIND_STRING) {
            const uint8_t *text = column->data + column->starts[row];
            const uint32_t length = (uint32_t)column->lengths[row];
            added = af_set_add(store, set, group, af_keyed_text(store->seed, text, length), 0, text, length);
        } else {
            const uint64_t word = af_equal_word(column, op->input_kind, row);
            added = af_set_add(store, set, group, af_keyed_word(store->seed, word), word, NULL, 0);
        }
        if (added < 0) return false;
        *af_i64(block->cells[k], op->offset) += added;
    }
    return true;
}

/* A member's text, NULL where members are words.  (A set of empty texts alone has no bytes, but its members are texts all the same.) */
AF_INLINE const uint8_t *af_member_text(const af_op *op, const af_set *set, const af_member *member) {
    if (op->input_kind != AF_KIND_STRING) return NULL;
    return set->text != NULL ? set->text + member->value : (const uint8_t *)"";
}

/* Sets of cells' own: of two the smaller is put into the larger (a union does not depend on which).  Those of panes: af_members_union. */
static bool af_members_merge(af_store *store, const af_op *op, int64_t *into, const int64_t *from) {
    int64_t *theirs = (int64_t *)from;
    if (!store->own_sets) return true;
    af_set *larger = (af_set *)(intptr_t)into[1], *smaller = (af_set *)(intptr_t)theirs[1];
    if (smaller == NULL) return true;
    if (larger == NULL || larger->count < smaller->count) {
        const int64_t kept[2] = {into[0], into[1]};
        memcpy(into, theirs, sizeof kept);
        memcpy(theirs, kept, sizeof kept);
        smaller = larger;
        larger = (af_set *)(intptr_t)into[1];
    }
    for (uint64_t at = 0; smaller != NULL && smaller->mask && at <= smaller->mask; at++) {
        const af_member *member = &smaller->members[at];
        if (member->group < 0) continue;
        const int added =
            af_set_add(store, larger, 0, member->hash, member->value, af_member_text(op, smaller, member), member->length);
        if (added < 0) return false;
        into[0] += added;
    }
    return true;
}

/* Puts the values of a pane's set into another pane's; every group of the one has a cell in the other. */
static bool af_members_union(af_store *store, const af_op *op, af_pane *into, const af_pane *from) {
    const af_set *set = &from->sets[op->set];
    for (uint64_t at = 0; set->mask && at <= set->mask; at++) {
        const af_member *member = &set->members[at];
        if (member->group < 0) continue;
        const int added = af_set_add(store, &into->sets[op->set], member->group, member->hash, member->value,
                                     af_member_text(op, set, member), member->length);
        if (added < 0) return false;
        uint8_t *page = into->pages[(uint32_t)member->group / AF_PAGE_CELLS];
        *af_i64(page + (size_t)((uint32_t)member->group % AF_PAGE_CELLS) * store->cell_bytes, op->offset) += added;
    }
    return true;
}

AF_INLINE bool af_result_distinct_count(const af_op *op, uint8_t *cell, int kind, double parameter, int64_t *word, int64_t *overflows) {
    *word = *af_i64(cell, op->offset);
    return true;
}

/* -- saved ------------------------------------------------------------------------------------------------------------ */

static int af_placed_compare(const void *left, const void *right) {
    const af_placed *a = left, *b = right;
    if (a->rank != b->rank) return (a->rank > b->rank) - (a->rank < b->rank);
    if (a->text != NULL) return af_text_compare(a->text, a->length, b->text, b->length);
    return (a->word > b->word) - (a->word < b->word);
}

/* A set's values in order, by the rank of their group (NULL: all are 0); to be freed.  NULL: no memory. */
static af_placed *af_placed_of(const af_op *op, const af_set *set, const int32_t *ranks) {
    af_placed *placed = malloc((set->count + 1) * sizeof *placed);
    uint64_t count = 0;
    for (uint64_t at = 0; placed != NULL && set->mask && at <= set->mask; at++) {
        const af_member *member = &set->members[at];
        if (member->group < 0) continue;
        const uint8_t *text = af_member_text(op, set, member);
        placed[count++] = (af_placed){ranks != NULL ? ranks[member->group] : 0, (int64_t)member->value, text, member->length};
    }
    if (placed != NULL) qsort(placed, count, sizeof *placed, af_placed_compare);
    return placed;
}

static void af_placed_save(af_saving *saving, const af_placed *placed, uint64_t count) {
    if (count) af_block_begin(saving, AF_BLOCK_VALUE);
    for (uint64_t i = 0; i < count; i++) {
        if (placed[i].text == NULL) {
            af_block_word(saving, placed[i].word);
        } else {
            af_block_bytes(saving, &placed[i].length, sizeof placed[i].length);
            af_block_bytes(saving, placed[i].text, placed[i].length);
        }
    }
    if (count) af_block_end(saving);
}

static void af_members_save(af_saving *saving, const af_op *op, uint8_t *cell) {
    const af_members *members = (const af_members *)(cell + op->offset);
    if (saving->store->own_sets) {
        const af_set *set = (const af_set *)(intptr_t)members->own;
        if (set == NULL || saving->failed) return;
        af_placed *placed = af_placed_of(op, set, NULL);
        if (placed == NULL)
            saving->failed = true;
        else
            af_placed_save(saving, placed, set->count);
        free(placed);
        return;
    }
    const af_placed *placed = saving->placed[op->set];
    uint64_t begin = saving->placed_at[op->set], end;
    const uint64_t upto = saving->placed_count[op->set];
    while (begin < upto && placed[begin].rank < saving->rank) begin++;
    for (end = begin; end < upto && placed[end].rank == saving->rank;) end++;
    af_placed_save(saving, placed + begin, end - begin);
    saving->placed_at[op->set] = end;
}

static int af_members_load(af_loading *loading, const af_op *op, uint8_t *cell) {
    af_store *store = loading->store;
    af_view view;
    if (!af_block_take(loading, AF_BLOCK_VALUE, &view)) return AF_FITS; /* no values */
    int64_t *slot = af_i64(cell, op->offset), word = 0;
    af_set *set = store->own_sets ? af_own_set(store, slot + 1) : &loading->pane->sets[op->set];
    const int32_t group = store->own_sets ? 0 : loading->group;
    if (set == NULL) return AF_NO_MEMORY;
    if (view.left == 0) return AF_UNFIT;
    const uint8_t *last = NULL, *text = NULL;
    uint32_t last_length = 0, length = 0;
    for (int64_t before = 0; view.left; before = word, last = text, last_length = length) {
        int added;
        if (op->input_kind == AF_KIND_STRING) {
            if (!af_view_text(&view, &text, &length)) return AF_UNFIT;
            if (last != NULL && af_text_compare(text, length, last, last_length) <= 0) return AF_UNFIT;
            added = af_set_add(store, set, group, af_keyed_text(store->seed, text, length), 0, text, length);
        } else {
            if (!af_view_word(&view, &word) || (*slot > 0 && word <= before)) return AF_UNFIT;
            added = af_set_add(store, set, group, af_keyed_word(store->seed, (uint64_t)word), (uint64_t)word, NULL, 0);
        }
        if (added < 0) return AF_NO_MEMORY;
        *slot += added;
    }
    return AF_FITS;
}

#endif
