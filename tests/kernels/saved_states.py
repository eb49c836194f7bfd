"""Snapshots of kernels, for the tests: taken whole, compared byte for byte, and damaged in every way that a load must see."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

Snapshot = tuple[dict[str, Any], dict[str, Any]]
"""Fields and parts."""
ODD = (
    -1,
    0,
    1,
    2,
    2**31 - 1,
    2**31,
    2**63 - 1,
    -(2**63),
    2**70,
    1.5,
    True,
    False,
    None,
    "x",
    [],
    [True],
    {},
    b"",
)


def frozen(state: Any, *rank: Any, budget: int = 100) -> Snapshot:
    """All of a kernel's snapshot, taken in pieces."""
    fields, pieces, last = state.freeze(*rank), dict[str, list[Any]](), ""
    while (given := state.pieces(budget)) is not None:
        assert given
        for name, array in given:
            assert name not in pieces or name == last, "pieces of a part come one after the other"
            pieces.setdefault(name, []).append(array)
            last = name
    assert state.pieces(budget) is None
    return fields, {name: np.concatenate(arrays) for name, arrays in pieces.items()}


def shown(snapshot: Snapshot) -> Any:
    """What is equal where two snapshots are the same to the byte."""
    fields, parts = snapshot
    return fields, {
        name: (array.dtype.str, array.shape, array.tobytes()) for name, array in sorted(parts.items())
    }


def damaged(rng: random.Random, snapshot: Snapshot) -> Snapshot:
    """The snapshot with one thing wrong, or by chance nothing."""
    fields, parts = dict(snapshot[0]), dict(snapshot[1])
    if not parts or rng.random() < 0.2:
        _damage_fields(rng, fields)
        return fields, parts
    name = rng.choice(sorted(parts))
    made = rng.choice(DAMAGES)(rng, parts[name].copy())
    if made is None:
        del parts[name]
    else:
        parts[name] = made
    if rng.random() < 0.1:
        parts[rng.choice(["x", "", "0.values", "0.places"])] = parts.pop(name, np.zeros(1, np.int32))
    return fields, parts


def _damage_fields(rng: random.Random, fields: dict[str, Any]) -> None:
    name = rng.choice(sorted(fields))
    how = rng.randrange(4)
    if how == 0:
        del fields[name]
    elif how == 1 and type(fields[name]) is int:
        fields[name] += rng.choice([-1, 1, 2**32])
    elif how == 2 and type(fields[name]) is list and fields[name]:
        fields[name] = list(fields[name])
        fields[name][rng.randrange(len(fields[name]))] = rng.choice(ODD)
    else:
        fields[name] = rng.choice(ODD)


def _flipped(rng: random.Random, array: Any) -> Any:
    if array.nbytes:
        array.view(np.uint8)[rng.randrange(array.nbytes)] ^= 1 << rng.randrange(8)
    return array


def _other_value(rng: random.Random, array: Any) -> Any:
    if len(array):
        at = rng.randrange(len(array))
        if array.dtype.kind == "i":
            info = np.iinfo(array.dtype)
            near = int(array[at])
            value = rng.choice([info.min, info.max, -1, 0, 1, near + 1, near - 1, len(array)])
            array[at] = min(max(value, info.min), info.max)
        elif array.dtype.kind == "f":
            array[at] = rng.choice([-0.0, np.nan, -np.nan, np.inf, 1.0])
    return array


def _two_swapped(rng: random.Random, array: Any) -> Any:
    if len(array):
        i, j = rng.randrange(len(array)), rng.randrange(len(array))
        array[[i, j]] = array[[j, i]]
    return array


def _one_twice(rng: random.Random, array: Any) -> Any:
    return np.insert(array, rng.randrange(len(array)), array[0]) if len(array) else array


OTHER_TYPES = ("i1", "i2", "i4", "i8", "u8", "f4", "f8", "?", "O", ">i4", ">i8", "S8", "M8[ns]")


def _of_another_type(rng: random.Random, array: Any) -> Any:
    return np.zeros(len(array), rng.choice(OTHER_TYPES)) if rng.random() < 0.5 else array.astype(object)


DAMAGES: tuple[Callable[[random.Random, Any], Any], ...] = (
    _flipped,
    _flipped,
    _other_value,
    _other_value,
    _two_swapped,
    _one_twice,
    _of_another_type,
    lambda rng, array: None,
    lambda rng, array: array[: rng.randrange(len(array) + 1)],
    lambda rng, array: array[::-1],
    lambda rng, array: array[::2],
    lambda rng, array: np.append(array, array[:1]),
    lambda rng, array: array.reshape(1, -1),
    lambda rng, array: array.tolist(),
)


def refuse_or_keep(
    rng: random.Random,
    snapshot: Snapshot,
    makers: tuple[Callable[[], Any], ...],
    use: Callable[[Any, int], Any],
    *rank: Any,
) -> None:
    """A damaged snapshot is refused by kernel and twin alike, with ValueError, leaving the state empty and of use; or both take it, are
    frozen to the same bytes again, and go on alike."""
    hurt = damaged(rng, snapshot)
    seed, taken, after = rng.randrange(2**32), [], []
    for make in makers:
        state = make()
        try:
            state.load(*hurt)
        except ValueError as error:
            assert str(error)
            taken.append(False)
        else:
            again = frozen(state, *rank)
            again[0].update(
                {"groups": hurt[0]["groups"]} if "groups" in hurt[0] else {}
            )  # so many as are ranked
            assert shown(again) == shown(hurt)
            taken.append(True)
        after.append(use(state, seed))
    assert len(set(taken)) == 1, taken
    assert all(each == after[0] for each in after)
