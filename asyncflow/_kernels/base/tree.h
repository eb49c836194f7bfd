/* Ordered sets of nodes in an array: search, insert, remove and split in O(log n) steps, in whatever order the nodes come.
 *
 * Treaps (Seidel, Aragon, "Randomized search trees", Algorithmica 1996): keys ascend from left to right, priorities descend from
 * the root. The priority of a node is a hash of its place in the array under a secret seed: no priority is stored, and nobody can
 * choose rows that make a tree deep.  A node that moves to another place is inserted anew.  A tree is its root; -1 is the empty
 * tree.
 *
 * Before including this header, define AF_TREES, a struct with the nodes and a uint64_t seed.  For a pointer to it, define
 * AF_KEY(trees, at), of type AF_KEY_TYPE, which orders; AF_LEFT_OF(trees, at) and AF_RIGHT_OF(trees, at), int32 links;
 * AF_JOINED(trees, at), which recomputes what a node stores about the nodes below it. */
#ifndef ASYNCFLOW_TREE_H
#define ASYNCFLOW_TREE_H

#include "base/words.h"

AF_INLINE uint32_t af_priority(const AF_TREES *trees, int32_t at) { return (uint32_t)(af_keyed_word(trees->seed, (uint64_t)at) >> 32); }

/* Splits a tree into the nodes with keys less than `key`, and the others. */
static void af_tree_cut(AF_TREES *trees, int32_t at, AF_KEY_TYPE key, int32_t *less, int32_t *others) {
    if (at < 0) {
        *less = *others = -1;
        return;
    }
    if (AF_KEY(trees, at) < key) {
        af_tree_cut(trees, AF_RIGHT_OF(trees, at), key, &AF_RIGHT_OF(trees, at), others);
        *less = at;
    } else {
        af_tree_cut(trees, AF_LEFT_OF(trees, at), key, less, &AF_LEFT_OF(trees, at));
        *others = at;
    }
    AF_JOINED(trees, at);
}

/* Joins two trees; all keys of the first are less than those of the second. */
static int32_t af_tree_join(AF_TREES *trees, int32_t first, int32_t second) {
    if (first < 0 || second < 0) return first < 0 ? second : first;
    const bool above = af_priority(trees, first) >= af_priority(trees, second);
    if (above)
        AF_RIGHT_OF(trees, first) = af_tree_join(trees, AF_RIGHT_OF(trees, first), second);
    else
        AF_LEFT_OF(trees, second) = af_tree_join(trees, first, AF_LEFT_OF(trees, second));
    AF_JOINED(trees, above ? first : second);
    return above ? first : second;
}

/* Inserts a node, before nodes of the same key; returns the root. */
static int32_t af_tree_with(AF_TREES *trees, int32_t root, int32_t added) {
    if (root < 0 || af_priority(trees, added) > af_priority(trees, root)) {
        af_tree_cut(trees, root, AF_KEY(trees, added), &AF_LEFT_OF(trees, added), &AF_RIGHT_OF(trees, added));
        root = added;
    } else if (AF_KEY(trees, root) < AF_KEY(trees, added)) {
        AF_RIGHT_OF(trees, root) = af_tree_with(trees, AF_RIGHT_OF(trees, root), added);
    } else {
        AF_LEFT_OF(trees, root) = af_tree_with(trees, AF_LEFT_OF(trees, root), added);
    }
    AF_JOINED(trees, root);
    return root;
}

/* Removes a node whose key no other node has; returns the root. */
static inline int32_t af_tree_without(AF_TREES *trees, int32_t root, int32_t gone) {
    if (root == gone) return af_tree_join(trees, AF_LEFT_OF(trees, gone), AF_RIGHT_OF(trees, gone));
    if (AF_KEY(trees, root) < AF_KEY(trees, gone))
        AF_RIGHT_OF(trees, root) = af_tree_without(trees, AF_RIGHT_OF(trees, root), gone);
    else
        AF_LEFT_OF(trees, root) = af_tree_without(trees, AF_LEFT_OF(trees, root), gone);
    AF_JOINED(trees, root);
    return root;
}

#endif
