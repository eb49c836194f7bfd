"""The connector ``generate``: rows are a function of seed and row number; pacing follows the clock and can be stopped."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import numpy as np
import pytest

from asyncflow.connectors.generate import Rows, SourceOptions, open_source, parse_instant
from asyncflow.model.batch import concat_batches


async def all_rows(**options):
    source = open_source(SourceOptions(**options))
    batches = [batch async for batch in source.batches()]
    await source.aclose()
    return concat_batches(batches).to_pylist() if batches else []


def test_the_same_seed_gives_the_same_rows_however_they_are_cut():
    options = SourceOptions(rows=1000, start="2024-01-01T00:00:00Z", keys=37)
    whole = Rows(options, 0).batch(0, 1000).to_pylist()
    for cuts in ([1, 2, 500], [999], list(range(1, 1000))):
        bounds = [0, *cuts, 1000]
        parts = [Rows(options, 0).batch(a, b - a) for a, b in itertools.pairwise(bounds)]
        assert concat_batches(parts).to_pylist() == whole
    assert Rows(SourceOptions(seed=2), 0).batch(0, 1000).to_pylist() != whole


def test_rows_look_like_sensors(run):
    start = parse_instant("2024-01-01T00:00:00Z")
    rows = run(all_rows(rows=100_000, start="2024-01-01", keys=100, rate=0, disorder="2s"))
    schema = SourceOptions().capabilities().schema
    assert schema is not None
    assert [field.type_text for field in schema] == ["timestamp", "string", "float64"]
    assert {row["key"] for row in rows} == {f"sensor-{number:03d}" for number in range(100)}
    assert all(0 <= row["value"] <= 100 for row in rows)
    behind = np.array([start + number * 1_000_000 - row["ts"] for number, row in enumerate(rows)])
    assert behind.min() == 0
    assert 0 < behind.max() < 2_000_000_000
    assert 0.09 < np.mean(behind > 0) < 0.11


def test_a_rate_paces_event_time_and_the_clock(run):
    rows = run(all_rows(rows=60, rate=1000, start="2024-01-01", disorder="0s"))
    assert np.diff([row["ts"] for row in rows]).tolist() == [1_000_000] * 59


def test_no_rows_left_out_is_endless_until_stopped(run):
    async def scenario():
        source = open_source(SourceOptions(rate=0.001))
        assert not source.bounded
        seen = 0

        async def read():
            nonlocal seen
            async for batch in source.batches():
                seen += batch.num_rows

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.03)
        await source.stop()
        await reading
        return seen

    assert run(scenario()) == 1  # the first row is due at once, the second in a quarter of an hour


def test_many_keys_have_names_of_one_width():
    assert set(map(len, Rows(SourceOptions(keys=12_345), 0).batch(0, 100).columns[1].to_list())) == {
        len("sensor-00000")
    }


def test_options_say_what_is_wrong():
    for wrong, message in [
        ({"rate": -1}, ">= 0"),
        ({"keys": 0}, ">= 1"),
        ({"start": "yesterday"}, "not a time"),
        ({"disorder": "-1s"}, "disorder must"),
    ]:
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(wrong, SourceOptions)
