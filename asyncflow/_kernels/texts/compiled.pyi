from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLACK: int

def split_part(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    mark_data: NDArray[np.uint8],
    mark_starts: NDArray[np.int32],
    mark_lengths: NDArray[np.int32],
    numbers: NDArray[np.int64],
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> None: ...
def substring(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    positions: NDArray[np.int64],
    sizes: NDArray[np.int64] | None,
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> None: ...
def trim(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    set_data: NDArray[np.uint8],
    set_starts: NDArray[np.int32],
    set_lengths: NDArray[np.int32],
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> None: ...
def find(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    wanted_data: NDArray[np.uint8],
    wanted_starts: NDArray[np.int32],
    wanted_lengths: NDArray[np.int32],
    place: int,
    out: NDArray[np.bool_],
) -> None: ...
def like(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    pieces: list[bytes],
    out: NDArray[np.bool_],
) -> None: ...
def change_case(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    table: NDArray[np.int32] | None,
    upper: bool,
    out: NDArray[np.uint8],
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> int: ...
def replaced_size(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    old_data: NDArray[np.uint8],
    old_starts: NDArray[np.int32],
    old_lengths: NDArray[np.int32],
    new_data: NDArray[np.uint8],
    new_starts: NDArray[np.int32],
    new_lengths: NDArray[np.int32],
    rows: int,
) -> int: ...
def replace(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    old_data: NDArray[np.uint8],
    old_starts: NDArray[np.int32],
    old_lengths: NDArray[np.int32],
    new_data: NDArray[np.uint8],
    new_starts: NDArray[np.int32],
    new_lengths: NDArray[np.int32],
    out: NDArray[np.uint8],
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> None: ...
def concat(
    columns: Sequence[tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]],
    out: NDArray[np.uint8],
    out_starts: NDArray[np.int32],
    out_lengths: NDArray[np.int32],
) -> None: ...
def read(
    data: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    kind: int,
    values: NDArray[Any],
    known: NDArray[np.bool_],
) -> None: ...
