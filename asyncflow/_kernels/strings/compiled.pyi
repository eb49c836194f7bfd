import numpy as np
from numpy.typing import NDArray

def equal(
    data_a: NDArray[np.uint8],
    starts_a: NDArray[np.int32],
    lengths_a: NDArray[np.int32],
    data_b: NDArray[np.uint8],
    starts_b: NDArray[np.int32],
    lengths_b: NDArray[np.int32],
    out: NDArray[np.bool_],
) -> None: ...
def compare(
    data_a: NDArray[np.uint8],
    starts_a: NDArray[np.int32],
    lengths_a: NDArray[np.int32],
    data_b: NDArray[np.uint8],
    starts_b: NDArray[np.int32],
    lengths_b: NDArray[np.int32],
    out: NDArray[np.int8],
) -> None: ...
def count_characters(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None: ...
def hash64(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    out: NDArray[np.uint64],
) -> None: ...
def distinct(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    ids: NDArray[np.int32],
    firsts: NDArray[np.int32],
) -> int: ...
def among(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    wanted_data: NDArray[np.uint8],
    wanted_starts: NDArray[np.int32],
    wanted_lengths: NDArray[np.int32],
    out: NDArray[np.bool_],
) -> None: ...
def copy_texts(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    rows: NDArray[np.int64] | None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...
