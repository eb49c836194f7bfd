"""The C states of sessions and count windows, and what is done with them."""

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "sessions/saved.h" nogil:
    ctypedef struct af_slots:
        int64_t top, free_capacity
    ctypedef struct af_closing:
        int64_t start, end
        int32_t slot, group
    ctypedef struct af_joined:
        int64_t row
        int32_t into, source
    ctypedef struct af_sessions:
        int64_t gap, advanced, greatest_mark
        bint mixed
        af_slots slots
        int32_t *owned
        int64_t group_count
        af_joined *joined
        int64_t joined_count, open, closed
        af_closing *closing
        int64_t closing_count

    bint af_sessions_init(af_sessions *, int64_t gap, uint64_t seed)
    void af_sessions_free(af_sessions *)
    bint af_sessions_assign(
        af_sessions *, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time, const int64_t *watermarks,
        int64_t before, int64_t delay, int32_t *slots, int64_t *late, int64_t *late_count)
    bint af_sessions_close(af_sessions *, int64_t watermark)
    bint af_sessions_closed(af_sessions *)
    bint af_sessions_compact(af_sessions *, int32_t *kept)
    bint af_sessions_rename(af_sessions *, const int32_t *groups, int64_t count)
    bint af_sessions_next_end(const af_sessions *, int64_t *end)
    void af_sessions_save(const af_sessions *, int32_t *slots, int32_t *groups, int64_t *firsts, int64_t *lasts)
    bint af_sessions_load(
        af_sessions *, const int32_t *groups, const int64_t *firsts, const int64_t *lasts, const int64_t *order, int64_t count,
        int64_t group_count)
    uint64_t af_sessions_bytes(const af_sessions *)

    ctypedef struct af_counted:
        int64_t rows, first, last
        int32_t group
    ctypedef struct af_filled:
        int32_t slot
        int64_t row
    ctypedef struct af_count_windows:
        int64_t size
        af_counted *windows
        int64_t window_capacity
        af_slots slots
        int32_t *current
        int64_t group_count, group_capacity
        af_filled *filled
        int64_t filled_count, filled_capacity, open, closed

    void af_counts_free(af_count_windows *)
    bint af_counts_assign(
        af_count_windows *, const int32_t *groups, int64_t count, int64_t group_count, const int64_t *time, int32_t *slots)
    bint af_counts_rest(af_count_windows *)
    void af_counts_rename(af_count_windows *, const int32_t *groups, int64_t count)
    int64_t af_counts_compact(af_count_windows *, int32_t *kept)
    void af_counts_save(const af_count_windows *, int32_t *slots, int32_t *groups, int64_t *rows, int64_t *firsts, int64_t *lasts)
    bint af_counts_load(
        af_count_windows *, const int32_t *groups, const int64_t *rows, const int64_t *firsts, const int64_t *lasts, int64_t count,
        int64_t group_count)
