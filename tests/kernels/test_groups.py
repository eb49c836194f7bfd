"""The group table against its twin: same ids, same order, same keys back, however the rows are cut."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow._kernels.groups import compiled
from asyncflow._kernels.groups import reference as twin

TEXTS = st.one_of(
    st.binary(max_size=6),
    st.binary(min_size=0, max_size=3).map(lambda b: b"prefix-of-some-length-" + b),
    st.sampled_from(
        [b"", b"\0", b"\0\0", b"a" * 16, b"a" * 31, b"a" * 32, b"a" * 33, b"b" * 64, b"b" * 65, b"c" * 300]
    ),
    st.integers(0, 40).map(lambda n: b"x" * n + b"y" * (40 - n)),
)
VALUES = {
    "string": TEXTS,
    "int64": st.one_of(st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1])),
    "timestamp": st.integers(-(2**63), 2**63 - 1),
    "float64": st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, float("nan"), -float("nan")])),
    "bool": st.booleans(),
}


@st.composite
def key_rows(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=0, max_size=3))
    row = st.tuples(*(st.one_of(st.none(), VALUES[kind]) for kind in kinds))
    return kinds, draw(st.lists(row, max_size=150)), draw(st.integers(1, 70))


def columns_of(kinds, rows):
    return [twin.column_of(kind, [row[j] for row in rows]) for j, kind in enumerate(kinds)]


def shown(kinds, columns):
    return [
        [twin.canonical(value) for value in twin.values_of(kind, column)]
        for kind, column in zip(kinds, columns, strict=True)
    ]


@given(key_rows(), st.data())
@settings(max_examples=150, deadline=None)
def test_twin_law(case, data):
    kinds, rows, cut = case
    fast, plain = compiled.GroupTable(kinds), twin.GroupTable(kinds)
    for begin in range(0, len(rows), cut):
        part = columns_of(kinds, rows[begin : begin + cut])
        count = len(rows[begin : begin + cut])
        ids = fast.assign(part, count)
        assert ids.dtype == np.int32
        assert ids.tolist() == plain.assign(part, count).tolist()
        assert fast.size == plain.size
        if data.draw(st.booleans()):
            assert fast.order().tolist() == plain.order().tolist()
        if data.draw(st.integers(0, 3)) == 0:
            keep = np.array(
                sorted(
                    data.draw(st.sets(st.sampled_from(range(plain.size))) if plain.size else st.just(set()))
                ),
                np.int32,
            )
            fast.keep(keep)
            plain.keep(keep)
            assert fast.size == plain.size
    everything = np.arange(plain.size, dtype=np.int32)
    assert fast.order().tolist() == plain.order().tolist()
    assert shown(kinds, fast.columns(everything)) == shown(kinds, plain.columns(everything))
    assert shown(kinds, fast.columns(everything[::-1])) == shown(
        kinds, plain.columns(everything[::-1].copy())
    )


def test_ids_are_dense_in_order_of_first_appearance():
    table = compiled.GroupTable(["string"])
    column = twin.column_of("string", [b"b", b"a", None, b"b", b"c" * 100, None, b""])
    assert table.assign([column], 7).tolist() == [0, 1, 2, 0, 3, 2, 4]
    assert table.order().tolist() == [4, 1, 0, 3, 2]


def test_many_keys_grow_widen_and_stay_apart():
    texts = [f"key-{i}".encode() for i in range(20_000)] + [f"{i:036d}".encode() for i in range(20_000)]
    texts += [b"z" * 60 + str(i).encode() for i in range(2_000)]
    table = compiled.GroupTable(["string"])
    ids = table.assign([twin.column_of("string", texts)], len(texts))
    assert ids.tolist() == list(range(len(texts)))
    shuffled = np.random.default_rng(5).permutation(len(texts))
    again = table.assign([twin.column_of("string", [texts[i] for i in shuffled])], len(texts))
    assert (again == shuffled).all()
    assert [texts[i] for i in table.order()] == sorted(texts)


def test_order_is_right_when_keys_come_in_between():
    rng = np.random.default_rng(3)
    table, texts = compiled.GroupTable(["string"]), []
    for _ in range(20):
        more = [bytes(rng.integers(97, 100, rng.integers(0, 14)).astype(np.uint8)) for _ in range(200)]
        ids = table.assign([twin.column_of("string", more)], len(more)).tolist()
        for text, group in zip(more, ids, strict=True):
            assert group <= len(texts)
            if group == len(texts):
                texts.append(text)
        assert [texts[i] for i in table.order()] == sorted(texts)


def test_views_at_the_very_edges_of_their_buffer():
    text = b"abcdefghijklmnopqrstuvwxyz"
    data = np.frombuffer(text, np.uint8)
    views = [(s, n) for s in range(len(text) + 1) for n in range(len(text) - s + 1)]
    starts = np.array([s for s, _ in views], np.int32)
    lengths = np.array([n for _, n in views], np.int32)
    fast, plain = compiled.GroupTable(["string"]), twin.GroupTable(["string"])
    raw = (data, starts, lengths, None)
    assert fast.assign([raw], len(views)).tolist() == plain.assign([raw], len(views)).tolist()


def test_nothing_at_all():
    table = compiled.GroupTable([])
    assert table.assign([], 3).tolist() == [0, 0, 0]
    assert (table.size, table.order().tolist(), table.columns(np.zeros(1, np.int32))) == (1, [0], [])
    empty = compiled.GroupTable(["string", "int64"])
    assert empty.assign(columns_of(["string", "int64"], []), 0).tolist() == []
    assert empty.order().tolist() == []


@pytest.mark.parametrize("wrong", [(np.zeros(3), None), (np.zeros(2, np.int64), np.ones(3, np.bool_))])
def test_a_column_that_does_not_fit_is_an_error(wrong):
    with pytest.raises((TypeError, ValueError)):
        compiled.GroupTable(["int64"]).assign([wrong], 2)


@pytest.mark.parametrize("level", ["portable", "v2", "v3", "v4"])
def test_every_instruction_set_level_gives_the_same_ids(level):
    script = """
import numpy as np
from asyncflow._kernels.groups import compiled as groups
from asyncflow._kernels.groups.reference import column_of
rng = np.random.default_rng(1)
texts = [bytes(rng.integers(97, 99, n).astype(np.uint8)) for n in rng.integers(0, 70, 3000)]
table = groups.GroupTable(["string"])
known = {}
assert table.assign([column_of("string", texts)], len(texts)).tolist() == [known.setdefault(t, len(known)) for t in texts]
assert [list(known)[i] for i in table.order()] == sorted(known)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "ASYNCFLOW_CPU": level},
        capture_output=True,
        text=True,
    )
    if "that this machine does not have" in ran.stderr:
        pytest.skip(f"no {level} here")
    assert ran.returncode == 0, ran.stderr


def test_a_table_of_many_keys_keeps_them_where_it_grows():
    """Its arrays become large ones, which grow by pages, and small ones again."""
    count, width = 600_000, 10
    data = np.frombuffer(b"".join(b"%010d" % number for number in range(count)), np.uint8)
    table = compiled.GroupTable(["string"])

    def column(rows):
        return [(data, (rows * width).astype(np.int32), np.full(len(rows), width, np.int32), None)]

    for begin in range(0, count, 50_000):
        rows = np.arange(begin, begin + 50_000)
        assert np.array_equal(table.assign(column(rows), len(rows)), rows)
    table.keep(np.arange(0, count, 3, dtype=np.int32))
    table.keep(np.arange(0, table.size, 1000, dtype=np.int32))
    texts, starts, lengths, _ = table.columns(np.arange(table.size, dtype=np.int32))[0]
    assert np.array_equal(texts, data.reshape(-1, width)[::3000].reshape(-1))
    assert np.array_equal(lengths, np.full(len(starts), width))
    everywhere = np.arange(count - 1, -1, -1)
    ids = table.assign(column(everywhere), count)
    assert np.array_equal(np.sort(ids), np.arange(count))
