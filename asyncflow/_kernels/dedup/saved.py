"""What is checked of a saved dedup state, for the kernel and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asyncflow._kernels.base import saved

NO_TIME, END_OF_TIME = -(2**63), 2**63 - 1


def entries(fields: Mapping[str, Any], parts: Mapping[str, Any], within: int) -> tuple[Any, Any]:
    """Groups and times of saved entries, or ValueError."""
    saved.same(fields, within_ns=within)
    watermark = saved.number(fields, "watermark_ns", NO_TIME, END_OF_TIME)
    groups = saved.numbers(parts, "group", None, saved.number(fields, "groups", 0, saved.MOST_NUMBERED))
    times: NDArray[np.int64] = saved.array(parts, "time", np.int64, len(groups))
    saved.nothing_else(parts, ("group", "time"))
    if not saved.rising(groups, times, strictly=False):
        raise ValueError("time: times that are not in order")
    if len(times) and int(times.min()) < max(watermark - within, NO_TIME):
        raise ValueError("time: a time that the watermark has passed")
    return groups, times
