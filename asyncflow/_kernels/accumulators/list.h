/* The accumulators and the results, listed once: enums, switches and the names that Python asks for by come from these lines.
 *
 * A family is a header of functions on one accumulator of a cell, `af_NAME_...` for the line's second word:
 *
 *   words(op, store)                  its words of 8 bytes in the cell
 *   blocks(op, store)                 whether it keeps blocks outside of the cell from the first row on
 *   empty(op, slot)                   makes its words, which are 0, those of no rows
 *   add(feed, op, block)              takes the rows of a block
 *   merge(store, op, into, from)      into = into + from
 *   copy(store, op, slot)             gives words that were copied blocks of their own
 *   drop(store, op, slot)             frees its blocks
 *   saved_words(op), save(saving, op, cell), load(loading, op, cell)      see accumulators/saved.h
 *
 * A result is a function `af_result_NAME(op, cell, kind, parameter, word, overflows)`: false where it is null.  To add an accumulator:
 * its header, its line here, its twin in accumulators/reference.py, and a line for each of its aggregates in accumulators/table.py. */
#ifndef ASYNCFLOW_ACCUMULATORS_LIST_H
#define ASYNCFLOW_ACCUMULATORS_LIST_H

#define AF_FAMILIES(LINE)                     \
    LINE(NUMBER, number)                      \
    LINE(MOMENTS, moments)                    \
    LINE(COMOMENTS, comoments)                \
    LINE(PICK, pick)                          \
    LINE(DISTINCT, members)                   \
    LINE(ABOUT_DISTINCT, sketch_distinct)     \
    LINE(ABOUT_QUANTILE, sketch_quantile)     \
    LINE(RANKS, sketch_ranks)                 \
    LINE(TOP, sketch_top)

#define AF_RESULTS(LINE)                      \
    LINE(ROWS_ALL, rows_all)                  \
    LINE(COUNT, count)                        \
    LINE(SUM, sum)                            \
    LINE(MEAN, mean)                          \
    LINE(LEAST, least)                        \
    LINE(GREATEST, greatest)                  \
    LINE(VARIANCE, variance)                  \
    LINE(DEVIATION, deviation)                \
    LINE(COVARIANCE, covariance)              \
    LINE(CORRELATION, correlation)            \
    LINE(PICKED, picked)                      \
    LINE(DISTINCT_COUNT, distinct_count)      \
    LINE(DISTINCT_ESTIMATE, distinct_estimate) \
    LINE(QUANTILE, quantile)                  \
    LINE(QUANTILE_VALUE, quantile_value)      \
    LINE(QUANTILE_ESTIMATE, quantile_estimate) \
    LINE(MOST_FREQUENT, most_frequent)

#define AF_ENUM(NAME, name) AF_##NAME,
#define AF_NAME_OF(NAME, name) #NAME,
typedef enum { AF_FAMILIES(AF_ENUM) AF_FAMILY_COUNT } af_family;
typedef enum { AF_RESULTS(AF_ENUM) AF_RESULT_COUNT } af_result_kind;

static const char *const af_family_names[] = {AF_FAMILIES(AF_NAME_OF)};
static const char *const af_result_names[] = {AF_RESULTS(AF_NAME_OF)};

#endif
