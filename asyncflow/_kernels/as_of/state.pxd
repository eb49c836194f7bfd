"""The C face of as-of joins: see as_of.h and the headers that it names."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "as_of/saved.h" nogil:
    ctypedef bint af_flag "bool"

    ctypedef enum af_as_of_direction:
        AF_AS_OF_BACKWARD
        AF_AS_OF_FORWARD
        AF_AS_OF_NEAREST

    enum:
        AF_AS_OF_MORE
        AF_AS_OF_NO_MEMORY

    ctypedef struct af_slots:
        int64_t top

    ctypedef struct af_as_of_side:
        int64_t waiting, arrived, matched, unmatched
        af_flag has_fresh
        af_slots places
        int32_t *gone
        int64_t gone_count

    ctypedef struct af_as_of:
        int64_t wait, reach
        af_flag right_alone, one_each, under_way
        af_as_of_side sides[2]
        int64_t key_count, known, clock
        af_slots row_slots

    ctypedef struct af_as_of_arrivals:
        int64_t left, right

    ctypedef struct af_as_of_results:
        int64_t *left
        int64_t *right
        int64_t *time
        int64_t *release
        int64_t count
        af_as_of_arrivals *arrivals

    ctypedef struct af_as_of_columns:
        int32_t *places
        int32_t *keys
        int64_t *times
        int64_t *moments
        int64_t *arrivals
        uint8_t *matched
        uint8_t *ahead

    void af_as_of_init(af_as_of *, af_as_of_direction, int64_t tolerance, bint left_alone, bint right_alone, bint pairs, bint firsts)
    void af_as_of_free(af_as_of *)
    uint64_t af_as_of_bytes(const af_as_of *)
    bint af_as_of_enqueue(af_as_of_side *)
    int64_t af_as_of_ready_count(const af_as_of_side *)
    bint af_as_of_room_for_keys(af_as_of *, int64_t)
    bint af_as_of_hold(
        af_as_of *, int port, const int32_t *keys, const int64_t *times, const int64_t *marks, int64_t before, int64_t delay, int64_t count,
        uint8_t *late, int64_t *late_count, int64_t *partly)
    bint af_as_of_begin(af_as_of *, int64_t clock)
    int af_as_of_sweep(af_as_of *, int64_t limit, af_as_of_results *)
    int64_t af_as_of_fresh_count(const af_as_of *, int port)
    int64_t af_as_of_settle(af_as_of *, int port, int64_t *rows, int64_t *places)
    bint af_as_of_recycle(af_as_of_side *)
    bint af_as_of_compact(af_as_of *, int port, int64_t *kept)
    bint af_as_of_compact_rows(af_as_of *)
    int64_t af_as_of_passes(const af_as_of_side *, int64_t clock, int64_t wait)
    bint af_as_of_next_due(const af_as_of *, int64_t *)
    void af_as_of_live_keys(const af_as_of *, uint8_t *)
    bint af_as_of_keep_keys(af_as_of *, const int32_t *, int64_t)
    int64_t af_as_of_row_count(const af_as_of *, int port)
    void af_as_of_save(const af_as_of *, int port, const af_as_of_columns *)
    bint af_as_of_load(af_as_of *, int port, const af_as_of_columns *, int64_t)

cdef extern from "as_of/pick.h" nogil:
    ctypedef struct af_as_of_texts:
        const uint8_t *placed
        int64_t placed_bytes
        const int64_t *placed_starts
        const int32_t *placed_lengths
        const uint8_t *fresh
        int64_t fresh_bytes
        const int32_t *fresh_starts
        const int32_t *fresh_lengths

    void af_as_of_pick(const uint8_t *placed, const uint8_t *fresh, int width, const int64_t *refs, int64_t count, uint8_t *out)
    int64_t af_as_of_measure(const af_as_of_texts *, const int64_t *refs, int64_t count, int32_t *begins, int32_t *lengths)
    void af_as_of_pick_texts(
        const af_as_of_texts *, const int64_t *refs, int64_t count, const int32_t *lengths, uint8_t *out, int64_t total)
