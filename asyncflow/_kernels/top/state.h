/* The first rows of each window and group, in memory.
 *
 * A cell is the rows of one window and group: 32 bytes, with the row that would leave first (the root) in it, so that most rows are turned
 * down with one compare.  The other rows of a cell are the rest of a heap, whose root is the cell's, in a block of a size class; a block
 * that has become too small is given to a smaller cell.  Cells are found by a table of (hash, cell); without windows the cell of a group
 * is the one of its number.  Windows are few: their numbers are sorted, each with the list of its cells.
 *
 * An order column is a word that sorts as its values do, and a class that tells null from the outermost word.  An entry has the word and the
 * class of the first order column; the other order columns are stored with the row, and read only where words are the same.  Of text the
 * word is eight bytes, from where texts begin to differ: all texts so far begin with the same bytes, the lead.  Ties go by arrival.
 *
 * A row lies at a place (columns.h).  A row that is replaced leaves its place to the row that replaces it.  Columns are copied at the end of a
 * batch, for the rows that are still there: until then the place says which row of the batch it has. */
#ifndef ASYNCFLOW_TOP_STATE_H
#define ASYNCFLOW_TOP_STATE_H

#include "top/columns.h"

typedef struct {
    uint64_t word;
    uint32_t at;   /* place << 1 | class */
    int32_t group; /* of the root of a cell */
} af_best_entry;

typedef struct {
    af_best_entry root;
    int64_t window;
    int32_t count; /* rows; 0: a free cell */
    int32_t block; /* where the rest of the heap begins; without meaning where count < 2 */
} af_best_cell;

typedef struct {
    uint32_t hash;
    int32_t cell; /* + 1; 0: empty */
} af_best_slot;

typedef struct {
    int64_t number;
    int32_t *cells;
    int64_t count, capacity;
} af_best_window;

/* One part of the order.  `column`: where it is stored; -1: the word and the class are all of it. */
typedef struct {
    af_best_kind kind;
    bool descending, nulls_first;
    int32_t column;
} af_best_order;

enum { AF_BEST_LEAST_BLOCK = 4, AF_BEST_CLASSES = 32, AF_BEST_FIRST_TABLE = 64, AF_BEST_LONGEST_LEAD = 64 };

typedef struct {
    int64_t most; /* rows of a cell */
    bool windowed;
    uint64_t seed;
    af_best_cell *cells;
    int64_t cell_capacity;
    af_slots cell_names; /* with windows */
    af_best_slot *table;
    uint64_t mask;
    int64_t cell_count;
    af_best_window *windows; /* by number */
    int64_t window_count, window_capacity, window_at; /* window_at: the one that was asked for last */
    af_best_entry *entries;
    int64_t entry_top, entry_capacity;
    int32_t free_blocks[AF_BEST_CLASSES]; /* by size class, + 1; the next one in `group` */
    af_slots places;
    int64_t held;
    af_best_rows rows;
    int32_t payload; /* the first `payload` columns are asked for again */
    af_best_fresh *touched; /* places that have a row of the batch */
    int64_t touched_count, touched_capacity;
    af_best_order *order;
    int32_t order_count;
    bool led; /* a text has come, and there is a lead */
    int32_t lead_length;
    uint8_t lead[AF_BEST_LONGEST_LEAD];
    const af_best_input *inputs; /* of the batch that is taken in: a column each */
    const int64_t *input_arrivals;
} af_best;

static bool af_best_init(af_best *top, int64_t most, bool windowed, uint64_t seed, int32_t columns, int32_t payload, int32_t order) {
    memset(top, 0, sizeof *top);
    top->most = most;
    top->windowed = windowed;
    top->seed = seed;
    top->payload = payload;
    top->order = calloc((size_t)order + 1, sizeof *top->order);
    top->table = calloc(AF_BEST_FIRST_TABLE, sizeof *top->table);
    top->mask = AF_BEST_FIRST_TABLE - 1;
    top->order_count = order;
    return af_best_rows_init(&top->rows, columns) && top->order != NULL && top->table != NULL;
}

static void af_best_free(af_best *top) {
    for (int64_t i = 0; i < top->window_count; i++) free(top->windows[i].cells);
    af_best_rows_free(&top->rows);
    free(top->cells);
    free(top->cell_names.free_slots);
    free(top->table);
    free(top->windows);
    free(top->entries);
    free(top->places.free_slots);
    free(top->touched);
    free(top->order);
    memset(top, 0, sizeof *top);
}

/* Frees an array (the address of its pointer is given) that has far more room than was used. */
static void af_best_spare(void *array, int64_t *capacity, int64_t used) {
    void *items;
    if (*capacity <= 8 * used + 4096) return;
    memcpy(&items, array, sizeof items);
    free(items);
    items = NULL;
    memcpy(array, &items, sizeof items);
    *capacity = 0;
}

static uint64_t af_best_bytes(const af_best *top) {
    const uint64_t places = (uint64_t)top->places.top, cells = (uint64_t)(top->windowed ? top->cell_names.top : top->cell_count);
    uint64_t total = places * (top->rows.width + sizeof *top->touched) + cells * (sizeof *top->cells + 4);
    total += (top->mask + 1) * sizeof *top->table + (uint64_t)top->entry_top * sizeof *top->entries;
    total += (uint64_t)(top->places.free_count + top->cell_names.free_count) * 4 + (uint64_t)top->window_count * sizeof *top->windows;
    for (int32_t j = 0; j < top->rows.count; j++) total += (uint64_t)top->rows.columns[j].used;
    return total;
}

/* The heap of a cell, from the root at 0: its entry i. */
AF_INLINE af_best_entry *af_best_item(af_best *top, af_best_cell *cell, int64_t i) {
    return i ? &top->entries[cell->block + i - 1] : &cell->root;
}

/* -- blocks of entries ------------------------------------------------------------------------------------------------- */

/* The size class of a block that holds `count` entries, from 1 on. */
AF_INLINE int af_best_class(int64_t count) { return count <= AF_BEST_LEAST_BLOCK ? 0 : 62 - __builtin_clzll((uint64_t)count - 1); }

AF_INLINE int64_t af_best_class_size(const af_best *top, int class) {
    const int64_t size = (int64_t)AF_BEST_LEAST_BLOCK << class;
    return size < top->most - 1 ? size : top->most - 1;
}

/* -1: no memory. */
static int32_t af_best_block_take(af_best *top, int class) {
    if (top->free_blocks[class]) {
        const int32_t block = top->free_blocks[class] - 1;
        top->free_blocks[class] = top->entries[block].group;
        return block;
    }
    const int64_t block = top->entry_top, end = block + af_best_class_size(top, class);
    if (!af_grow(&top->entries, &top->entry_capacity, end, sizeof *top->entries)) return -1;
    top->entry_top = end;
    return (int32_t)block;
}

AF_INLINE void af_best_block_give(af_best *top, int32_t block, int class) {
    top->entries[block].group = top->free_blocks[class];
    top->free_blocks[class] = block + 1;
}

/* -- cells --------------------------------------------------------------------------------------------------------------- */

/* The position of a window among the sorted windows, or where it would stand. */
static int64_t af_best_window_find(const af_best *top, int64_t number) {
    int64_t low = 0, high = top->window_count;
    if (high && top->windows[high - 1].number < number) return high;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (top->windows[middle].number < number) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The window of this number, a new one where there is none; NULL: no memory. */
static af_best_window *af_best_window_of(af_best *top, int64_t number) {
    int64_t at = top->window_at;
    if (at < top->window_count && top->windows[at].number == number) return &top->windows[at];
    at = top->window_at = af_best_window_find(top, number);
    if (at == top->window_count || top->windows[at].number != number) {
        if (!af_grow(&top->windows, &top->window_capacity, top->window_count + 1, sizeof *top->windows)) return NULL;
        memmove(top->windows + at + 1, top->windows + at, (size_t)(top->window_count - at) * sizeof *top->windows);
        top->windows[at] = (af_best_window){.number = number};
        top->window_count++;
    }
    return &top->windows[at];
}

AF_INLINE uint64_t af_best_hash(const af_best *top, int64_t window, int32_t group) {
    return af_keyed_word(af_keyed_word(top->seed, (uint64_t)window), (uint64_t)(uint32_t)group);
}

AF_INLINE void af_best_slot_put(af_best_slot *table, uint64_t mask, af_best_slot slot) {
    uint64_t at = slot.hash & mask;
    while (table[at].cell) at = (at + 1) & mask;
    table[at] = slot;
}

/* Another table for what the table has. */
static bool af_best_table_resize(af_best *top, uint64_t size) {
    af_best_slot *table = calloc(size, sizeof *table);
    if (table == NULL || size > (uint64_t)1 << 32) {
        free(table);
        return false;
    }
    af_want_huge(table, size * sizeof *table);
    for (uint64_t i = 0; i <= top->mask; i++)
        if (top->table[i].cell) af_best_slot_put(table, size - 1, top->table[i]);
    free(top->table);
    top->table = table;
    top->mask = size - 1;
    return true;
}

/* Takes the cell out of the table: those behind it that would not be found any more move up. */
static void af_best_slot_remove(af_best *top, uint32_t hash, int32_t cell) {
    uint64_t hole = hash & top->mask;
    while (top->table[hole].cell != cell + 1) hole = (hole + 1) & top->mask;
    for (uint64_t at = (hole + 1) & top->mask; top->table[at].cell; at = (at + 1) & top->mask) {
        if (((at - top->table[at].hash) & top->mask) < ((at - hole) & top->mask)) continue;
        top->table[hole] = top->table[at];
        hole = at;
    }
    top->table[hole].cell = 0;
}

/* The cell begins to have rows: it is put on the list of its window.  false: no memory. */
static bool af_best_cell_begin(af_best *top, int32_t cell, int64_t number, int32_t group) {
    af_best_window *window = af_best_window_of(top, number);
    if (window == NULL || !af_grow(&window->cells, &window->capacity, window->count + 1, sizeof *window->cells)) return false;
    window->cells[window->count++] = cell;
    top->cells[cell] = (af_best_cell){.root.group = group, .window = number};
    return true;
}

/* A new cell; -1: no memory. */
static int32_t af_best_cell_new(af_best *top, int64_t number, int32_t group, uint32_t hash) {
    if ((uint64_t)(top->cell_count + 1) * 8 > (top->mask + 1) * 5 && !af_best_table_resize(top, (top->mask + 1) * 2)) return -1;
    if (!af_grow(&top->cells, &top->cell_capacity, top->cell_names.top + 1, sizeof *top->cells)) return -1;
    const int32_t cell = af_slot_take(&top->cell_names);
    if (!af_best_cell_begin(top, cell, number, group)) return -1;
    af_best_slot_put(top->table, top->mask, (af_best_slot){hash, cell + 1});
    top->cell_count++;
    return cell;
}

#endif
