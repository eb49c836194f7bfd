"""Snapshots of the group table: kernel and twin save the same bytes, load each other's, and go on as if nothing had been."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups import compiled
from asyncflow._kernels.groups import reference as twin
from tests.kernels.saved_states import frozen, refuse_or_keep, shown

TEXTS = [
    b"",
    b"\0",
    b"a",
    "é".encode(),
    b"prefix-of-some-length-" * 2,
    b"z" * 33,
    b"b" * 64,
    b"b" * 65,
    b"c" * 300,
]
FLOATS = [0.0, -0.0, 1.5, -1.5, float("inf"), -float("inf"), float("nan"), -float("nan"), 5e-324]
INTS = [-(2**63), -3, -1, 0, 1, 2**63 - 1]
VALUES = {"string": TEXTS, "int64": INTS, "timestamp": INTS, "float64": FLOATS, "bool": [False, True]}


def batch(rng, kinds):
    count = rng.choice([0, 1, 5, 40])
    columns = [
        [None if rng.random() < 0.1 else rng.choice(VALUES[kind]) for _ in range(count)] for kind in kinds
    ]
    return [twin.column_of(kind, column) for kind, column in zip(kinds, columns, strict=True)], count


def use(table, seed, kinds):
    """What a table says of more rows, by places: ids may differ."""
    rng = random.Random(seed)
    columns, count = batch(rng, kinds)
    ids = table.assign(columns, count)
    return table.ranks()[ids].tolist(), shown(frozen(table))


@given(st.lists(st.sampled_from(sorted(VALUES)), max_size=3), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_each_loads_what_the_other_saved(kinds, seed):
    rng = random.Random(seed)
    whole = {make: make(kinds) for make in (compiled.GroupTable, twin.GroupTable)}
    for _ in range(rng.randint(0, 4)):
        columns, count = batch(rng, kinds)
        for table in whole.values():
            table.assign(columns, count)
        if rng.random() < 0.3:
            size = whole[twin.GroupTable].size
            places = rng.sample(range(size), rng.randint(0, size))
            for table in whole.values():
                table.keep(np.sort(table.order()[places]))
        snapshots = {make: frozen(table, budget=rng.choice([1, 100, 10**9])) for make, table in whole.items()}
        assert shown(snapshots[compiled.GroupTable]) == shown(snapshots[twin.GroupTable])
        for saver, snapshot in snapshots.items():
            for make in whole:
                loaded = make(kinds)
                loaded.load(*snapshot)
                assert loaded.order().tolist() == list(range(loaded.size)) == loaded.ranks().tolist()
                assert shown(frozen(loaded)) == shown(snapshot)
                if rng.random() < 0.5:
                    whole[saver] = loaded  # the run goes on from here, its groups numbered anew
        again = rng.randrange(2**32)
        assert use(whole[compiled.GroupTable], again, kinds) == use(whole[twin.GroupTable], again, kinds)


KINDS = [(), ("string",), ("float64",), ("bool", "int64"), ("string", "float64", "string")]


def refused(rng, kinds):
    """A damaged snapshot is refused, or both go on from it alike."""
    table = twin.GroupTable(kinds)
    table.assign(*batch(rng, kinds))
    refuse_or_keep(
        rng,
        frozen(table),
        (lambda: compiled.GroupTable(kinds), lambda: twin.GroupTable(kinds)),
        lambda table, seed: use(table, seed, kinds),
    )


@pytest.mark.parametrize("kinds", KINDS)
def test_what_does_not_fit_is_refused(kinds):
    for seed in range(400):
        refused(random.Random(seed), kinds)


def test_equal_tables_have_equal_snapshots_however_they_came_about():
    rng = random.Random(3)
    texts = [b"key-%d" % i for i in range(3000)] + [None, b"z" * 50]
    snapshots = []
    for _ in range(3):
        rng.shuffle(texts)
        table = compiled.GroupTable(["string", "int64"])
        table.assign(
            [twin.column_of("string", texts), twin.column_of("int64", [len(text or b"") for text in texts])],
            len(texts),
        )
        snapshots.append(shown(frozen(table)))
    assert snapshots[0] == snapshots[1] == snapshots[2]


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_a_snapshot_says_what_it_has(kernel):
    table = kernel.GroupTable(["string", "float64"])
    texts, numbers = [b"b", None, b"a", b"b"], [1.0, -0.0, float("nan"), None]
    table.assign([twin.column_of("string", texts), twin.column_of("float64", numbers)], 4)
    fields, parts = frozen(table)
    assert fields == {"kinds": ["string", "float64"], "size": 4, "nulls": [True, True]}
    assert bytes(parts["0.text"]) == b"ab" and parts["0.lengths"].tolist() == [1, 1]
    assert parts["0.places"].tolist() == [0, 1, 1, 2]
    assert str(parts["1.values"].tolist()) == "[0.0, 1.0, nan]"
    assert parts["1.places"].tolist() == [2, 1, 3, 0]
    assert table.ranks().tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_a_table_in_use_takes_no_snapshot(kernel):
    table = kernel.GroupTable(["int64"])
    table.assign([twin.column_of("int64", [1])], 1)
    with pytest.raises(ValueError, match="holds keys"):
        table.load(*frozen(table))


@pytest.mark.parametrize("kernel", [compiled, twin], ids=["compiled", "twin"])
def test_a_snapshot_stays_as_it_was_and_is_forgotten_when_dropped(kernel):
    table = kernel.GroupTable(["int64"])
    table.assign([twin.column_of("int64", [1])], 1)
    table.freeze()
    table.assign([twin.column_of("int64", [2])], 1)
    assert [(name, array.tolist()) for name, array in table.pieces(1)] == [("0.values", [1])]
    table.freeze()
    table.drop()
    assert table.pieces(1) is None
