import numpy as np
from numpy.typing import NDArray

GOOD: int
TOO_LONG: int
NOT_UTF8: int

def last_line_end(data: NDArray[np.uint8]) -> int: ...
def count_lines(block: NDArray[np.uint8]) -> int: ...
def split_lines(
    block: NDArray[np.uint8],
    max_bytes: int,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    faults: NDArray[np.uint8],
) -> int: ...
def join_lines(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    valid: NDArray[np.bool_] | None,
) -> bytes: ...
