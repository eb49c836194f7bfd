/* A free list of slot numbers, and the arrays that grow with them.  Kernels with state keep an entry per slot.
 *
 * A number that was given back is given out again before a new number, the last one first. */
#ifndef ASYNCFLOW_SLOTS_H
#define ASYNCFLOW_SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"

typedef struct {
    int64_t top; /* numbers from here on were never given out */
    int32_t *free_slots;
    int64_t free_count, free_capacity;
} af_slots;

AF_NOINLINE bool af_resize(void *array, int64_t *capacity, int64_t room, size_t width) {
    void *items;
    memcpy(&items, array, sizeof items);
    items = room > INT32_MAX ? NULL : af_resized(items, (size_t)*capacity * width, (size_t)room * width);
    if (items == NULL) return false;
    memcpy(array, &items, sizeof items);
    *capacity = room;
    return true;
}

/* Makes room for `wanted` items of an array (the address of its pointer is given); false where memory ran out. */
AF_INLINE bool af_grow(void *array, int64_t *capacity, int64_t wanted, size_t width) {
    if (AF_LIKELY(wanted <= *capacity)) return true;
    int64_t room = *capacity ? *capacity : 16;
    while (room < wanted) room *= (size_t)room * width < AF_HUGE_FROM ? 2 : 4; /* great: what is not touched costs nothing, copying does */
    return af_resize(array, capacity, room, width);
}

/* Gives back the room that `count` items do not need. */
static void af_trim(void *array, int64_t *capacity, int64_t count, size_t width) {
    const int64_t room = count < 16 ? 16 : count;
    if (*capacity >= 2 * room) af_resize(array, capacity, room, width);
}

AF_INLINE int32_t af_slot_take(af_slots *slots) {
    return slots->free_count ? slots->free_slots[--slots->free_count] : (int32_t)slots->top++;
}

AF_INLINE bool af_slot_give(af_slots *slots, int32_t slot) {
    if (!af_grow(&slots->free_slots, &slots->free_capacity, slots->free_count + 1, sizeof slot)) return false;
    slots->free_slots[slots->free_count++] = slot;
    return true;
}

#endif
