import numpy as np
from numpy.typing import NDArray

class Machine:
    def __init__(
        self,
        code: NDArray[np.int32],
        moves: NDArray[np.int32],
        start: int,
        anchored: bool,
        prefix: bytes,
        literal: bool,
    ) -> None: ...
    def matches(
        self,
        data: NDArray[np.uint8],
        starts: NDArray[np.int32],
        lengths: NDArray[np.int32],
        found: NDArray[np.bool_],
    ) -> None: ...
    def spans(
        self,
        data: NDArray[np.uint8],
        starts: NDArray[np.int32],
        lengths: NDArray[np.int32],
        groups: NDArray[np.int32],
        found: NDArray[np.bool_],
        begins: NDArray[np.int32],
        sizes: NDArray[np.int32],
    ) -> None: ...
