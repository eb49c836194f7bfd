from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

RawReject: TypeAlias = tuple[int, int, int, int, int, int, bytes, bytes]
RawColumn: TypeAlias = tuple[NDArray[Any], NDArray[np.int32] | None, NDArray[np.bool_] | None]

class Plan:
    def __init__(
        self,
        *,
        delimiter: int,
        quote: int,
        null_text: bytes,
        max_record_bytes: int,
        fields: int,
        columns: Sequence[tuple[int, str, bool]],
        rejects_kept: int,
    ) -> None: ...
    def decode(self, block: NDArray[np.uint8]) -> tuple[int, int, int, list[RawReject], list[RawColumn]]: ...

class Cutter:
    def __init__(self, plan: Plan) -> None: ...
    def cut(self, data: NDArray[np.uint8], final: bool) -> tuple[int, int, int, bytes | None]: ...
