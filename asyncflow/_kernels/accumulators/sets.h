/* Sets of (group, value): hash tables with linear probing, at most half full.  Places go by a secret seed, so nobody can choose values that
 * collide; what a set holds does not depend on it. */
#ifndef ASYNCFLOW_ACCUMULATORS_SETS_H
#define ASYNCFLOW_ACCUMULATORS_SETS_H

#include "accumulators/cell.h"

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

#endif
