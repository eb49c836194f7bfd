"""Random inputs and pipelines for the laws, and a way to run one pipeline on bytes held in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

import asyncflow as af
from asyncflow.plan.tables import Component, Plan
from asyncflow.runtime import Ledger, Run
from asyncflow.testing import ListSink

SOURCE = """
name = "law"
[sources.rows]
type = "stdin"
format = "{format}"
schema = {{ ts = "timestamp[ms]", key = "string", value = "float64", qty = "int64" }}
time = "ts"
watermark_delay = "{delay}"
max_record_bytes = 4096
"""

STAGES = {
    "tumbling": """
[stages.w]
type = "window"
window = { tumbling = "10s" }
by = ["key"]
[stages.w.aggregates]
n = "count(*)"
c = "count(value)"
s = "sum(value)"
lo = "min(value)"
hi = "max(value)"
m = "mean(value)"
t = "sum(qty)"
""",
    "hopping": """
[stages.w]
type = "window"
window = { hopping = "10s", every = "4s", offset = "1s" }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(value)", v = "var(value)", f = "first(key)", l = "last(value)", d = "count(DISTINCT qty)" }
""",
    "session": """
[stages.w]
type = "window"
window = { session = "3s" }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(value)", v = "var(value)", f = "first(key)", l = "last(value)", d = "count(DISTINCT key)" }
""",
    "count": """
[stages.w]
type = "window"
window = { count = 3 }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(value)", l = "last(value)", x = "arg_min(key, qty)" }
""",
    "over counts": """
[stages.pairs]
type = "window"
window = { count = 2 }
by = ["key"]
aggregates = { value = "sum(value)" }
[stages.w]
type = "window"
window = { tumbling = "10s" }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(value)", first = "min(window_start)" }
""",
    "all": """
[stages.w]
type = "window"
by = { parity = "qty % 2", big = "value > 10" }
aggregates = { n = "count(*)", s = "sum(value * qty) / sum(qty)", k = "max(key)", x = "arg_max(key, value)" }
""",
    "cumulate": """
[stages.w]
type = "window"
window = { cumulate = "20s", every = "5s", offset = "2s" }
by = ["key"]
aggregates = { n = "count(*)", s = "sum(value)", d = "count(DISTINCT qty)", q = "sum(qty) / count(*)" }
""",
    "revised": """
[stages.w]
type = "window"
window = { hopping = "10s", every = "4s" }
allowed_lateness = "6s"
emit = "updates"
by = ["key"]
aggregates = { n = "count(*)", m = "mean(value)", f = "first(key)", l = "last(value)", d = "count(DISTINCT key)", q = "sum(qty) / 2" }
""",
    "final of revised": """
[stages.early]
type = "window"
window = { tumbling = "5s" }
allowed_lateness = "3s"
emit = { every = "700ms" }
by = ["key"]
aggregates = { n = "count(*)", t = "sum(qty)" }
[stages.done]
type = "filter"
where = "final AND n > 0"
[stages.w]
type = "window"
window = { tumbling = "20s" }
allowed_lateness = "1s"
emit = { every = "4s" }
aggregates = { rows = "sum(n)", t = "max(t)", keys = "count(*)" }
""",
    "filtered": """
[stages.kept]
type = "filter"
where = "qty > 0 AND key <> 'b'"
[stages.more]
type = "derive"
columns = { double = "value * 2", name = "upper(key) || '!'" }
[stages.w]
type = "window"
window = { tumbling = "5s" }
by = ["name"]
aggregates = { n = "count(*)", s = "sum(double) FILTER (WHERE qty > 1)", q = "stddev(qty)" }
""",
    "functions": """
[stages.d]
type = "derive"
[stages.d.columns]
e = "exp(value / 7)"
l = "ln(abs(value)) - log10(value * value)"
p = "power(abs(value), 1.7) + power(value, 3) - power(qty, -2)"
r = "round(value, 2) + round(value, -1)"
c = "CAST(sqrt(abs(value)) AS string) || CAST(value / 3 AS int64)"
h = "hash(value, key)"
[stages.w]
type = "window"
window = { count = 1 }
by = ["key"]
aggregates = { e = "last(e)", l = "last(l)", p = "last(p)", r = "last(r)", c = "last(c)", h = "last(h)" }
""",
    "moments": """
[stages.w]
type = "window"
window = { hopping = "10s", every = "3s" }
by = ["key"]
[stages.w.aggregates]
c = "corr(value, qty)"
o = "covar(value, exp(qty / 9))"
v = "var_pop(ln(value))"
d = "stddev(value) + stddev_pop(power(value, 0.3))"
m = "mean(value)"
""",
    "sketches": """
[stages.w]
type = "window"
window = { hopping = "10s", every = "4s" }
by = ["key"]
[stages.w.aggregates]
d = "approx_count_distinct(value)"
q = "quantile(value, 0.9) - median(qty)"
m = "median(value) FILTER (WHERE qty > 0)"
v = "quantile_disc(qty, 0.3)"
a = "approx_quantile(value, 0.9)"
t = "approx_top_k(qty, 2)"
k = "approx_top_k(key, 3)"
""",
    "no stage": "",
}

SINKS = """
[sinks.out]
type = "null"
format = "{format}"
inputs = ["{table}"]
[sinks.rejected]
type = "null"
format = "json"
inputs = ["rows.rejected"]
{late}
"""
LATE = """
[sinks.late]
type = "null"
format = "json"
inputs = ["w.late"]
"""


def pipeline(stage: str, *, source_format: str = "csv", sink_format: str = "json", delay: str = "2s") -> str:
    """A pipeline file: rows of ``ts, key, value, qty`` through ``STAGES[stage]``, with late and rejected rows in sinks of their own."""
    windowed = bool(STAGES[stage])
    ends = SINKS.format(format=sink_format, table="w" if windowed else "rows", late=LATE if windowed else "")
    return SOURCE.format(format=source_format, delay=delay) + STAGES[stage] + ends


def bind(text: str, pieces: Sequence[bytes] | Any) -> tuple[Plan, dict[str, ListSink]]:
    """The plan of a pipeline file with its source fed from memory and its sinks kept in memory."""
    plan = af.load(text).plan
    sinks = {sink.name: ListSink() for sink in plan.sinks}
    return (
        replace(
            plan,
            sources=tuple(replace(s, connector=Component("python", object=pieces)) for s in plan.sources),
            sinks=tuple(replace(s, connector=Component("list", object=sinks[s.name])) for s in plan.sinks),
        ),
        sinks,
    )


def outcome(text: str, pieces: Sequence[bytes], workers: int = 1) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Runs it; gives what every sink got, and the ledger without what depends on the clock."""
    plan, sinks = bind(text, list(pieces))
    ledger = asyncio.run(execute(plan, workers))
    counts = ledger.to_dict()
    del counts["seconds"]
    return {name: sink.data for name, sink in sinks.items()}, counts


async def execute(plan: Plan, workers: int = 1) -> Ledger:
    return await Run(plan, workers=workers).execute()


texts = st.sampled_from(
    ["a", "b", "c", "", "naïve", 'say "hi"', "x,y", "line\nbreak", "päron" * 9, "\x00", " lead"]
)
numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.1, 0.2, 0.3, 1e16, -1e16, 1.0, -0.0, 1e308]),
)
counts = st.one_of(st.none(), st.integers(-3, 5), st.integers(-(2**63), 2**63 - 1))
rows = st.lists(st.tuples(st.integers(-5_000, 60_000), texts, numbers, counts), max_size=60)


def csv_bytes(table: Sequence[tuple[int, str, float | None, int | None]], newline: str = "\n") -> bytes:
    """Those rows as CSV, quoted where RFC 4180 asks for it; a null is an empty field."""
    lines = ["ts,key,value,qty"]
    for ts, key, value, qty in table:
        quoted = '"' + key.replace('"', '""') + '"' if key == "" or set(key) & set(',"\r\n') else key
        lines.append(f"{ts},{quoted},{'' if value is None else repr(value)},{'' if qty is None else qty}")
    return (newline.join(lines) + newline).encode()


def json_bytes(
    table: Sequence[tuple[int, str, float | None, int | None]], order: Sequence[int] = (0,)
) -> bytes:
    """Those rows as NDJSON, fields in varying order."""
    lines = []
    for number, (ts, key, value, qty) in enumerate(table):
        fields = [("ts", ts), ("key", key), ("value", value), ("qty", qty)]
        turn = order[number % len(order)] % 4
        lines.append(json.dumps(dict(fields[turn:] + fields[:turn]), ensure_ascii=number % 2 == 0))
    return "".join(line + "\n" for line in lines).encode()
