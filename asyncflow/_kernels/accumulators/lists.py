"""Lists of values and their counts, as ``approx_top_k`` gives them: JSON text, for there is no type of lists.

``[{"value":"a","count":9},...]`` without spaces; values are written as the JSON format writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.raw import RawColumn

Int64Array: TypeAlias = NDArray[np.int64]

_KEYS = (b'"value":', b'"count":')
_LINE_END = ord("\n")
_MAX_BYTES = 2**31 - 1


def json_lists(
    json_rows: Callable[..., bytes], kind: str, values: RawColumn, counts: Int64Array, lengths: Int64Array
) -> RawColumn:
    """The text of each list as a raw string column; a list without items is null.

    ``values``: the raw column of all values, of the type named ``kind``, one list after another; ``counts``: theirs; ``lengths``: of the
    lists; ``json_rows``: that of the ``encode`` kernel.
    """
    value_cells = (kind, *values) if len(values) == 4 else (kind, values[0], None, None, values[1])
    cells = (value_cells, ("int64", counts, None, None, None))
    lines = np.frombuffer(bytes(json_rows(len(counts), cells, _KEYS, 0)), np.uint8)
    if len(lines) + len(lengths) > _MAX_BYTES:  # an opening bracket for each list
        raise OverflowError(
            f"the lists of {len(lengths)} rows have {len(lines)} bytes as text, more than 2 GiB"
        )
    is_end = lines == _LINE_END  # a line an item: those within texts are escaped
    bounds = np.concatenate([[0], np.flatnonzero(is_end) + 1])
    last = np.cumsum(lengths)
    begins, ends, valid = bounds[last - lengths], bounds[last], lengths > 0
    data = np.where(is_end, np.uint8(ord(",")), lines)
    data[ends[valid] - 1] = ord("]")
    data = np.insert(data, begins[valid], np.uint8(ord("[")))
    brackets_before: Int64Array = np.cumsum(valid) - valid
    starts = np.where(valid, begins + brackets_before, 0).astype(np.int32)
    sizes = np.where(valid, ends - begins + 1, 0).astype(np.int32)
    return data, starts, sizes, None if valid.all() else valid
