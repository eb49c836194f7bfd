"""The C state of a join, and what is done with it."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "join/saved.h" nogil:
    ctypedef struct af_slots:
        int64_t top
    ctypedef struct af_numbers:
        const int32_t *buckets
        uint64_t *seeds
        af_slots names
        int64_t count
    ctypedef enum af_join_mode:
        AF_INTERVAL
        AF_BACKWARD
        AF_FORWARD
        AF_NEAREST
    ctypedef struct af_ready:
        const int64_t *slots
        const int64_t *times
        int64_t count, at
    ctypedef struct af_met:
        int64_t release, time
        int32_t left, right
    ctypedef struct af_join_side:
        af_slots slots
        int64_t arrived, live, matched, unmatched, reach
        int32_t *gone
        uint64_t seed
        int64_t gone_count
        af_ready ready
    ctypedef struct af_join_key:
        pass
    ctypedef struct af_join:
        af_join_mode mode
        int64_t wait, clock, key_count, key_capacity, met_count
        af_join_key *keys
        af_numbers numbers
        af_join_side *sides
        af_met *met
    ctypedef struct af_join_columns:
        int32_t *slots
        int32_t *keys
        int64_t *numbers
        int64_t *times
        int64_t *seen
        int64_t *arrivals
        uint8_t *matched
        uint8_t *ahead
    enum:
        AF_JOIN_SWEPT
        AF_JOIN_MORE
        AF_JOIN_NO_MEMORY

    void af_join_init(af_join *, af_join_mode, int64_t lower, int64_t upper, bint left_alone, bint right_alone, bint pairs, bint firsts)
    void af_join_free(af_join *)
    uint64_t af_join_bytes(const af_join *)
    bint af_join_keys(af_join *, int64_t count)
    bint af_join_hold(
        af_join *, int port, const int32_t *keys, const int64_t *times, const int64_t *seen, int64_t count, int64_t *slots)
    bint af_join_hold_numbers(
        af_join *, int port, const int64_t *numbers, const uint8_t *valid, const int64_t *times, const int64_t *seen, int64_t count,
        int64_t *slots)
    bint af_join_compact_numbers(af_join *)
    int af_join_sweep(af_join *, int64_t limit)
    bint af_join_recycle(af_join_side *)
    bint af_join_compact(af_join *, int port, int64_t *kept)
    bint af_first_alone(const af_join_side *, int64_t *time)
    void af_join_live_keys(const af_join *, uint8_t *live)
    bint af_join_keep_keys(af_join *, const int32_t *kept, int64_t count)
    void af_copy_texts(
        const uint8_t *data, const int64_t *starts, const int32_t *lengths, const int64_t *rows, int64_t count, uint8_t *out,
        const int64_t *places)
    bint af_number_room(af_numbers *, af_join_key **, int64_t *key_capacity)
    void af_join_save(const af_join *, int port, const af_join_columns *)
    bint af_join_load(
        af_join *, int port, const int64_t *arrivals, const uint8_t *matched, const uint8_t *ahead, int64_t count, int64_t *dues)
    bint af_join_load_due(af_join_side *, const int64_t *order, int64_t count)
