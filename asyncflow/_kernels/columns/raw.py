"""Columns as kernels take and give them: a tuple of arrays, of one of two forms."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Valid: TypeAlias = NDArray[np.bool_] | None
"""True where a row has a value; None where every row has."""

Fixed: TypeAlias = tuple[NDArray[Any], Valid]
"""Values of a fixed width: bool, int64 or float64; timestamps are int64 ns."""

Text: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], Valid]
"""Texts as views: bytes, and for each row where its text begins and how long the text is."""

RawColumn: TypeAlias = Fixed | Text
