"""A kernel's state and the key table beside it: both have the same groups."""

from __future__ import annotations

import numpy as np
import pytest

from asyncflow._kernels import dedup
from asyncflow.model.snapshot import Saved, nested
from asyncflow.model.snapshot import saved as whole
from asyncflow.operators.kernel_state import frozen_by_group, load_kernel


def state_of_three_groups() -> Saved:
    state = dedup.DedupState(10)
    groups, times = np.arange(3, dtype=np.int32), np.arange(3)
    state.add(groups, 3, times, times, 0)
    return whole(nested({}, {"times": frozen_by_group(state, groups)}))


def test_a_state_of_as_many_groups_is_loaded() -> None:
    state = dedup.DedupState(10)
    load_kernel(state, state_of_three_groups(), "times", groups=3)
    assert state.entries == 3


@pytest.mark.parametrize("groups", [0, 2, 2**31 - 2])
def test_a_state_of_other_groups_is_refused(groups: int) -> None:
    with pytest.raises(ValueError, match=r"times\.groups: 3 were saved"):
        load_kernel(dedup.DedupState(10), state_of_three_groups(), "times", groups=groups)
