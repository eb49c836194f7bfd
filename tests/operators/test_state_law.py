"""The law of saved states: an operator that is frozen and restored after every call returns what one that runs through returns.

Also: the state of a restored operator is that of the one it stands for, byte for byte; freezing changes nothing in the operator that is
frozen, and what it does next does not change the frozen state; a state that does not fit is refused with the name of what does not.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import numpy as np
import pytest

import asyncflow
from asyncflow.model import columns, saved_batches
from asyncflow.model.batch import Batch
from asyncflow.model.columns import StringColumn
from asyncflow.model.schema import DataType
from asyncflow.model.snapshot import Frozen, Saved, saved
from asyncflow.operators.contract import Operator, TwoInputOperator
from asyncflow.operators.joins import places
from asyncflow.operators.joins.places import PlacedColumns
from tests.operators.state_cases import CASES, Case, outputs_of, standing

by_name = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def taken_down(frozen: Frozen) -> tuple[Any, Saved]:
    """A state by its bytes, and as it is restored; the arrays of the latter cannot be written to, as those of a file."""
    state = saved(frozen)
    for data in state.parts.values():
        data.flags.writeable = False
    parts = {name: (data.dtype.descr, data.tobytes()) for name, data in sorted(state.parts.items())}
    return (state.fields, parts), state


@by_name
@pytest.mark.parametrize("seed", range(4))
def test_frozen_and_restored_after_every_call(case: Case, seed: int) -> None:
    through, frozen, chained = case.make(), case.make(), case.make()
    pending: Frozen | None = None
    before: Any = None
    for step in case.steps(np.random.default_rng(seed)):
        expected = outputs_of(through, step)
        assert outputs_of(frozen, step) == expected
        assert standing(frozen) == standing(through)
        if pending is not None:
            assert taken_down(pending)[0] == before
        pending = frozen.freeze()
        assert outputs_of(chained, step) == expected
        before, state = taken_down(chained.freeze())
        chained = case.make()
        chained.restore(state)
        assert standing(chained) == standing(through)
        assert taken_down(chained.freeze())[0] == before
    assert pending is not None
    assert taken_down(pending)[0] == before
    assert taken_down(through.freeze())[0] == before


@by_name
def test_a_state_that_lacks_something_is_refused(case: Case) -> None:
    """Every field and every part is needed, and has one type: ValueError names it where it is missing or another."""
    steps = case.steps(np.random.default_rng(7))
    operator = case.make()
    for step in steps[: 2 * len(steps) // 3]:
        outputs_of(operator, step)
    _, state = taken_down(operator.freeze())
    for path in _fields(state.fields):
        for change in (
            ("other",) if path[0] == "counts" and path[1] not in case.make().counts else ("other", "missing")
        ):
            with pytest.raises(ValueError, match=path[-1]):
                case.make().restore(Saved(_changed(state.fields, path, change), state.parts))
    for name, data in state.parts.items():
        if data.nbytes < 2:  # nothing, or an empty list: a part without rows may be missing
            continue
        others = {part: array for part, array in state.parts.items() if part != name}
        if not name.endswith(".valid"):  # missing: no row is null
            with pytest.raises(
                ValueError, match=r"^\w+\S*: "
            ):  # what does not fit may be told by a part that goes with it
                case.make().restore(Saved(state.fields, others))
        with pytest.raises(ValueError, match=name.split(".")[-1].rstrip("s")):
            case.make().restore(Saved(state.fields, {**others, name: np.zeros(len(data), "S3")}))


def _fields(fields: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """All fields, those within others too; of lists the whole."""
    found: list[tuple[str, ...]] = []
    for name, value in fields.items():
        found += _fields(value, (*path, name)) if isinstance(value, dict) else [(*path, name)]
    return found


def _changed(fields: Any, path: tuple[str, ...], change: str) -> Any:
    name, *rest = path
    if rest:
        return {**fields, name: _changed(fields[name], tuple(rest), change)}
    if change == "missing":
        return {other: value for other, value in fields.items() if other != name}
    return {**fields, name: "no such value"}


def _concrete(root: type) -> set[type]:
    found = set() if inspect.isabstract(root) else {root}
    return found.union(*(_concrete(below) for below in root.__subclasses__()))


def test_every_operator_is_covered() -> None:
    """An operator that is new must be added to the cases."""
    for module in pkgutil.walk_packages(asyncflow.__path__, "asyncflow."):
        if "._kernels." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    wanted = {kind for root in (Operator, TwoInputOperator) for kind in _concrete(root)}
    wanted = {kind for kind in wanted if kind.__module__.startswith("asyncflow.")}
    covered = {type(case.make()) for case in CASES}
    assert wanted - covered == set()
    assert all(isinstance(kind.state_version, int) for kind in wanted)


# A revised window folds several late rows of one slot in rounds: the arrival numbers that its picks keep beside their values hang on
# where batches were cut, though no result does.
CUT_ANYWHERE = [
    case
    for case in CASES
    if not (
        case.name.startswith(("merge", "map", "per message"))
        or ("revised" in case.name and "picks" in case.name)
    )
]


@pytest.mark.parametrize("case", CUT_ANYWHERE, ids=[case.name for case in CUT_ANYWHERE])
def test_equal_states_have_equal_bytes_wherever_batches_were_cut(case: Case) -> None:
    whole, by_row = case.make(), case.make()
    for step in case.steps(np.random.default_rng(11))[:-2]:
        outputs_of(whole, step)
        *before, last = step
        if isinstance(last, Batch):
            for row in range(last.num_rows):
                outputs_of(by_row, (*before, last.slice(row, row + 1)))
        else:
            outputs_of(by_row, step)
        assert taken_down(by_row.freeze())[0] == taken_down(whole.freeze())[0]


def test_columns_of_a_join_with_more_texts_than_a_column_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal texts of many rows, which together are too long for one column, are saved and come back."""
    for module in (columns, saved_batches, places):
        monkeypatch.setattr(module, "MAX_TEXT_BYTES", 64)
    held = PlacedColumns()
    for place in range(5):
        held.put(np.array([place]), [StringColumn.from_values([("a", "b")[place % 2] * 25])], place + 1)
    state = saved(held.frozen(np.arange(5)))
    assert len(state.parts["0.bytes"]) == 125
    again = PlacedColumns()
    again.restore(state, 5, {0: DataType.STRING})
    assert again.take(0, np.array([0, 3])).to_list() == ["a" * 25, "b" * 25]  # type: ignore[union-attr]
    assert taken_down(again.frozen(np.arange(5)))[0] == taken_down(held.frozen(np.arange(5)))[0]
