from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.columns.raw import RawColumn

def scatter(
    hashes: NDArray[np.uint64], parts: int, columns: Sequence[RawColumn]
) -> tuple[list[int], NDArray[np.int32], list[RawColumn]]: ...
def merge_runs(
    kinds: Sequence[str], runs: Sequence[Sequence[RawColumn]], more: Sequence[bool], max_rows: int
) -> NDArray[np.uint8]: ...
def interleave(columns: Sequence[RawColumn], sources: NDArray[np.uint8]) -> RawColumn: ...
