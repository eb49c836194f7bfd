from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Valid: TypeAlias = NDArray[np.bool_] | None
Fixed: TypeAlias = tuple[NDArray[Any], Valid]
Text: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32], Valid]

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
    ) -> tuple[int, int, list[Fixed | Text], int, NDArray[np.int64]]: ...
