from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Valid: TypeAlias = "NDArray[np.bool_] | None"
Cells: TypeAlias = (
    tuple[str, NDArray[Any], None, None, Valid]
    | tuple[str, NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], Valid]
)

def json_rows(
    num_rows: int, columns: Sequence[Cells], keys: Sequence[bytes], tick_ns: int
) -> bytes | memoryview: ...
def csv_rows(
    num_rows: int, columns: Sequence[Cells], delimiter: bytes, quote: bytes, null: bytes, tick_ns: int
) -> bytes | memoryview: ...
