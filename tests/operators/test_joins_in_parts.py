"""The law of parts for joins: whatever their number, an interval join gives the same rows in the same order, by every way, and its state
is taken by any other number of parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import saved
from tests.operators.state_cases import BY_NUMBER, KINDS, RIGHT, join_steps, make_join, outputs_of
from tests.operators.test_parted import rows_of

KEYS = {"text": (("k",), RIGHT), "number": (("n",), BY_NUMBER), "several": (("k", "b"), RIGHT)}
BOUNDS = ((-6, 4), (2, 9))


def told(operator: Any) -> Any:
    """What an operator says of itself."""
    return (
        dict(operator.counts),
        operator.next_due_ns,
        operator.waiting_rows,
        operator.watermark,
    )


def made(kind: str, keys: tuple[tuple[str, ...], Schema], bounds: tuple[int, int], parts: int) -> Any:
    return make_join(kind, *keys, parts=parts, within_ns=bounds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_parts_do_not_show(kind: str, key: str, bounds: tuple[int, int]) -> None:
    for seed in range(4):
        steps = join_steps(KEYS[key][1], np.random.default_rng(seed))
        plain = made(kind, KEYS[key], bounds, 1)
        wanted, states = [], []
        for step in steps:
            wanted.append((rows_of(outputs_of(plain, step)), told(plain)))
            states.append(saved(plain.freeze()))
        for before, after in ((2, 1), (16, 2), (1, 64)):
            operator = made(kind, KEYS[key], bounds, before)
            for place, step in enumerate(steps):
                assert rows_of(outputs_of(operator, step)) == wanted[place][0]
                assert told(operator) == wanted[place][1]
                if place % 4 == seed:
                    state = saved(operator.freeze())
                    assert state.fields == states[place].fields
                    assert {name: part.tobytes() for name, part in state.parts.items()} == {
                        name: part.tobytes() for name, part in states[place].parts.items()
                    }
                    continued = made(kind, KEYS[key], bounds, after)
                    continued.restore(state)
                    assert told(continued) == wanted[place][1]
                    for later in range(place + 1, len(steps)):
                        assert rows_of(outputs_of(continued, steps[later])) == wanted[later][0]
                        assert told(continued) == wanted[later][1]
