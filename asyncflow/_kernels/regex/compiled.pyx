"""Regular expressions over columns of texts, in time linear in the text, without the GIL.

``model/patterns`` compiles a pattern to a program (``model/patterns/program.py``); a :class:`Machine` runs the program.  The
program runs as a deterministic automaton whose states are made when a text first needs them, and which tracks the positions of
groups (``regex/automaton.h``).  A pattern that is plain text is a search of bytes.

Time: at most size of text times size of program, usually one load per byte.  Memory: at most some MiB per pattern and thread.
About every 16 million steps Python's signal handlers run, so that a search can be interrupted.

Invariants: every text is checked to lie inside ``data`` before it is read; threads may share a machine, because each takes a cache
of its own.
"""

from collections import deque

from libc.stdint cimport int32_t, int64_t, uint8_t

import numpy as np

from asyncflow._kernels.base.views cimport check_texts


cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept

cdef extern from "regex/automaton.h":
    int rx_raise() except -1

cdef extern from "regex/automaton.h" nogil:
    ctypedef struct rx_instruction:
        pass
    ctypedef struct rx_move:
        pass
    ctypedef struct rx_program:
        const rx_instruction *code
        const rx_move *moves
        const uint8_t *prefix
        int64_t prefix_size
        int32_t count
        int32_t start
        int32_t anchored
        int32_t literal
    ctypedef struct rx_cache:
        int32_t *best
    int RX_MATCH, RX_BYTES, RX_SPLIT, RX_SAVE, RX_ASSERT
    int RX_FOUND, RX_NO_MEMORY, RX_STOPPED
    int rx_program_open(rx_program *program)
    int rx_cache_open(rx_cache *cache, const rx_program *program, const int32_t *place, int32_t slots,
                      int (*give_way)() noexcept nogil)
    void rx_cache_close(rx_cache *cache)
    int rx_search(const rx_program *program, rx_cache *cache, const uint8_t *text, int64_t size)
    const uint8_t *rx_skip(const rx_program *program, const uint8_t *at, const uint8_t *stop)


cdef int give_way() noexcept nogil:
    """Runs Python's signal handlers; not 0, with the exception set, where a handler raised."""
    with gil:
        return PyErr_CheckSignals()


cdef class Cache:
    """Working memory of one run.  ``groups``: the groups whose positions are tracked; None: only whether there is a match."""

    cdef rx_cache cache
    cdef object groups
    cdef object place
    cdef int32_t[::1] begins
    """The slot of each group's begin; the next slot is the group's end."""

    cdef int open(self, Machine machine, groups) except -1:
        cdef const int32_t[::1] place
        kept = [] if groups is None else sorted({0} | set(groups))
        self.groups = groups
        self.place = np.full(max(machine.slots, 2 * max(kept, default=0) + 2), -1, np.int32)
        for number, group in enumerate(kept):
            self.place[2 * group] = 2 * number
            self.place[2 * group + 1] = 2 * number + 1
        self.begins = self.place[np.array([2 * group for group in groups or ()], np.intp)]
        place = self.place
        if rx_cache_open(&self.cache, &machine.program, &place[0], 2 * len(kept), give_way) == RX_NO_MEMORY:
            raise MemoryError
        return 0

    def __dealloc__(self):
        rx_cache_close(&self.cache)


cdef class Machine:
    """Runs one program over columns of texts; see the twin."""

    cdef rx_program program
    cdef object code, moves, prefix
    cdef dict caches
    cdef int32_t slots

    def __cinit__(self, code, moves, int start, bint anchored, bytes prefix, bint literal):
        cdef int32_t[:, ::1] instructions
        cdef int32_t[:, ::1] transitions
        self.code = np.array(code, np.int32, order="C").reshape(-1, 3)
        self.moves = np.array(moves, np.int32, order="C").reshape(-1, 3)
        self.prefix = prefix
        self.caches = {}
        instructions, transitions = self.code, self.moves
        self.slots = check_program(instructions, transitions, start)
        self.program.code = <const rx_instruction *>&instructions[0, 0]
        self.program.moves = <const rx_move *>&transitions[0, 0] if transitions.shape[0] else NULL
        self.program.prefix = <const uint8_t *>prefix
        self.program.prefix_size = len(prefix)
        self.program.count = <int32_t>instructions.shape[0]
        self.program.start, self.program.anchored, self.program.literal = start, anchored, literal
        if rx_program_open(&self.program) == RX_NO_MEMORY:
            raise MemoryError

    cdef Cache taken(self, groups):
        """A cache for these groups that no other run uses."""
        cdef Cache cache
        try:
            return self.caches[groups].pop()
        except (KeyError, IndexError):
            cache = Cache()
            cache.open(self, groups)
            return cache

    cdef int give_back(self, Cache cache, int status) except -1:
        """Keeps a cache for the next run.  Where the run failed, raises its error and drops the cache."""
        if status == RX_NO_MEMORY:
            raise MemoryError
        if status == RX_STOPPED:
            rx_raise()
        self.caches.setdefault(cache.groups, deque()).append(cache)
        return 0

    def matches(self, const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths, found):
        cdef uint8_t[::1] result = found.view("u1")
        cdef Py_ssize_t rows = result.shape[0], row
        cdef const uint8_t *text
        cdef const uint8_t *stop
        cdef int status = 0
        cdef Cache cache
        cdef rx_cache *own
        check_texts(data, starts, lengths, rows)
        cache = self.taken(None)
        own = &cache.cache
        with nogil:
            for row in range(rows):
                text = &data[0] + starts[row] if lengths[row] else <const uint8_t *>""
                if self.program.literal:
                    stop = text + lengths[row]
                    result[row] = rx_skip(&self.program, text, stop) != stop
                    continue
                status = rx_search(&self.program, own, text, lengths[row])
                if status < 0:
                    break
                result[row] = status
        self.give_back(cache, status)

    def spans(self, const uint8_t[::1] data, const int32_t[::1] starts, const int32_t[::1] lengths,
              const int32_t[::1] groups, found, int32_t[:, ::1] begins, int32_t[:, ::1] sizes):
        cdef uint8_t[::1] result = found.view("u1")
        cdef Py_ssize_t rows = result.shape[0], row, asked = groups.shape[0], group
        cdef const uint8_t *text
        cdef const int32_t *slots
        cdef int status = 0
        cdef int32_t begin, end
        cdef Cache cache
        cdef rx_cache *own
        if begins.shape[0] != asked or sizes.shape[0] != asked or begins.shape[1] != rows or sizes.shape[1] != rows:
            raise ValueError("begins and sizes are not of (groups, rows)")
        numbers = tuple(np.asarray(groups).tolist())
        if not all(0 <= number < 0x10000 for number in numbers):
            raise ValueError("there is no such group")
        check_texts(data, starts, lengths, rows)
        cache = self.taken(numbers)
        own = &cache.cache
        with nogil:
            for row in range(rows):
                text = &data[0] + starts[row] if lengths[row] else <const uint8_t *>""
                status = rx_search(&self.program, own, text, lengths[row])
                if status < 0:
                    break
                result[row] = status
                slots = own.best
                for group in range(asked):
                    begin, end = slots[cache.begins[group]], slots[cache.begins[group] + 1]
                    if status == RX_FOUND and begin >= 0 and end >= 0:
                        begins[group, row] = starts[row] + begin
                        sizes[group, row] = end - begin
                    else:
                        begins[group, row] = starts[row]
                        sizes[group, row] = -1
        self.give_back(cache, status)


cdef int32_t check_program(const int32_t[:, ::1] code, const int32_t[:, ::1] moves, int start) except -1:
    """Checks that no instruction leads outside the program: ValueError.  Returns the number of slots of the program."""
    cdef Py_ssize_t i, count = code.shape[0]
    cdef int32_t slots = 2, operation, x, y
    cdef bint inside = 0 <= start < count
    for i in range(count):
        operation, x, y = code[i, 0], code[i, 1], code[i, 2]
        if operation == RX_BYTES:
            inside = inside and x >= 0 and y >= 0 and <int64_t>x + y <= moves.shape[0]
        elif operation == RX_SPLIT:
            inside = inside and 0 <= x < count and 0 <= y < count
        elif operation == RX_SAVE or operation == RX_ASSERT:
            inside = inside and 0 <= y < count and (operation == RX_ASSERT or 0 <= x < 0x20000)
            if operation == RX_SAVE and x >= slots:
                slots = x + 1
        else:
            inside = inside and operation == RX_MATCH
    for i in range(moves.shape[0]):
        inside = inside and 0 <= moves[i, 0] < 256 and 0 <= moves[i, 1] < 256 and 0 <= moves[i, 2] < count
    if not inside:
        raise ValueError("not a program")
    return slots
