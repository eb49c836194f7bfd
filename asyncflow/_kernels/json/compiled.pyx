"""NDJSON blocks to columns: the Python face of ``json/walk.h``.  The twin ``json/reference.py`` specifies what is accepted and rejected.

``formats/json`` makes one :class:`Decoder` per stream.  The steps that a block goes through:

* layouts (``json/layouts.h``): a record that looks like an earlier record is followed along a graph of layouts, with one masked
compare for the
  text up to each value and one vector search for the value's end.
* parser (``json/parse.h``): any other record is read by the whole grammar.  The parser teaches the graph, and only the parser
rejects records.
* spans: both ways note where the text of each wanted value stands (``json/walker.h``).
* columns: a tile of at most 1024 rows goes through the column loops that all text formats share (``columns/columns.h``).
* notes (``json/tile.h``): values that the loops do not take, such as text with escapes, are read one by one.

Invariants: time is linear in the size of the block; what was read before changes the speed, never the result.
"""

from itertools import count

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import numpy as np

from asyncflow._kernels.base.levels cimport cpu_level

cdef extern from "json/levels.h" nogil:
    enum:
        JSON_NULL, JSON_NUMBER, JSON_CONSTANT, JSON_TRUE, JSON_FALSE, JSON_TEXT, JSON_ESCAPED, JSON_SURROGATE, JSON_NESTED, JSON_KINDS
        JSON_TAKE, JSON_TAKE_AND_NOTE, JSON_VOID, JSON_NOTE
        JSON_TOO_LONG, JSON_BAD_UTF8, JSON_NOT_OBJECT, JSON_MALFORMED, JSON_TOO_DEEP, JSON_NO_VALUE, JSON_BAD_VALUE
    ctypedef struct json_column:
        uint8_t type
        uint8_t required
        uint8_t action[9]
    ctypedef struct json_edge:
        uint32_t name_at, name_length
        int32_t node
    ctypedef struct json_node:
        int32_t column
        uint32_t edges_at, edge_count, below_at, below_count
    ctypedef struct json_plan:
        uint64_t serial
        uint32_t column_count
        const json_column *columns
        const json_node *nodes
        const json_edge *edges
        const int32_t *below
        const uint8_t *names
        uint32_t key_room
        uint64_t max_record_bytes, max_rejects
    ctypedef struct json_scratch:
        pass
    ctypedef struct json_output:
        void *values
        int32_t *lengths
        uint8_t *valid
        uint8_t *text
        uint8_t nulls
    ctypedef struct json_reject:
        int64_t line, offset, length, after_row, reason, column, value_start, value_length
    ctypedef struct json_job:
        const json_plan *plan
        uint8_t *block
        uint32_t size
        json_scratch *scratch
        uint64_t line_count
        json_output *outputs
        int64_t rows, rejected
        json_reject *rejects
        uint64_t reject_count, reject_room
    bint json_survey(int level, json_job *job)
    bint json_decode(int level, json_job *job)
    void json_release(json_job *job)

cdef extern from "columns/columns.h" nogil:
    enum:
        AF_BOOL, AF_INT64, AF_FLOAT64, AF_STRING, AF_TIMESTAMP, AF_EPOCH_S, AF_EPOCH_MS, AF_EPOCH_US, AF_EPOCH_NS

TOO_LONG, BAD_UTF8, NOT_OBJECT, MALFORMED = JSON_TOO_LONG, JSON_BAD_UTF8, JSON_NOT_OBJECT, JSON_MALFORMED
TOO_DEEP, NO_VALUE, BAD_VALUE = JSON_TOO_DEEP, JSON_NO_VALUE, JSON_BAD_VALUE

_TYPES = {
    "bool": (AF_BOOL, np.uint8, (JSON_TRUE, JSON_FALSE)),
    "int64": (AF_INT64, np.int64, (JSON_NUMBER,)),
    "float64": (AF_FLOAT64, np.float64, (JSON_NUMBER,)),
    "string": (AF_STRING, np.int32, (JSON_NUMBER, JSON_CONSTANT, JSON_TRUE, JSON_FALSE, JSON_TEXT, JSON_NESTED)),
    "timestamp": (AF_TIMESTAMP, np.int64, (JSON_TEXT,)),
    "timestamp[s]": (AF_EPOCH_S, np.int64, (JSON_NUMBER,)),
    "timestamp[ms]": (AF_EPOCH_MS, np.int64, (JSON_NUMBER,)),
    "timestamp[us]": (AF_EPOCH_US, np.int64, (JSON_NUMBER,)),
    "timestamp[ns]": (AF_EPOCH_NS, np.int64, (JSON_NUMBER,)),
}  # type text -> the columns.h kind, dtype of the values, kinds of JSON value that the column's loop takes as they are

_serials = count(1)

cdef int LEVEL = cpu_level()


def _key_tree(names):
    """The wanted paths as a tree (json/plan.h): (nodes, edges, columns below each node, bytes of all keys, length of the longest key)."""
    paths = {None: 0}  # None: the record itself
    steps = []  # (from path, key, to path)
    for name in names:
        ends = [i for i, letter in enumerate(name) if letter == "."] + [len(name)]
        prefixes = [name[:end] for end in ends]
        for position, prefix in enumerate(prefixes):
            paths.setdefault(prefix, len(paths))
            steps.append((None, prefix, prefix))
            steps += [(outer, prefix[len(outer) + 1 :], prefix) for outer in prefixes[:position]]
    edges_of = {path: {} for path in paths}
    for outer, key, inner in steps:
        edges_of[outer][key.encode()] = paths[inner]
    nodes, edges, below, keys = [], [], [], bytearray()
    column_of = {name: column for column, name in enumerate(names)}
    for path in paths:
        inside = [c for c, name in enumerate(names) if path is not None and name.startswith(path + ".")]
        nodes.append((column_of.get(path, -1), len(edges), len(edges_of[path]), len(below), len(inside)))
        below += inside
        for key, node in sorted(edges_of[path].items(), key=lambda edge: (len(edge[0]), edge[0])):
            edges.append((len(keys), len(key), node))
            keys += key
    return nodes, edges, below, bytes(keys), max((length for _, length, _ in edges), default=0)


cdef class Decoder:
    """See the twin.  ``decode`` changes no field, so threads may decode at the same time."""

    cdef json_plan plan
    cdef bytes _columns, _nodes, _edges, _below, _names
    cdef list _dtypes, _texts, _own_bytes

    def __init__(self, names, types, required, Py_ssize_t max_record_bytes, max_rejects=None):
        cdef json_column column
        cdef json_node node
        cdef json_edge edge
        cdef int32_t number
        names, types, required = tuple(names), tuple(types), tuple(required)
        if len(names) != len(types) or len(names) != len(required) or len(names) > 0xFFFF or len(set(names)) != len(names):
            raise ValueError("names, types and required must be of one length, at most 65535, and the names unique")
        columns = bytearray()
        self._dtypes = []
        for type_, need in zip(types, required):
            kind, dtype, takes = _TYPES[type_]
            self._dtypes.append(dtype)
            column.type, column.required = kind, bool(need)
            for value in range(JSON_KINDS):
                column.action[value] = JSON_TAKE if value in takes else JSON_VOID if value == JSON_NULL else JSON_NOTE
            if kind == AF_STRING:
                column.action[<int>JSON_ESCAPED] = JSON_TAKE_AND_NOTE
            columns += (<char *>&column)[: sizeof(column)]
        nodes, edges, below, self._names, longest = _key_tree(names)
        packed = [bytearray(), bytearray(), bytearray()]
        for node.column, node.edges_at, node.edge_count, node.below_at, node.below_count in nodes:
            packed[0] += (<char *>&node)[: sizeof(node)]
        for edge.name_at, edge.name_length, edge.node in edges:
            packed[1] += (<char *>&edge)[: sizeof(edge)]
        for number in below:
            packed[2] += (<char *>&number)[: sizeof(number)]
        self._columns, self._nodes, self._edges, self._below = bytes(columns), bytes(packed[0]), bytes(packed[1]), bytes(packed[2])
        self._texts = [type_ == "string" for type_ in types]
        # A column of an object's raw text gets its own copy of the bytes, because escapes of the object's fields are resolved in place.
        outer = {name[:i] for name in names for i, letter in enumerate(name) if letter == "."}
        self._own_bytes = [text and name in outer for name, text in zip(names, self._texts)]
        self.plan.serial = next(_serials)
        self.plan.column_count = len(names)
        self.plan.columns = <const json_column *><const char *>self._columns
        self.plan.nodes = <const json_node *><const char *>self._nodes
        self.plan.edges = <const json_edge *><const char *>self._edges
        self.plan.below = <const int32_t *><const char *>self._below
        self.plan.names = <const uint8_t *><const char *>self._names
        self.plan.key_room = min(6 * longest, 0x7FFFFFFF)  # \uXXXX for each byte
        self.plan.max_record_bytes = max_record_bytes
        self.plan.max_rejects = 0xFFFFFFFFFFFFFFFF if max_rejects is None else max_rejects

    def decode(self, block):
        """Returns (rows, lines, columns, rejected, rejects), see the twin.  Escapes are resolved in place, inside ``block``."""
        cdef json_job job
        cdef uint8_t[::1] bytes_ = block
        cdef size_t size = bytes_.shape[0]
        cdef uint8_t *first = &bytes_[0] if size else NULL
        cdef bint done
        if self._own_bytes is None:
            raise ValueError("a decoder that was made without __init__")
        if size > 0x7FFFFFFF:
            raise ValueError("a block must be smaller than 2 GiB")
        job.plan = &self.plan
        job.block = first
        job.size = size
        job.scratch = NULL
        job.rejects = NULL
        job.rows = job.rejected = job.reject_count = job.reject_room = 0
        try:
            with nogil:
                done = json_survey(LEVEL, &job)
            if not done:
                raise MemoryError
            return self._fill(&job, block)
        finally:
            json_release(&job)

    cdef _fill(self, json_job *job, block):
        """Allocates the arrays, fills them, and cuts them to the number of rows."""
        cdef json_output output
        cdef bytearray outputs = bytearray()
        cdef uint64_t lines = job.line_count
        cdef uint8_t[::1] valid, values, data
        cdef int32_t[::1] lengths
        cdef bint done
        arrays = []
        for dtype, text, own_bytes in zip(self._dtypes, self._texts, self._own_bytes):
            raw_values = np.empty(lines + 1, dtype)
            raw_valid = np.empty(lines + 1, np.uint8)
            raw_lengths = np.empty(lines + 1 if text else 0, np.int32)
            source = np.array(block) if own_bytes else block
            arrays.append((raw_values, raw_lengths, raw_valid, source))
            values, valid, lengths, data = raw_values.view(np.uint8), raw_valid, raw_lengths, source
            output.values = &values[0]
            output.valid = &valid[0]
            output.lengths = &lengths[0] if text else NULL
            output.text = &data[0] if job.size else NULL
            output.nulls = 0
            outputs += (<char *>&output)[: sizeof(output)]
        job.outputs = <json_output *><char *>outputs
        with nogil:
            done = json_decode(LEVEL, job)
        if not done:
            raise MemoryError
        rejects = np.empty((job.reject_count, 8), np.int64)
        if job.reject_count:
            memcpy(<void *><size_t>rejects.ctypes.data, job.rejects, job.reject_count * sizeof(json_reject))
        rows = job.rows
        columns = []
        for column, ((raw_values, raw_lengths, raw_valid, source), dtype, text) in enumerate(zip(arrays, self._dtypes, self._texts)):
            nulls = None
            if job.outputs[column].nulls:
                mask = raw_valid[:rows].view(np.bool_)
                nulls = None if mask.all() else mask
            if text:
                columns.append((source, raw_values[:rows], raw_lengths[:rows], nulls))
            else:
                columns.append((raw_values[:rows].view(np.bool_) if dtype is np.uint8 else raw_values[:rows], nulls))
        return rows, int(lines), columns, int(job.rejected), rejects
