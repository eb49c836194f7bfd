/* Joins by event time: the rows that are held of a key and side, and where among them a row stands.
 *
 * They are a chain in the order of (time, arrival).  Rows mostly come in order, so a place is looked for from the end, a chain's tail or head.
 * A search of more than 24 steps makes a tree of the chain besides (tree.h), which also knows the least watermark that a row below was seen
 * at: late rows, in whatever order they come, cost O(log n), and so does the nearest row that a left one may see among many that it may not.
 * A tree is an index only: it is forgotten when slots or keys are renumbered, and made anew by the next long search. */
#ifndef ASYNCFLOW_JOIN_CHAINS_H
#define ASYNCFLOW_JOIN_CHAINS_H

#include "base/cpu.h"
#include "join/numbers.h"

enum { AF_LEFT, AF_RIGHT };

typedef enum { AF_INTERVAL, AF_BACKWARD, AF_FORWARD, AF_NEAREST } af_join_mode;

typedef struct {
    int64_t time, seen;
    uint64_t arrival : 63, matched : 1;
    int32_t key; /* AF_NONE: null; AF_FREE: the slot has no row */
    int32_t next, prev;
    int32_t due; /* the next row of the list of those due; AF_COMING: the sweep has not met the row */
} af_join_row;

/* A row's place in the tree of its chain. */
typedef struct {
    int64_t seen; /* the least of it and those below it */
    int32_t left, right;
} af_links;

typedef struct {
    int64_t time;
    int32_t slot;
} af_due_row;

typedef struct {
    int64_t release, time, left_arrival, right_arrival;
    int32_t left, right;
} af_met;

typedef struct {
    const int64_t *slots, *times; /* whose moments the clock has passed, by (moment, arrival); of as-of joins by time */
    int64_t count, at;
} af_ready;

typedef struct {
    af_join_row *rows;
    int64_t row_capacity;
    af_slots slots;
    int64_t arrived, live, matched, unmatched;
    int64_t reach;           /* how long after its time a row is due; -1: never */
    int32_t due_first, due_last; /* in order of time */
    af_due_row *heap;        /* out of order */
    int64_t heap_count, heap_capacity;
    int32_t *gone; /* left since the last `recycle` */
    int64_t gone_count, gone_capacity;
    af_ready ready;
    bool alone; /* rows without a partner are given out */
    af_links *links; /* of each slot, and the root of each key's tree: below root_count; -1: none */
    int32_t *roots;
    int64_t link_capacity, root_count, root_capacity;
    uint64_t seed;
} af_join_side;

typedef struct {
    af_join_mode mode;
    int64_t lower, upper; /* of an interval */
    int64_t tolerance;    /* -1: none */
    int64_t wait;         /* how long after its time a left row searches */
    bool pairs, firsts;
    af_join_side sides[2];
    af_join_key *keys;
    int64_t key_count, key_capacity;
    af_numbers numbers; /* of an interval join that names its keys itself */
    int32_t *noted; /* keys to be looked through */
    int64_t noted_count, noted_capacity;
    af_met *met;
    int64_t met_count, met_capacity, group; /* the first of the moment */
    bool unordered;
    int64_t clock;
} af_join;

typedef __int128 af_chain_key;

AF_INLINE af_chain_key af_chain_key_of(int64_t time, uint64_t arrival) { return (af_chain_key)time * ((af_chain_key)1 << 64) + arrival; }

AF_INLINE void af_links_joined(af_join_side *side, int32_t at) {
    af_links *links = &side->links[at];
    links->seen = side->rows[at].seen;
    if (links->left >= 0 && side->links[links->left].seen < links->seen) links->seen = side->links[links->left].seen;
    if (links->right >= 0 && side->links[links->right].seen < links->seen) links->seen = side->links[links->right].seen;
}

#define AF_TREES af_join_side
#define AF_KEY_TYPE af_chain_key
#define AF_KEY(trees, at) af_chain_key_of((trees)->rows[at].time, (trees)->rows[at].arrival)
#define AF_LEFT_OF(trees, at) ((trees)->links[at].left)
#define AF_RIGHT_OF(trees, at) ((trees)->links[at].right)
#define AF_JOINED(trees, at) af_links_joined(trees, at)
#include "base/tree.h"

enum { AF_CHAIN_STEPS = 24 };

AF_INLINE int32_t af_chain_root(const af_join_side *side, int32_t key) {
    return AF_LIKELY(key >= side->root_count) ? AF_NONE : side->roots[key];
}

/* All chains of the side are without trees. */
AF_INLINE void af_forget_trees(af_join_side *side) { side->root_count = 0; }

/* The tree of a chain; AF_NONE: no memory. */
AF_NOINLINE int32_t af_chain_plant(af_join *join, int port, int32_t key) {
    af_join_side *side = &join->sides[port];
    int32_t root = af_chain_root(side, key);
    if (root >= 0) return root;
    if (!af_grow(&side->links, &side->link_capacity, side->slots.top, sizeof *side->links)) return AF_NONE;
    if (!af_grow(&side->roots, &side->root_capacity, (int64_t)key + 1, sizeof *side->roots)) return AF_NONE;
    for (; side->root_count <= key; side->root_count++) side->roots[side->root_count] = AF_NONE;
    for (int32_t at = join->keys[key].chains[port].head; at != AF_NONE; at = side->rows[at].next) root = af_tree_with(side, root, at);
    return side->roots[key] = root;
}

/* The last row below a node that is not after `upto`, of those that a row of this moment may see. */
static int32_t af_tree_back(const af_join_side *side, int32_t at, af_chain_key upto, int64_t release) {
    while (at >= 0 && side->links[at].seen <= release) {
        if (AF_KEY(side, at) <= upto) {
            const int32_t found = af_tree_back(side, side->links[at].right, upto, release);
            if (found >= 0) return found;
            if (side->rows[at].seen <= release) return at;
        }
        at = side->links[at].left;
    }
    return AF_NONE;
}

/* The first row below a node that is after `from`, of those that a row of this moment may see. */
static int32_t af_tree_ahead(const af_join_side *side, int32_t at, af_chain_key from, int64_t release) {
    while (at >= 0 && side->links[at].seen <= release) {
        if (AF_KEY(side, at) > from) {
            const int32_t found = af_tree_ahead(side, side->links[at].left, from, release);
            if (found >= 0) return found;
            if (side->rows[at].seen <= release) return at;
        }
        at = side->links[at].right;
    }
    return AF_NONE;
}

/* The same of a chain: the last one of times up to `time`; `at`: where the search of a chain without a tree begins. */
static int32_t af_chain_back(af_join *join, int port, int32_t key, int32_t at, int64_t time, int64_t release) {
    const af_join_row *rows = join->sides[port].rows;
    int32_t root = af_chain_root(&join->sides[port], key);
    for (int steps = 0; root < 0 && at != AF_NONE && (rows[at].time > time || rows[at].seen > release); at = rows[at].prev)
        if (AF_UNLIKELY(++steps > AF_CHAIN_STEPS)) root = af_chain_plant(join, port, key);
    return root < 0 ? at : af_tree_back(&join->sides[port], root, af_chain_key_of(time, UINT64_MAX), release);
}

/* The first one of times from `time` on. */
static int32_t af_chain_ahead(af_join *join, int port, int32_t key, int32_t at, int64_t time, int64_t release) {
    const af_join_row *rows = join->sides[port].rows;
    int32_t root = af_chain_root(&join->sides[port], key);
    for (int steps = 0; root < 0 && at != AF_NONE && (rows[at].time < time || rows[at].seen > release); at = rows[at].next)
        if (AF_UNLIKELY(++steps > AF_CHAIN_STEPS)) root = af_chain_plant(join, port, key);
    return root < 0 ? at : af_tree_ahead(&join->sides[port], root, af_chain_key_of(time, 0) - 1, release);
}

/* False: no memory. */
static bool af_chain_insert(af_join *join, int port, int32_t slot) {
    af_join_side *side = &join->sides[port];
    af_join_row *rows = side->rows, *row = &rows[slot];
    af_chain *chain = &join->keys[row->key].chains[port];
    int32_t before = chain->tail, root = af_chain_root(side, row->key);
    for (int steps = 0; before != AF_NONE && rows[before].time >= row->time; before = rows[before].prev) {
        if (rows[before].time == row->time && rows[before].arrival < row->arrival) break;
        if (AF_LIKELY(++steps <= AF_CHAIN_STEPS)) continue;
        if ((root = af_chain_plant(join, port, row->key)) < 0) return false;
        before = af_tree_back(side, root, af_chain_key_of(row->time, row->arrival), INT64_MAX);
        break;
    }
    const int32_t after = before == AF_NONE ? chain->head : rows[before].next;
    row->prev = before;
    row->next = after;
    if (before == AF_NONE) chain->head = slot;
    else rows[before].next = slot;
    if (after == AF_NONE) chain->tail = slot;
    else rows[after].prev = slot;
    if (AF_LIKELY(root < 0)) return true;
    if (!af_grow(&side->links, &side->link_capacity, side->slots.top, sizeof *side->links)) return false;
    side->roots[row->key] = af_tree_with(side, root, slot);
    return true;
}

static void af_chain_remove(af_join *join, int port, int32_t slot) {
    af_join_side *side = &join->sides[port];
    af_join_row *rows = side->rows, *row = &rows[slot];
    af_join_key *key = &join->keys[row->key];
    af_chain *chain = &key->chains[port];
    const int32_t root = af_chain_root(side, row->key);
    if (AF_UNLIKELY(root >= 0)) side->roots[row->key] = af_tree_without(side, root, slot);
    if (row->prev == AF_NONE) chain->head = row->next;
    else rows[row->prev].next = row->next;
    if (row->next == AF_NONE) chain->tail = row->prev;
    else rows[row->next].prev = row->prev;
    if (join->mode == AF_NEAREST && port == AF_RIGHT && key->mark == slot) key->mark = row->prev;
}

#endif
