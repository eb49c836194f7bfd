from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.raw import RawColumn

TOO_LONG: int
BAD_UTF8: int
NOT_OBJECT: int
MALFORMED: int
TOO_DEEP: int
NO_VALUE: int
BAD_VALUE: int

class Decoder:
    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[str],
        required: Sequence[bool],
        max_record_bytes: int,
        max_rejects: int | None = None,
    ) -> None: ...
    def decode(
        self, block: NDArray[np.uint8]
    ) -> tuple[int, int, list[RawColumn], int, NDArray[np.int64]]: ...
