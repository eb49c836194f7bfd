/* The order of rows: by the order columns, then by arrival.  Nulls have a side of their own, -0.0 is 0.0, NaN is above every number, texts go
 * by their bytes. */
#ifndef ASYNCFLOW_TOP_ORDER_H
#define ASYNCFLOW_TOP_ORDER_H

#include "top/state.h"

/* A fixed value as a word that sorts as the value does. */
AF_INLINE uint64_t af_best_word(af_best_kind kind, const void *values, int64_t at) {
    if (kind == AF_BEST_BOOL) return ((const uint8_t *)values)[at] != 0;
    if (kind == AF_BEST_INT64) return ((const uint64_t *)values)[at] ^ (uint64_t)1 << 63;
    return (uint64_t)af_sorting_float(((const double *)values)[at] + 0.0) ^ (uint64_t)1 << 63;
}

/* The words and classes of the first order column for `count` rows from `begin` on. */
AF_INLINE void af_best_words(const af_best *top, const af_best_input *input, int64_t begin, uint32_t count, uint64_t *words,
                            uint8_t *classes) {
    const af_best_order *order = &top->order[0];
    switch (order->kind) {
        case AF_BEST_INT64:
            for (uint32_t i = 0; i < count; i++) words[i] = af_best_word(AF_BEST_INT64, input->data, begin + i);
            break;
        case AF_BEST_FLOAT64:
            for (uint32_t i = 0; i < count; i++) words[i] = af_best_word(AF_BEST_FLOAT64, input->data, begin + i);
            break;
        case AF_BEST_BOOL:
            for (uint32_t i = 0; i < count; i++) words[i] = af_best_word(AF_BEST_BOOL, input->data, begin + i);
            break;
        case AF_BEST_TEXT:
            for (uint32_t i = 0; i < count; i++) {
                const int32_t length = input->lengths[begin + i] - top->lead_length; /* below 0 only of a null */
                words[i] = af_leading_word(length > 0 ? input->data + input->starts[begin + i] + top->lead_length : NULL, length);
            }
    }
    const uint64_t flip = order->descending ? ~(uint64_t)0 : 0, null = order->nulls_first ? 0 : ~(uint64_t)0;
    const uint8_t class = order->nulls_first;
    for (uint32_t i = 0; i < count; i++) words[i] ^= flip;
    memset(classes, class, count);
    if (input->valid == NULL) return;
    for (uint32_t i = 0; i < count; i++) {
        if (input->valid[begin + i]) continue;
        words[i] = null;
        classes[i] = class ^ 1;
    }
}

/* A row that is compared: row `at` of the batch, or ~place of one that is stored. */
AF_INLINE int64_t af_best_row_at(const af_best *top, int64_t place) {
    const int32_t fresh = af_best_record_of(&top->rows, place)->fresh;
    return fresh >= 0 ? fresh : ~place;
}

AF_INLINE bool af_best_has_value(const af_best *top, int32_t column, int64_t row) {
    if (row < 0) return !af_best_is_null(&top->rows, &top->rows.columns[column], ~row);
    return top->inputs[column].valid == NULL || top->inputs[column].valid[row];
}

AF_INLINE const uint8_t *af_best_text_of(const af_best *top, int32_t column, int64_t row, uint32_t *length) {
    if (row >= 0) {
        *length = (uint32_t)top->inputs[column].lengths[row];
        return *length ? top->inputs[column].data + top->inputs[column].starts[row] : NULL;
    }
    const af_best_text *text = af_best_value(&top->rows, &top->rows.columns[column], ~row);
    *length = (uint32_t)text->length;
    return *length ? top->rows.columns[column].bytes + text->start : NULL;
}

AF_INLINE uint64_t af_best_word_of(const af_best *top, const af_best_order *order, int64_t row) {
    return row < 0 ? af_best_word(order->kind, af_best_value(&top->rows, &top->rows.columns[order->column], ~row), 0)
                   : af_best_word(order->kind, top->inputs[order->column].data, row);
}

AF_INLINE int64_t af_best_arrival_of(const af_best *top, int64_t row) {
    return row < 0 ? af_best_record_of(&top->rows, ~row)->arrival : top->input_arrivals[row];
}

/* -- the lead of texts ---------------------------------------------------------------------------------------------------- */

/* The words of all entries anew, for a shorter lead.  Their order is as it was. */
static void af_best_words_again(af_best *top) {
    const af_best_order *order = &top->order[0];
    for (int64_t i = 0; i < top->window_count; i++)
        for (int64_t j = 0; j < top->windows[i].count; j++) {
            af_best_cell *cell = &top->cells[top->windows[i].cells[j]];
            for (int64_t k = 0; k < cell->count; k++) {
                af_best_entry *entry = af_best_item(top, cell, k);
                const int64_t row = ~(int64_t)(entry->at >> 1);
                if (!af_best_has_value(top, order->column, row)) continue;
                uint32_t length;
                const uint8_t *text = af_best_text_of(top, order->column, row, &length);
                const int32_t left = (int32_t)length - top->lead_length;
                entry->word = af_leading_word(left > 0 ? text + top->lead_length : NULL, left) ^ (order->descending ? ~(uint64_t)0 : 0);
            }
        }
}

/* Shortens the lead to what the texts of a batch begin with; the first text that there is is a lead. */
static void af_best_lead(af_best *top, const af_best_input *input, int64_t count) {
    int32_t lead = top->led ? top->lead_length : -1;
    for (int64_t i = 0; i < count && lead != 0; i++) {
        if (input->valid != NULL && !input->valid[i]) continue;
        const int32_t length = input->lengths[i], most = lead >= 0 ? lead : AF_BEST_LONGEST_LEAD, common = length < most ? length : most;
        const uint8_t *text = length ? input->data + input->starts[i] : NULL;
        if (lead < 0) {
            if (common) memcpy(top->lead, text, (size_t)common);
        } else if (common == lead && memcmp(text, top->lead, (size_t)lead) == 0) {
            continue;
        }
        for (lead = 0; lead < common && text[lead] == top->lead[lead]; lead++) {}
    }
    if (lead < 0) return;
    const bool shorter = top->led && lead < top->lead_length;
    top->led = true;
    top->lead_length = lead;
    if (shorter) af_best_words_again(top);
}

/* Of two rows with equal words and classes: below 0 where the left one goes first, above 0 where the right one does. */
AF_NOINLINE int af_best_ties(const af_best *top, int64_t left, int64_t right) {
    for (int32_t j = 0; j < top->order_count; j++) {
        const af_best_order *order = &top->order[j];
        if (order->column < 0) continue;
        const bool has = af_best_has_value(top, order->column, left), other = af_best_has_value(top, order->column, right);
        if (has != other) return has == order->nulls_first ? 1 : -1;
        if (!has) continue;
        int found;
        if (order->kind == AF_BEST_TEXT) {
            uint32_t n, m;
            const uint8_t *text = af_best_text_of(top, order->column, left, &n), *than = af_best_text_of(top, order->column, right, &m);
            found = af_text_compare(text, n, than, m);
        } else {
            const uint64_t word = af_best_word_of(top, order, left), than = af_best_word_of(top, order, right);
            found = (word > than) - (word < than);
        }
        if (found) return order->descending ? -found : found;
    }
    const int64_t came = af_best_arrival_of(top, left), than = af_best_arrival_of(top, right);
    return (came > than) - (came < than);
}

/* Whether the left one of two entries of a cell goes after the right one. */
AF_INLINE bool af_best_after(const af_best *top, const af_best_entry *left, const af_best_entry *right) {
    if (AF_LIKELY(left->word != right->word)) return left->word > right->word;
    if ((left->at ^ right->at) & 1) return left->at & 1;
    return af_best_ties(top, af_best_row_at(top, left->at >> 1), af_best_row_at(top, right->at >> 1)) > 0;
}

/* Whether row `row` of the batch goes before an entry whose word is the same. */
AF_INLINE bool af_best_before_equal(const af_best *top, uint32_t class, int64_t row, const af_best_entry *entry) {
    if (class != (entry->at & 1)) return class < (entry->at & 1);
    return af_best_ties(top, row, af_best_row_at(top, entry->at >> 1)) < 0;
}

#endif
