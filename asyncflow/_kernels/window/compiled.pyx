"""Window state: rows into panes, panes into windows, windows into columns.

The design is in words at the head of window/cells.h (what is kept), window/update.h (rows in), window/emit.h, window/results.h (windows out)
and window/slots.h (groups read, merged and emptied one by one); the twin defines the results.  Here a stage's aggregates are turned into
accumulators, shared where they read the same input under the same mask, and numpy arrays are handed to C and back.  Cost: a few ns for a
row and accumulator, two merges for a group and hopping window, memory for the groups of open panes only.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import os

import numpy as np

from asyncflow._kernels.encode.compiled import json_rows
from asyncflow._kernels.base.guarded import guarded
from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.accumulators.lists import json_lists
from asyncflow._kernels.accumulators.table import AGGREGATES, BLOCK, OF_TEXTS, PANE, cell_dtype, laid_out
from asyncflow._kernels.window.saved import Fields, checked_parts, fields_of, wide

cimport numpy as cnp

from asyncflow._kernels.base.arrays cimport array_of
from asyncflow._kernels.base.views cimport check_ids, check_kept, check_views
from asyncflow._kernels.window.state cimport *

cnp.import_array()

af_distinct_seed = int.from_bytes(os.urandom(8), "little")

cdef object MAX_BOUND = 2**63 - 1
cdef int64_t MOST_KEPT = 1 << 17  # rows that room is kept for

cdef dict KINDS = {
    "int64": AF_KIND_INT64, "timestamp": AF_KIND_INT64, "float64": AF_KIND_FLOAT64, "bool": AF_KIND_BOOL, "string": AF_KIND_STRING,
}
cdef dict KEYS = {"NONE": AF_KEY_NONE, "TIME": AF_KEY_TIME, "VALUE": AF_KEY_VALUE}
cdef dict FAMILIES = {af_family_names[i].decode(): i for i in range(AF_FAMILY_COUNT)}
cdef dict RESULTS = {af_result_names[i].decode(): i for i in range(AF_RESULT_COUNT)}
for _rule in (*AGGREGATES.values(), *OF_TEXTS.values()):
    if _rule.family not in FAMILIES or _rule.result not in RESULTS:
        raise ImportError(f"accumulators/list.h has no {_rule.family} or no {_rule.result}")


include "columns.pxi"


def mark(flags, places):
    """Sets the flags at these places."""
    places = cnp.PyArray_FROM_OTF(places, cnp.NPY_INT32, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)
    cdef const int32_t *at = <const int32_t *>cnp.PyArray_DATA(places)
    cdef int64_t count = len(places), i
    if count and places.min() < 0:
        raise ValueError("a slot below 0")
    flags = _by_slot(flags, cnp.NPY_BOOL, int(places.max()) + 1 if count else 0)
    cdef uint8_t *set_ = <uint8_t *>cnp.PyArray_DATA(flags)
    with nogil:
        for i in range(count):
            set_[at[i]] = 1


def marked(flags, Py_ssize_t count):
    """The places below ``count`` whose flags are set, ascending."""
    flags = _by_slot(flags, cnp.NPY_BOOL, count)
    cdef cnp.npy_intp room = count
    places = cnp.PyArray_EMPTY(1, &room, cnp.NPY_INT32, 0)
    cdef const uint8_t *set_ = <const uint8_t *>cnp.PyArray_DATA(flags)
    cdef int32_t *found = <int32_t *>cnp.PyArray_DATA(places)
    cdef int64_t number
    with nogil:
        number = af_flagged(set_, count, found)
    return places[:number]


cdef object _number(af_wide window):
    return wide(af_high_word(window), <uint64_t>af_low_word(window))


cdef class _WindowState:
    """Open windows and what they hold.  ``size_ns`` None: one window over everything that came since the last ``close`` at the end of
    time; no row is ever late for it, and its groups may be used as slots: read with ``peek``, folded together with ``merge``, emptied with
    ``clear``.  After an exception the state is of no further use."""

    cdef af_state state
    cdef af_result result
    cdef list accumulators
    cdef list shape  # size (0: none), step, offset
    cdef object frozen  # pieces that are still to be given
    cdef list kinds  # of the inputs that are read, None for others
    cdef list types  # of the aggregates' first inputs, by name
    cdef int mask_count
    cdef af_input *inputs
    cdef const uint8_t **masks
    cdef int64_t group_count
    cdef int64_t shrink_at
    cdef bint apart  # other states may be absorbed
    cdef object places  # of the rows of the next ``add``, where they are told
    cdef bint sending  # rows that were sent stand in the result

    def __cinit__(self, size_ns, every_ns, offset_ns, aggregates):
        cdef int i
        if size_ns is not None and not 0 < every_ns <= size_ns <= MAX_BOUND:
            raise ValueError("a window needs 0 < every_ns <= size_ns < 2**63")
        af_state_shape(&self.state, size_ns or 0, every_ns, offset_ns % every_ns if size_ns else 0)
        accumulators, outputs = laid_out(aggregates)
        self.accumulators = accumulators
        self.apart = all(accumulator.apart for accumulator in accumulators)
        self.shape = [size_ns, every_ns, offset_ns % every_ns] if size_ns else [0, 1, 0]
        self.kinds = []
        self.types = [types[0] if types else None for _, _, types, *_ in aggregates]
        for _, ins, types, mask, *_ in aggregates:
            self.mask_count = max(self.mask_count, 0 if mask is None else mask + 1)
            for position, kind in zip(ins, types):
                self.kinds += [None] * (position + 1 - len(self.kinds))
                self.kinds[position] = KINDS[kind]
        cdef af_store *store = &self.state.store
        store.seed = int.from_bytes(os.urandom(8), "little")
        store.ops = <af_op *>calloc(len(accumulators) + 1, sizeof(af_op))
        self.result.outputs = <af_output *>calloc(len(outputs) + 1, sizeof(af_output))
        self.inputs = <af_input *>calloc(len(self.kinds) + 1, sizeof(af_input))
        self.masks = <const uint8_t **>calloc(self.mask_count + 1, sizeof(void *))
        if not store.ops or not self.result.outputs or not self.inputs or not self.masks:
            raise MemoryError
        store.op_count = len(accumulators)
        store.own_sets = size_ns is None
        for i, accumulator in enumerate(accumulators):
            _fill(&store.ops[i], accumulator)
            if store.ops[i].family == AF_DISTINCT and not store.own_sets:
                store.ops[i].set = store.set_count
                store.set_count += 1
        self.result.output_count = len(outputs)
        for i, output in enumerate(outputs):
            self.result.outputs[i].result = RESULTS[output.result]
            self.result.outputs[i].op = output.accumulator
            self.result.outputs[i].kind = KINDS[output.kind]
            self.result.outputs[i].parameter = output.parameter
        if not af_store_layout(store):
            raise MemoryError
        if 8 * af_saved_words(store) != cell_dtype(accumulators).itemsize:
            raise SystemError("accumulators/table.py and the accumulators' headers save different words")
        self.shrink_at = AF_SHRINK_EVERY

    def __dealloc__(self):
        af_state_free(&self.state)
        af_result_free(&self.result)
        free(self.inputs)
        free(self.masks)

    def add(self, groups, group_count, time, watermarks, watermark_before, delay_ns, inputs, masks, merges=None):
        """Takes rows in order.  Gives back the positions of those late for all their windows, and how many were late for some.

        ``merges``, of slots: ``(rows, into, source)``, before row ``rows[i]`` (ascending) ``source[i]`` is folded into ``into[i]``."""
        if self.state.out.active:
            raise RuntimeError("rows while a window is given out")
        cdef Py_ssize_t count = len(groups), i
        cdef list kept = []  # what the pointers below point into
        cdef af_rows rows
        memset(&rows, 0, sizeof(rows))
        groups = array_of(groups, cnp.NPY_INT32, count)
        rows.groups = <const int32_t *>cnp.PyArray_DATA(groups)
        check_ids(rows.groups, count, group_count)
        rows.count = count
        rows.group_count = group_count
        if time is not None:
            time = array_of(time, cnp.NPY_INT64, count)
            rows.time = <const int64_t *>cnp.PyArray_DATA(time)
        elif self.state.sized:
            raise ValueError("windows of event time need rows that have one")
        if watermarks is not None:
            watermarks = array_of(watermarks, cnp.NPY_INT64, count)
            rows.watermarks = <const int64_t *>cnp.PyArray_DATA(watermarks)
        rows.watermark_before = watermark_before
        rows.delay = delay_ns
        for i in range(len(self.kinds)):
            if self.kinds[i] is not None:
                _point(&self.inputs[i], self.kinds[i], inputs[i], count, kept)
        for i in range(self.mask_count):
            mask = array_of(masks[i], cnp.NPY_BOOL, count)
            kept.append(mask)
            self.masks[i] = <const uint8_t *>cnp.PyArray_DATA(mask)
        rows.inputs = self.inputs
        rows.masks = self.masks
        places, self.places = self.places, None
        if places is not None:
            places = array_of(places, cnp.NPY_INT32, count)
            rows.places = <const int32_t *>cnp.PyArray_DATA(places)
        late = cnp.PyArray_EMPTY(1, [count], cnp.NPY_INT64, 0)
        rows.late = <int64_t *>cnp.PyArray_DATA(late)
        self.group_count = max(self.group_count, group_count)
        cdef const int64_t *at = NULL
        cdef const int32_t *into = NULL
        cdef const int32_t *source = NULL
        cdef int64_t merge_count = 0
        if merges is not None and len(merges[0]):
            positions = array_of(merges[0], cnp.NPY_INT64, -1)
            merge_count = len(positions)
            targets, sources = self._slots(merges[1], merge_count), self._slots(merges[2], merge_count)
            if positions[0] < 0 or positions[merge_count - 1] > count or (positions[1:] < positions[: merge_count - 1]).any():
                raise ValueError("merges are not in the order of rows")
            self.group_count = max(self.group_count, int(targets.max()) + 1)
            at = <const int64_t *>cnp.PyArray_DATA(positions)
            into, source = <const int32_t *>cnp.PyArray_DATA(targets), <const int32_t *>cnp.PyArray_DATA(sources)
        cdef bint done
        with nogil:
            done = af_add_merging(&self.state, &rows, at, into, source, merge_count)
        if not done:
            raise MemoryError
        return (late[: rows.late_count].astype(np.intp) if rows.late_count else _NO_ROWS), rows.partly

    def number(self, before, places):
        """The rows of the next ``add`` stand at these places (int32) of a batch before which so many rows came: of equal rows the order in which
        they came decides, and in saved states they have these numbers.  For states that share the rows of a stage."""
        self.state.arrivals = before
        self.places = places

    def absorb(self, other, groups, group_count, watermark_before):
        """Takes the rows of ``other``, a state of the same shape and aggregates, as if they came now, and gives how many.  Its group g is
        ``groups[g]`` here; where that is below 0, those rows are left out.  None: a row of ``other`` is late for one of its windows, where
        ``watermark_before`` is before the first row, and nothing has changed.  ValueError where rows cannot be added up apart, or windows
        were given out."""
        cdef _WindowState small = other
        cdef int64_t count = group_count, watermark = watermark_before
        if small is self or not self.apart or self.shape != small.shape or self.accumulators != small.accumulators:
            raise ValueError("a state of another shape, or of aggregates that are not added up apart")
        if small.state.windows_closed or small.state.out.active or self.state.out.active:
            raise ValueError("a state that gives windows out")
        groups = array_of(groups, cnp.NPY_INT32, -1)
        if len(groups) < small.group_count:
            raise ValueError("names of fewer groups than there are")
        if len(groups) and groups.max() >= count:
            raise IndexError("a group that there is not")
        cdef const int32_t *names = <const int32_t *>cnp.PyArray_DATA(groups)
        cdef int64_t done
        self.places = None
        with nogil:
            done = af_state_absorb(&self.state, &small.state, names, count, watermark)
        if done == AF_FULL:
            raise MemoryError
        if done == AF_LATE:
            return None
        self.group_count = max(self.group_count, count)
        return done

    def ready(self, watermark_ns):
        """Whether ``close`` has anything to give for this watermark."""
        return self.state.out.active or af_window_ready(&self.state, watermark_ns)

    def close(self, watermark_ns, order, max_rows, max_bytes=MAX_BOUND):
        """The next rows, at most ``max_rows``, of windows that end at or before the watermark: ``(starts, ends, groups, results,
        overflows)``, or None when there are no more.  ``order``: all group ids by key.  Bounds are clamped to int64.  There are no more
        rows after one with which the results' texts come to ``max_bytes`` (a list: six times those of its texts, and 40 an item)."""
        order = array_of(order, cnp.NPY_INT32, -1)
        cdef int64_t group_count = len(order), watermark = watermark_ns, wanted = max_rows, room = max_bytes
        cdef const int32_t *ordered = <const int32_t *>cnp.PyArray_DATA(order)
        cdef af_result *result = &self.result
        cdef bint done
        if self.sending:
            raise RuntimeError("a window given out while rows that were sent are not taken")
        if group_count < self.group_count:
            raise ValueError("an order of fewer groups than there are")
        if wanted < 1:
            raise ValueError("at least one row is given out")
        check_ids(ordered, group_count, group_count)
        with nogil:
            done = af_close_rows(&self.state, watermark, ordered, group_count, wanted, room, result)
            if done and not self.state.out.active and self.state.windows_closed >= self.shrink_at:
                self.shrink_at = self.state.windows_closed + AF_SHRINK_EVERY
                af_state_shrink(&self.state)
        if not done:
            raise MemoryError
        if result.count == 0:
            return None
        return (
            _copied(result.starts, cnp.NPY_INT64, result.count, 8),
            _copied(result.ends, cnp.NPY_INT64, result.count, 8),
            _copied(result.groups, cnp.NPY_INT32, result.count, 4),
            self._columns(),
            result.overflows,
        )

    # -- slots ---------------------------------------------------------------------------------------------------------

    cdef object _slots(self, slots, Py_ssize_t count):
        """Group ids as an array, checked; only a window over everything has slots."""
        array = array_of(slots, cnp.NPY_INT32, count)
        if self.state.sized:
            raise ValueError("windows of a size have no slots")
        if self.state.out.active:
            raise RuntimeError("slots while a window is given out")
        if len(array) and array.min() < 0:
            raise ValueError("a slot below 0")
        return array

    def peek(self, slots, max_bytes=MAX_BOUND):
        """What these slots hold, in the order given: ``(results, overflows)``; nothing changes.  An empty slot holds no rows.  Of the first
        slots only, up to one with which the results' texts come to ``max_bytes``, as for ``close``."""
        slots = self._slots(slots, -1)
        if self.sending:
            raise RuntimeError("slots read while rows that were sent are not taken")
        cdef const int32_t *ids = <const int32_t *>cnp.PyArray_DATA(slots)
        cdef int64_t count = len(slots), room = max_bytes
        cdef bint done
        with nogil:
            af_result_clear(&self.result)
            done = af_slots_append(&self.state, ids, count, room, &self.result)
        if not done:
            raise MemoryError
        return self._columns(), self.result.overflows

    cdef list _columns(self):
        cdef af_result *result = &self.result
        return [_column(&result.outputs[i], result.count, self.types[i]) for i in range(result.output_count)]

    def send(self, slots, windows, keys, revisions, changed):
        """Takes down a row of each of these slots, in the order given, for ``sent``.  By slot: its window, its key, how often it was
        sent, which counts on, and whether it changed since then, which is no longer so."""
        slots = self._slots(slots, -1)
        cdef int64_t count = len(slots), above = int(slots.max()) + 1 if count else 0
        windows, keys = _by_slot(windows, cnp.NPY_INT64, above), _by_slot(keys, cnp.NPY_INT32, above)
        revisions, changed = _by_slot(revisions, cnp.NPY_INT64, above), _by_slot(changed, cnp.NPY_BOOL, above)
        cdef const int32_t *ids = <const int32_t *>cnp.PyArray_DATA(slots)
        cdef const int64_t *window_of = <const int64_t *>cnp.PyArray_DATA(windows)
        cdef const int32_t *key_of = <const int32_t *>cnp.PyArray_DATA(keys)
        cdef int64_t *revision_of = <int64_t *>cnp.PyArray_DATA(revisions)
        cdef uint8_t *flags = <uint8_t *>cnp.PyArray_DATA(changed)
        cdef bint done
        if not self.sending:
            af_result_clear(&self.result)
            self.sending = True
        with nogil:
            done = af_slots_send(&self.state, ids, count, window_of, key_of, revision_of, flags, &self.result)
        if not done:
            raise MemoryError

    def sent(self):
        """The rows taken down since the last call: ``(windows, keys, revisions, results, overflows)``."""
        cdef af_result *result = &self.result
        if not self.sending:
            af_result_clear(result)
        rows = (
            _copied(result.starts, cnp.NPY_INT64, result.count, 8),
            _copied(result.groups, cnp.NPY_INT32, result.count, 4),
            _copied(result.ends, cnp.NPY_INT64, result.count, 8),
            self._columns(),
            result.overflows,
        )
        self.sending = False
        if result.capacity > MOST_KEPT:
            af_result_drop(result)
        return rows

    def merge(self, into, source):
        """Folds slot ``source[i]`` into slot ``into[i]``, pair after pair; the source is empty then.  Into itself: nothing changes."""
        into = self._slots(into, -1)
        source = self._slots(source, len(into))
        cdef const int32_t *targets = <const int32_t *>cnp.PyArray_DATA(into)
        cdef const int32_t *sources = <const int32_t *>cnp.PyArray_DATA(source)
        cdef int64_t count = len(into), i
        cdef bint done = True
        if count:
            self.group_count = max(self.group_count, int(into.max()) + 1)
        with nogil:
            for i in range(count):
                done = done and af_slot_merge(&self.state, targets[i], sources[i])
        if not done:
            raise MemoryError

    def clear(self, slots):
        """Empties slots: their ids can be used again."""
        slots = self._slots(slots, -1)
        cdef const int32_t *ids = <const int32_t *>cnp.PyArray_DATA(slots)
        cdef int64_t count = len(slots)
        with nogil:
            af_slots_clear(&self.state, ids, count)

    # -- saved ---------------------------------------------------------------------------------------------------------

    def freeze(self, rank):
        """Copies what is held for ``pieces``, and gives the fields.  ``rank``: of each group its place among the saved ones, below 0 for
        one without rows.  ValueError where a group with rows has none."""
        if self.state.out.active or self.sending:
            raise RuntimeError("a state is not frozen while rows of it are given out")
        ranks = array_of(rank, cnp.NPY_INT32, -1)
        cdef const int32_t *places = <const int32_t *>cnp.PyArray_DATA(ranks)
        cdef int64_t count = len(ranks)
        cdef af_saving saving
        cdef bint done, ranked = False
        memset(&saving, 0, sizeof(saving))
        with nogil:
            done = af_state_save(&self.state, places, count, &saving, &ranked)
        try:
            if not done:
                raise MemoryError
            if not ranked:
                raise ValueError("rank: a group that holds rows has no place")
            self.frozen = Parts({
                "panes": _copied_bytes(&saving.panes).view(PANE),
                "cells": _copied_bytes(&saving.cells).view(cell_dtype(self.accumulators)),
                "blocks": _copied_bytes(&saving.blocks).view(BLOCK),
                "block_bytes": _copied_bytes(&saving.data),
            })
        finally:
            af_saving_free(&saving)
        return fields_of(
            self.shape, self.accumulators, advanced=self.state.advanced, arrivals=self.state.arrivals,
            windows_closed=self.state.windows_closed, closed=self.closed_window,
        )

    def pieces(self, budget):
        """The next pieces of what was frozen, about ``budget`` bytes; None: all were given."""
        return None if self.frozen is None else self.frozen.pieces(budget)

    def drop(self):
        """What was frozen is not asked for any more."""
        self.frozen = None

    def load(self, fields, parts):
        """Takes what a state of the same shape and aggregates saved; groups are called by their places.  ValueError: it does not fit, and
        the state is as before; it must be empty."""
        if self.state.arrivals or self.state.head < self.state.end:
            raise RuntimeError("a state is loaded before its first row")
        said = Fields(fields, self.shape, self.accumulators)
        panes, cells, blocks, data = checked_parts(parts, self.accumulators)
        cdef af_saved_state saved
        cdef int64_t group_count = 0
        cdef int done
        saved.panes = <const af_saved_pane *>cnp.PyArray_DATA(panes)
        saved.cells = <const int64_t *>cnp.PyArray_DATA(cells)
        saved.blocks = <const af_saved_block *>cnp.PyArray_DATA(blocks)
        saved.data = <const uint8_t *>cnp.PyArray_DATA(data)
        saved.pane_count, saved.cell_count, saved.block_count, saved.data_bytes = len(panes), len(cells), len(blocks), len(data)
        saved.arrivals = said.arrivals
        af_saved_closed(&saved, said.closed is not None, 0 if said.closed is None else said.closed >> 64,
                        0 if said.closed is None else said.closed & 0xFFFFFFFFFFFFFFFF)
        with nogil:
            done = af_state_load(&self.state, &saved, &group_count)
        if done == AF_NO_MEMORY:
            raise MemoryError
        if done != AF_FITS:
            raise ValueError(f"the saved cell {saved.cell} (accumulator {saved.accumulator}), its pane or its blocks do not fit")
        self.state.advanced = said.advanced
        self.state.windows_closed = said.windows_closed
        self.shrink_at = said.windows_closed + AF_SHRINK_EVERY
        self.group_count = group_count

    @property
    def windows_closed(self):
        return self.state.windows_closed

    @property
    def open_windows(self):
        """How many windows hold a row and are not closed."""
        return af_open_windows(&self.state)

    def open_spans(self):
        """The windows that hold a row and are not closed, by number, as spans from a first to a last one, ascending."""
        return self._spans()

    cdef list _spans(self):
        cdef af_wide (*spans)[2]
        cdef int64_t i
        spans = <af_wide (*)[2]>calloc(self.state.end - self.state.head + 1, sizeof(spans[0]))
        if not spans:
            raise MemoryError
        try:
            return [(_number(spans[i][0]), _number(spans[i][1])) for i in range(af_open_spans(&self.state, spans))]
        finally:
            free(spans)

    @property
    def closed_window(self):
        """The last window that was closed, by number; None for none."""
        return _number(self.state.closed) if af_closed(&self.state) else None

    def pass_window(self, window):
        """The windows up to this one, by number, are closed; ValueError where one of them holds a row.  For states that share the groups
        of a stage: the windows that one of them closes are closed for all, and they are saved as one state."""
        spans = self._spans()
        if self.state.out.active or not self.state.sized or (spans and spans[0][0] <= window):
            raise ValueError("a window that holds a row is not passed")
        cdef bint done = af_pass_window(&self.state, af_wide_of(window >> 64, <int64_t><uint64_t>(window & 0xFFFFFFFFFFFFFFFF)))
        if not done:
            raise MemoryError

    @property
    def next_end(self):
        """When the next window that holds a row ends, clamped to int64; None where there is none, or windows have no bounds."""
        cdef int64_t end = 0
        return end if af_next_end(&self.state, &end) else None

    @property
    def held_rows(self):
        """Rows of the open windows; None where windows overlap."""
        rows = af_held_rows(&self.state)
        return None if rows < 0 else rows

    @property
    def cell_count(self):
        """How many cells (a group's rows in a pane) are held."""
        return af_cell_count(&self.state)

    @property
    def nbytes(self):
        return af_state_bytes(&self.state, &self.result)

    def live_groups(self, Py_ssize_t group_count):
        """The groups (ascending) that some open window holds."""
        return self._live(group_count)

    cdef object _live(self, Py_ssize_t group_count):
        live = np.zeros(group_count, np.uint8)
        cdef uint8_t *marks = <uint8_t *>cnp.PyArray_DATA(live)
        cdef size_t i
        with nogil:
            for i in range(self.state.head, self.state.end):
                af_mark_live(&self.state, self.state.panes[i], marks, group_count)
            if self.state.out.active:
                af_mark_live(&self.state, self.state.out.pane, marks, group_count)
        return np.flatnonzero(live).astype(np.int32)

    def keep(self, groups):
        """Renames groups: ``groups[i]`` becomes i.  Every live group is among them (ascending)."""
        if self.state.out.active:
            raise RuntimeError("groups renamed while a window is given out")
        cdef int64_t count = len(groups)
        groups = array_of(groups, cnp.NPY_INT32, -1)
        check_kept(<const int32_t *>cnp.PyArray_DATA(groups), count, self.group_count)
        names = np.full(self.group_count, -1, np.int32)
        names[groups] = np.arange(count, dtype=np.int32)
        if (names[self._live(self.group_count)] < 0).any():
            raise IndexError("a group that an open window holds is not kept")
        cdef const int32_t *new = <const int32_t *>cnp.PyArray_DATA(names)
        cdef size_t i
        cdef bint done = True
        with nogil:
            for i in range(self.state.head, self.state.end):
                done = done and af_pane_rename(&self.state.store, self.state.panes[i], new, count)
            # What the next block begins with may be of panes that are gone, and of groups that are; the next window merges it anew.
            af_forget_head(&self.state)
            if done and not self.state.sized:
                self.state.store.arena.peak_pages = self.state.store.arena.used_pages
                af_state_shrink(&self.state)
        if not done:
            raise MemoryError
        self.group_count = count


WindowState = guarded(_WindowState, "WindowState", open_windows=0, next_end=None, held_rows=None)
_NO_ROWS = np.empty(0, np.intp)
