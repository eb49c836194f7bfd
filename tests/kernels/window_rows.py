"""Window states of any shape and aggregates, rows for them, and their results as values that can be compared bit by bit."""

import math
import struct

import numpy as np
from hypothesis import strategies as st

from asyncflow._kernels.accumulators.table import result_kind
from asyncflow._kernels.groups import reference as raw

ODD_FLOATS = [0.0, -0.0, 1.0, 0.1, 1e16, -1e16, 1e308, math.inf, -math.inf, math.nan, 5e-324]
VALUES = {
    "int64": lambda rng: rng.choice([rng.randint(-5, 5), rng.randint(-(2**63), 2**63 - 1), 2**63 - 1]),
    "timestamp": lambda rng: rng.choice([rng.randint(0, 3), rng.randint(-(2**63), 2**63 - 1)]),
    "float64": lambda rng: rng.choice([rng.choice(ODD_FLOATS), rng.uniform(-9, 9), rng.gauss(0, 1e10)]),
    "bool": lambda rng: rng.random() < 0.5,
    "string": lambda rng: rng.choice([b"", b"a\0", b"x" * 40, b"x" * 41, b"%d" % rng.randint(0, 30)]),
}
KINDS = ["int64", "float64", "float64", "string", "bool", "timestamp"]  # of the inputs by position
TAKES = {
    "count": KINDS, "count_distinct": KINDS, "min": KINDS, "max": KINDS, "first": KINDS, "last": KINDS,
    "any_value": KINDS, "sum": ["int64", "float64"], "mean": ["int64", "float64"], "var": ["int64", "float64"],
    "stddev": ["int64", "float64"], "var_pop": ["int64", "float64"], "stddev_pop": ["int64", "float64"],
    "bool_and": ["bool"], "bool_or": ["bool"], "approx_count_distinct": KINDS, "quantile": ["int64", "float64"], "approx_top_k": KINDS,
    "quantile_disc": ["int64", "float64", "timestamp"], "approx_quantile": ["int64", "float64"],
}  # fmt: skip
SHARES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0))
CONSTANTS = {
    **dict.fromkeys(("quantile", "quantile_disc", "approx_quantile"), SHARES),
    "approx_top_k": st.integers(1, 12),
}


@st.composite
def aggregate(draw):
    function = draw(st.sampled_from([*TAKES, "count(*)", "covar", "corr", "arg_min", "arg_max"]))
    mask = draw(st.sampled_from([None, None, 0, 1]))
    if function == "count(*)":
        return "count", (), (), mask
    if function in ("covar", "corr"):
        inputs = tuple(draw(st.sampled_from([0, 1, 2])) for _ in range(2))
    elif function in ("arg_min", "arg_max"):
        inputs = tuple(draw(st.integers(0, len(KINDS) - 1)) for _ in range(2))
    else:
        inputs = (draw(st.sampled_from([i for i, kind in enumerate(KINDS) if kind in TAKES[function]])),)
    constants = (draw(CONSTANTS[function]),) if function in CONSTANTS else ()
    return function, inputs, tuple(KINDS[i] for i in inputs), mask, *constants


@st.composite
def shapes(draw):
    if draw(st.integers(0, 5)) == 0:
        return None, 1, 0
    size = draw(st.one_of(st.integers(1, 30), st.sampled_from([10**9, 2**62, 2**63 - 1])))
    every = draw(st.one_of(st.just(size), st.integers(max(1, size // 7), size)))
    return size, every, draw(st.integers(-50, 50))


def batch_of(rng, sized):
    """Some rows: mostly near each other in time, some anywhere."""
    rows = rng.choice([0, 1, 5, 64, 65, 150])
    base, spread = rng.randint(-100, 100), rng.choice([1, 30, 200])

    def moment():
        near = base + rng.randint(-spread, spread)
        return near if rng.random() < 0.9 else anywhen(rng)

    timed = sized or rng.random() < 0.5
    explicit = timed and rng.random() < 0.5
    columns = []
    for kind in KINDS:
        nulls = rng.choice([0.0, 0.0, 0.2, 1.0])
        columns.append(
            raw.column_of(kind, [None if rng.random() < nulls else VALUES[kind](rng) for _ in range(rows)])
        )
    groups = rng.choice([[0], [0, 1, 2], [0, 63, 64, 199]])
    return {
        "groups": np.array([rng.choice(groups) for _ in range(rows)], np.int32),
        "group_count": 200,
        "time": np.array([moment() for _ in range(rows)], np.int64) if timed else None,
        "watermarks": np.array([max(moment() - 20, -(2**63)) for _ in range(rows)], np.int64)
        if explicit
        else None,
        "watermark_before": rng.choice([-(2**63), base, anywhen(rng)]),
        "delay_ns": rng.choice([0, 5, 100, 10**12]),
        "inputs": columns,
        "masks": [np.array([rng.random() < p for _ in range(rows)], np.bool_) for p in (0.5, 0.9)],
    }


def anywhen(rng):
    return rng.choice(
        [rng.randint(-40, 40), rng.randint(-(10**12), 10**12), -(2**63), -(2**63) + 1, 2**63 - 2, 2**63 - 1]
    )


def bits(kind, column):
    """Values that are equal only where every bit is (all NaN are one)."""
    return [
        ("nan" if math.isnan(v) else struct.pack("<d", v)) if isinstance(v, float) else v
        for v in raw.values_of(kind, column)
    ]


def shown(aggregates, closed):
    if closed is None:
        return None
    starts, ends, groups, results, overflows = closed
    kinds = [result_kind(function, types) for function, _, types, *_ in aggregates]
    columns = [bits(kind, column) for kind, column in zip(kinds, results, strict=True)]
    return starts.tolist(), ends.tolist(), groups.tolist(), columns, overflows
