"""Lists of values and their counts, as ``approx_top_k`` gives them: JSON text, for there is no type of lists.

``[{"value": "a", "count": 9}, ...]`` without spaces; values are written as the JSON format writes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asyncflow._kernels import kernel
from asyncflow.model.columns import Int64Array, StringColumn
from asyncflow.model.schema import DataType

_KEYS = (b'"value":', b'"count":')


def json_lists(type_: DataType, lists: tuple[tuple[Any, ...], Int64Array, Int64Array]) -> StringColumn:
    """The text of each list.  ``lists``: the raw column of all values of that type, one list after another, their counts, and the lengths
    of the lists (0: null)."""
    values, counts, lengths = lists
    valid = lengths > 0
    items = len(counts)
    column = values[:-1] if len(values) == 4 else (values[0], None, None)
    cells = [(type_.value, *column, values[-1]), (DataType.INT64.value, counts, None, None, None)]
    written = np.frombuffer(bytes(kernel("encode").json_rows(items, cells, _KEYS, 0)), np.uint8)
    ends = np.flatnonzero(written == ord("\n")) + 1  # a line an item: a line's end inside a text is escaped
    last = np.cumsum(lengths)
    bounds = np.concatenate([[0], ends])
    begins, stops = bounds[last - lengths], bounds[last]
    data = np.where(written == ord("\n"), ord(","), written).astype(np.uint8)
    data[stops[valid] - 1] = ord("]")
    data = np.insert(data, begins[valid], ord("["))
    shift: Int64Array = np.cumsum(valid) - valid
    sizes = np.where(valid, stops - begins + 1, 0).astype(np.int32)
    return StringColumn(data, (begins + shift).astype(np.int32), sizes, None if valid.all() else valid)
