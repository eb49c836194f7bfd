"""Rows added up apart: wherever they are cut, a state that absorbs the pieces is the one that took the rows themselves, bit by bit."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.accumulators.table import laid_out
from asyncflow._kernels.window import compiled
from asyncflow._kernels.window import reference as twin
from tests.kernels.test_window_saved import content, frozen
from tests.kernels.window_rows import aggregate, anywhen, batch_of, shapes, shown

NO_TIME = -(2**63)
GROUPS = 200
KERNELS = (compiled, twin)


def apart(one) -> bool:
    return all(accumulator.apart for accumulator in laid_out([one])[0])


def piece_of(batch, start, stop):
    """Rows of a batch, with the watermark before the first of them."""
    before, time = batch["watermark_before"], batch["time"]
    if time is not None and start:
        before = max(before, int(time[:start].max()) - batch["delay_ns"])
    rows = slice(start, stop)
    arrays = {
        name: batch[name] if batch[name] is None else batch[name][rows] for name in ("time", "watermarks")
    }

    def cut(raw):
        fixed = 1 if len(raw) == 4 else 0  # the bytes of texts
        return (*raw[:fixed], *(each if each is None else each[rows] for each in raw[fixed:]))

    inputs = [cut(raw) for raw in batch["inputs"]]
    masks = [mask[rows] for mask in batch["masks"]]
    groups = batch["groups"][rows]
    return {**batch, **arrays, "groups": groups, "watermark_before": max(before, NO_TIME), "inputs": inputs, "masks": masks}  # fmt: skip


def folded(kernel, shape, aggregates, piece, rng):
    """A small state of the piece's rows, and what its groups are called; None where a row is late by the rows before it in the piece."""
    names = np.unique(piece["groups"])
    rng.shuffle(names)
    state = kernel.WindowState(*shape, aggregates)
    numbers = np.full(GROUPS, -1, np.int32)
    numbers[names] = np.arange(len(names))
    own = {"groups": numbers[piece["groups"]], "group_count": len(names), "watermark_before": NO_TIME}
    late, partly = state.add(**{**piece, **own})
    return None if len(late) or partly else (state, names.astype(np.int32))


def absorbed(state, small, names, piece, arrivals, rng):
    """Takes the small state, in parts by group where it comes to that; whether it was taken."""
    before = NO_TIME if piece["watermarks"] is not None else piece["watermark_before"]
    halves = np.array([rng.random() < 0.5 for _ in names], np.bool_)
    for taken in [halves, ~halves] if rng.random() < 0.3 else [np.ones(len(names), np.bool_)]:
        state.number(arrivals, np.zeros(0, np.int32))
        own = np.where(taken, names, -1).astype(np.int32)
        rows = state.absorb(small, own, GROUPS, before)
        if rows is None:
            return False
        assert rows == np.isin(piece["groups"], names[taken]).sum()
    return True


def same_rows(states, watermark, order, aggregates, max_rows):
    while True:
        shows = [shown(aggregates, state.close(watermark, order, max_rows)) for state in states]
        assert shows[1:] == shows[:1] * (len(states) - 1)
        if shows[0] is None:
            return


def standing(state):
    return state.open_windows, state.next_end, state.held_rows, state.windows_closed, state.cell_count


def drive(shape, aggregates, rng, batch_from):
    """Batches into a state of each kernel, in pieces, and whole into a third; gives how many pieces were absorbed and how many were not."""
    whole = compiled.WindowState(*shape, aggregates)
    states = [kernel.WindowState(*shape, aggregates) for kernel in KERNELS]
    arrivals, counts = 0, [0, 0]
    for _ in range(rng.randint(1, 5)):
        batch = batch_from(rng)
        rows = len(batch["groups"])
        late, partly = (list(each) if np.ndim(each) else each for each in whole.add(**batch))
        cuts = sorted({0, rows, *(rng.randint(0, rows) for _ in range(rng.randint(0, 3)))})
        for start, stop in pairwise(cuts):
            piece = piece_of(batch, start, stop)
            tell = []
            for kernel, state in zip(KERNELS, states, strict=True):
                small = folded(kernel, shape, aggregates, piece, random.Random(start))
                seed = random.Random(rng.random() if kernel is compiled else 0)
                taken = small is not None and absorbed(state, *small, piece, arrivals, seed)
                tell.append(taken)
                if not taken:
                    state.number(arrivals, np.arange(stop - start, dtype=np.int32))
                    own_late, own_partly = state.add(**piece)
                    assert [start + row for row in own_late] == [row for row in late if start <= row < stop]
                    partly -= own_partly if kernel is compiled else 0
                else:
                    assert not any(start <= row < stop for row in late)
            assert tell[0] == tell[1]
            counts[not tell[0]] += 1
            arrivals += stop - start
        assert partly == 0
        everything = [whole, *states]
        watermark = anywhen(rng)
        rank = np.array(rng.sample(range(GROUPS), GROUPS), np.int32)
        for _ in range(2):
            assert len({standing(each) for each in everything}) == 1
            if rows:
                saves = [content(frozen(each, rank)) for each in everything]
                assert saves[1] == saves[0]
                assert saves[2] == saves[0]
            assert len({each.ready(watermark) for each in everything}) == 1
            same_rows(everything, watermark, rank, aggregates, rng.choice([1, 3, 1000]))
    same_rows(everything, 2**63 - 1, rank, aggregates, 1000)
    return counts


@given(shapes(), st.lists(aggregate().filter(apart), max_size=6), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_absorbed_pieces_are_the_rows(shape, aggregates, seed):
    drive(shape, aggregates, random.Random(seed), lambda rng: batch_of(rng, shape[0] is not None))


def in_time(rng, sized):
    """Rows of which none is late but by what was given out."""
    batch = batch_of(rng, sized)
    return {**batch, "watermarks": None, "watermark_before": NO_TIME, "delay_ns": 2**62}


@given(shapes(), st.lists(aggregate().filter(apart), max_size=6), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_absorbed_pieces_of_rows_in_time_are_the_rows(shape, aggregates, seed):
    drive(shape, aggregates, random.Random(seed), lambda rng: in_time(rng, shape[0] is not None))


def test_pieces_are_absorbed_and_refused():
    """The laws above take both ways."""
    aggregates = [("sum", (1,), ("float64",), None), ("first", (3,), ("string",), 0)]
    counts = np.zeros(2, np.int64)
    for seed in range(40):
        counts += drive((10, 4, 3), aggregates, random.Random(seed), lambda rng: batch_of(rng, True))
        counts += drive((10, 4, 3), aggregates, random.Random(seed), lambda rng: in_time(rng, True))
    assert counts.min() > 50, counts


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_cannot_be_absorbed_is_refused(kernel):
    count = [("count", (), (), None)]
    names = np.zeros(1, np.int32)

    def state(aggregates=count, size=10):
        return kernel.WindowState(size, size, 0, aggregates)

    one = state()
    for other in (one, state(size=20), state([("sum", (0,), ("int64",), None)])):
        with pytest.raises(ValueError, match="another shape"):
            one.absorb(other, names, 1, NO_TIME)
    for function in (("quantile", (0,), ("int64",), None, 0.5), ("count_distinct", (0,), ("int64",), None)):
        with pytest.raises(ValueError, match="added up apart"):
            state([function]).absorb(state([function]), names, 1, NO_TIME)
    small = state()
    small.add(names, 1, np.array([5]), None, NO_TIME, 0, [], [])
    assert one.absorb(small, names, 1, 10) is None
    assert one.open_windows == 0
    assert one.absorb(small, names, 1, 9) == 1
    assert one.absorb(small, names - 1, 1, 9) == 0
    assert one.open_windows == 1
    if kernel is compiled:
        with pytest.raises(IndexError, match="a group"):
            one.absorb(small, np.array([1], np.int32), 1, NO_TIME)
        with pytest.raises(ValueError, match="fewer groups"):
            one.absorb(small, names[:0], 1, NO_TIME)
    assert small.close(10, names, 1) is not None
    with pytest.raises(ValueError, match="gives windows out"):
        one.absorb(small, names, 1, NO_TIME)
