"""What the window kernel takes from C: the state's structs and functions, as window/saved.h and the headers that it joins declare them."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "window/saved.h" nogil:
    ctypedef struct af_wide:
        pass
    ctypedef struct af_op:
        int family, input, second, mask, input_kind, second_kind
        int sum, extremes, key, key_input, key_kind, greatest, last, valued, set, counters
    ctypedef struct af_arena:
        size_t used_pages, peak_pages
    ctypedef struct af_store:
        af_op *ops
        int op_count, set_count
        bint own_sets
        af_arena arena
        uint64_t seed
    ctypedef struct af_pane:
        pass
    ctypedef struct af_window_out:
        bint active
        af_pane *pane
    ctypedef struct af_state:
        af_store store
        int sized
        af_pane **panes
        af_pane *head_pane
        size_t head, end
        int64_t advanced, arrivals, windows_closed
        af_wide closed
        af_window_out out
    ctypedef struct af_input:
        const void *values
        const uint8_t *valid
        const uint8_t *data
        const int32_t *starts
        const int32_t *lengths
    ctypedef struct af_rows:
        const int32_t *groups
        int64_t begin, count, group_count
        const int64_t *time
        const int64_t *watermarks
        int64_t watermark_before, delay
        const af_input *inputs
        const uint8_t *const *masks
        const int32_t *places
        int64_t *late
        int64_t late_count, partly
    ctypedef struct af_item:
        int64_t word, count
    ctypedef struct af_output:
        int result, op, kind
        double parameter
        int64_t *words
        uint8_t *valid
        uint8_t *text
        uint64_t text_bytes
        int64_t nulls
        af_item *items
        uint64_t item_count
    ctypedef struct af_result:
        int64_t *starts
        int64_t *ends
        int32_t *groups
        int64_t count, capacity, overflows
        af_output *outputs
        int output_count
    ctypedef enum af_family:
        AF_DISTINCT, AF_FAMILY_COUNT
    const char *af_family_names[]
    ctypedef enum af_value_kind:
        AF_KIND_INT64, AF_KIND_FLOAT64, AF_KIND_BOOL, AF_KIND_STRING
    ctypedef enum af_pick_key:
        AF_KEY_NONE, AF_KEY_TIME, AF_KEY_VALUE
    ctypedef enum af_result_kind:
        AF_MOST_FREQUENT, AF_RESULT_COUNT
    const char *af_result_names[]
    ctypedef struct af_bytes:
        uint8_t *bytes
        uint64_t length
    ctypedef struct af_saving:
        af_bytes panes, cells, blocks, data
    ctypedef struct af_saved_pane:
        pass
    ctypedef struct af_saved_block:
        pass
    ctypedef struct af_saved_state:
        const af_saved_pane *panes
        const int64_t *cells
        const af_saved_block *blocks
        const uint8_t *data
        int64_t pane_count, cell_count, block_count, data_bytes, arrivals
        int64_t cell
        int32_t accumulator
    enum: AF_NO_MEMORY, AF_FITS
    int AF_SHRINK_EVERY
    uint64_t af_distinct_seed

    void af_state_shape(af_state *, int64_t size, int64_t every, int64_t offset)
    bint af_store_layout(af_store *)
    void af_state_free(af_state *)
    void af_state_shrink(af_state *)
    void af_forget_head(af_state *)
    uint64_t af_state_bytes(const af_state *, const af_result *)
    void af_result_free(af_result *)
    void af_result_clear(af_result *)
    void af_result_drop(af_result *)
    bint af_add_merging(
        af_state *, af_rows *, const int64_t *at, const int32_t *into, const int32_t *source, int64_t merges)
    bint af_slots_append(const af_state *, const int32_t *slots, int64_t count, int64_t max_bytes, af_result *)
    bint af_slots_send(
        const af_state *, const int32_t *slots, int64_t count, const int64_t *windows, const int32_t *keys, int64_t *revisions,
        uint8_t *changed, af_result *)
    int64_t af_flagged(const uint8_t *flags, int64_t count, int32_t *places)
    bint af_slot_merge(af_state *, int32_t into, int32_t source)
    void af_slots_clear(af_state *, const int32_t *slots, int64_t count)
    enum: AF_LATE, AF_FULL
    int64_t af_state_absorb(af_state *, const af_state *other, const int32_t *groups, int64_t group_count, int64_t watermark)
    int64_t af_cell_count(const af_state *)
    bint af_window_ready(af_state *, int64_t watermark)
    int64_t af_open_windows(af_state *)
    int64_t af_open_spans(const af_state *, af_wide (*spans)[2])
    bint af_pass_window(af_state *, af_wide window)
    bint af_next_end(const af_state *, int64_t *end)
    int64_t af_held_rows(const af_state *)
    bint af_close_rows(
        af_state *, int64_t watermark, const int32_t *order, int64_t group_count, int64_t max_rows, int64_t max_bytes, af_result *)
    void af_mark_live(const af_state *, const af_pane *, uint8_t *live, int64_t group_count)
    bint af_pane_rename(af_store *, af_pane *, const int32_t *names, int64_t groups)

    int af_saved_words(const af_store *)
    bint af_state_save(const af_state *, const int32_t *ranks, int64_t rank_count, af_saving *, bint *ranked)
    void af_saving_free(af_saving *)
    int af_state_load(af_state *, af_saved_state *, int64_t *group_count)
    void af_saved_closed(af_saved_state *, bint some, int64_t high, uint64_t low)
    bint af_closed(const af_state *)
    int64_t af_high_word(af_wide)
    int64_t af_low_word(af_wide)
    af_wide af_wide_of(int64_t high, int64_t low)
