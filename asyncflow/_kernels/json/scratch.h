/* Working memory of a decode, kept from call to call: for a small block an allocation takes longer than the decoding, and layouts
 * that one block has taught serve the next block.
 *
 * All decoders share JSON_SLOTS slots.  A decode takes a scratch out of a slot by an atomic exchange, so that no other decode has
 * it, and puts the scratch back where a slot is free.  Layouts are valid only for the plan whose serial number the scratch has.
 */
#ifndef ASYNCFLOW_JSON_SCRATCH_H
#define ASYNCFLOW_JSON_SCRATCH_H

#include "json/tile.h"

#define JSON_SLOTS 4
#define JSON_KEPT_BYTES (1 << 20) /* a scratch whose arrays (by columns and lines) are larger is freed after the call */

struct json_scratch {
    json_lines lines;
    json_walker walker;
    json_layouts layouts;
    json_tile tile;
    uint64_t serial;
    size_t span_room;
};

static json_scratch *json_slots[JSON_SLOTS];

static void json_free_scratch(json_scratch *scratch) {
    free(scratch->lines.ends);
    free(scratch->walker.spans);
    free(scratch->walker.notes);
    free(scratch->walker.first_note);
    free(scratch->walker.key);
    free(scratch);
}

static json_scratch *json_find_scratch(void) {
    for (int i = 0; i < JSON_SLOTS; i++) {
        json_scratch *found = __atomic_exchange_n(&json_slots[i], NULL, __ATOMIC_ACQUIRE);
        if (found != NULL) return found;
    }
    return calloc(1, sizeof(json_scratch));
}

/* Makes a scratch ready for a plan; false where memory ran out. */
static bool json_suit_scratch(json_scratch *scratch, const json_plan *plan) {
    json_walker *w = &scratch->walker;
    size_t spans = (size_t)plan->column_count * JSON_TILE_ROWS;
    if (spans > scratch->span_room) {
        free(w->spans);
        free(w->first_note);
        w->spans = malloc(spans * sizeof *w->spans);
        w->first_note = malloc(plan->column_count * sizeof *w->first_note);
        scratch->span_room = w->spans == NULL || w->first_note == NULL ? 0 : spans;
        if (scratch->span_room == 0) return false;
    }
    if (scratch->serial != plan->serial) {
        scratch->serial = plan->serial;
        json_layouts_start(&scratch->layouts, plan);
        free(w->key);
        w->key = malloc((size_t)plan->key_room + 1);
        if (w->key == NULL) {
            scratch->serial = 0;
            return false;
        }
    }
    return true;
}

static bool json_is_large(const json_scratch *scratch, const json_plan *plan) {
    const json_walker *w = &scratch->walker;
    return scratch->span_room * sizeof *w->spans > JSON_KEPT_BYTES || w->note_room * sizeof *w->notes > JSON_KEPT_BYTES ||
           scratch->lines.room * sizeof *scratch->lines.ends > JSON_KEPT_BYTES || plan->key_room > JSON_KEPT_BYTES;
}

static void json_keep_scratch(json_scratch *scratch) {
    for (int i = 0; i < JSON_SLOTS; i++) {
        json_scratch *empty = NULL;
        if (__atomic_compare_exchange_n(&json_slots[i], &empty, scratch, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
    }
    json_free_scratch(scratch);
}

#endif
