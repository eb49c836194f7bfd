from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

RawColumn: TypeAlias = tuple[Any, ...]
Aggregate: TypeAlias = tuple[str, tuple[int, ...], tuple[str, ...], int | None, *tuple[float, ...]]
Merges: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]
Closed: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], list[RawColumn], int]

class WindowState:
    def __init__(
        self, size_ns: int | None, every_ns: int, offset_ns: int, aggregates: Sequence[Aggregate]
    ) -> None: ...
    def add(
        self,
        groups: NDArray[np.int32],
        group_count: int,
        time: NDArray[np.int64] | None,
        watermarks: NDArray[np.int64] | None,
        watermark_before: int,
        delay_ns: int,
        inputs: Sequence[RawColumn],
        masks: Sequence[NDArray[np.bool_]],
        merges: Merges | None = None,
    ) -> tuple[NDArray[np.intp], int]: ...
    def ready(self, watermark_ns: int) -> bool: ...
    def close(self, watermark_ns: int, order: NDArray[np.int32], max_rows: int) -> Closed | None: ...
    def live_groups(self, group_count: int) -> NDArray[np.int32]: ...
    def keep(self, groups: NDArray[np.int32]) -> None: ...
    def peek(self, slots: NDArray[np.int32]) -> tuple[list[RawColumn], int]: ...
    def merge(self, into: NDArray[np.int32], source: NDArray[np.int32]) -> None: ...
    def clear(self, slots: NDArray[np.int32]) -> None: ...
    @property
    def windows_closed(self) -> int: ...
    @property
    def open_windows(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
