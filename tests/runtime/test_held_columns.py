"""A stage that holds rows holds only the columns that are read later, wherever its rows come from; results are the same."""

from __future__ import annotations

import pytest

import asyncflow as af
from asyncflow.runtime import Run

ROWS = [
    {"other": number, "wide": "w" * number, "key": "ab"[number % 2], "ts": number, "value": number * 7 % 5}
    for number in range(20)
]
SCHEMA = {"other": "int64", "wide": "string", "key": "string", "ts": "timestamp[s]", "value": "int64"}


def stages(rows: af.Flow) -> dict[str, tuple[af.Flow, set[str]]]:
    """Stages under test, called ``held``, and the columns of what they give where ``key`` and ``value`` are read of it."""
    rates = rows.derive(key="key", rate="other * 2", unread="other").named("rates")
    return {
        "top": (
            rows.top(3, order=["other DESC"], by=["key"]).named("held"),
            {"key", "value", "other", "rank"},
        ),
        "top of derived": (
            rows.derive(much="wide || wide", value="value + 1").top(3, order=["value"]).named("held"),
            {"key", "value", "rank"},
        ),
        "top of filtered": (
            rows.filter("wide <> 'w'").top(3, order=["value"]).named("held"),
            {"key", "value", "rank"},
        ),
        "join": (rows.join(rates, on=["key"], within="2s").named("held"), {"key", "value"}),
    }


@pytest.mark.parametrize("kind", stages(af.source(ROWS, schema=SCHEMA, time="ts")))
async def test_what_nobody_reads_is_not_held(kind: str) -> None:
    held, columns = stages(af.source(ROWS, schema=SCHEMA, time="ts", name="rows"))[kind]
    read = held.window(by=["key"], n="count(*)", s="sum(value)")
    run = Run(read.to("null").checked())
    await run.execute()
    (operator,) = [stage.operator for stage in run.wiring.stages if stage.name == "held"]
    assert operator is not None and operator.output is not None
    assert set(operator.output.names) == columns
    whole = [row async for batch in held.batches() for row in batch.to_pylist()]
    sums = {
        key: sum(row["value"] for row in whole if row["key"] == key) for key in {row["key"] for row in whole}
    }
    assert {row["key"]: row["s"] async for batch in read.batches() for row in batch.to_pylist()} == sums
