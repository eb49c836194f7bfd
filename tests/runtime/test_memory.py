"""The memory limit of a run: what counts, backpressure, and the error when the limit is exceeded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncflow as af
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.errors import OutOfMemoryError
from asyncflow.formats.contract import Block, Cut, Decoded, Decoder
from asyncflow.model.batch import Batch
from asyncflow.model.columns import FixedColumn
from asyncflow.model.schema import DataType, Schema
from asyncflow.runtime.base.loop import run_in_loop
from asyncflow.runtime.base.memory import Memory, _cgroup_limit
from asyncflow.runtime.base.workers import INLINE_BYTES, Offload
from asyncflow.runtime.edges.channel import Channel
from asyncflow.runtime.ingest.positions import Records
from asyncflow.runtime.ingest.streams import decoded

MIB = 1 << 20


def test_what_is_held_fails_beyond_the_bound_and_names_who_holds_what() -> None:
    memory = Memory(10 * MIB)
    state, other = memory.account("per_minute", "state"), memory.account("joined", "rows")
    state.detail = lambda: "7 keys"
    other.reserve(4 * MIB)
    state.resize(6 * MIB)
    with pytest.raises(af.OutOfMemoryError) as raised:
        state.resize(7 * MIB)
    told = str(raised.value)
    assert told.startswith("per_minute: it holds 7MiB of state (7 keys)")
    assert "more than memory = 10MiB" in told and "joined 4MiB of rows" in told
    assert raised.value.table == "per_minute" and raised.value.used_bytes == 7 * MIB


def test_a_reservation_that_does_not_fit_reserves_nothing() -> None:
    memory = Memory(10 * MIB)
    peers = memory.account("s", "unfinished records")
    with pytest.raises(af.OutOfMemoryError):
        peers.reserve(11 * MIB)
    assert memory.used_bytes == 0 and memory.free_bytes == 10 * MIB
    peers.reserve(10 * MIB)
    assert memory.full and memory.free_bytes == 0
    peers.release(10 * MIB)
    assert not memory.full


def test_accounts_that_are_closed_hold_nothing() -> None:
    memory = Memory()
    account = memory.account("s", "state")
    account.resize(5)
    memory.close([account])
    assert memory.used_bytes == memory.held_bytes == 0


async def test_at_the_bound_a_channel_takes_one_message_and_no_second() -> None:
    memory = Memory(MIB)
    channel = Channel(1, 1 << 30, "reader", memory)
    rows = Batch(Schema.of([("x", DataType.INT64)]), (FixedColumn(np.zeros(1 << 14, np.int64)),), 1 << 14)
    held = memory.account("w", "state")
    await channel.send(0, rows)
    await channel.send(0, rows)
    held.resize(MIB)
    writer = asyncio.create_task(channel.send(0, rows))
    await asyncio.sleep(0)
    assert channel.blocked(0)
    await channel.receive()
    await asyncio.sleep(0)
    assert not writer.done()
    await channel.receive()
    await writer
    await channel.receive()
    assert memory.used_bytes == held.used_bytes


class CountingDecoder(Decoder):
    """Tells how many blocks it has been given."""

    output = Schema(())

    def __init__(self) -> None:
        self.blocks = 0

    def cut(self, data: Block, final: bool) -> Cut:
        raise NotImplementedError

    def decode(self, block: Block) -> Decoded:
        self.blocks += 1
        return Decoded((), 0, 0, 0, ())


@pytest.mark.parametrize(("state_bytes", "most_ahead"), [(0, 4 + 2), (MIB, 1)])
async def test_blocks_decoded_ahead_count_and_at_the_bound_there_is_one(
    state_bytes: int, most_ahead: int
) -> None:
    memory, offload, decoder = Memory(MIB), Offload(4), CountingDecoder()
    memory.account("w", "state").resize(state_bytes)
    ahead = memory.account("s", "rows decoded ahead of their turn", flows=True)

    async def blocks() -> AsyncIterator[Records]:
        for number in range(20):
            yield Records(np.zeros(INLINE_BYTES, np.uint8), number * INLINE_BYTES)

    most = taken = 0
    results = decoded(blocks(), decoder, offload, ahead)
    async for _ in results:
        taken += 1
        await asyncio.sleep(0.01)  # so that all is read that may be
        most = max(most, ahead.used_bytes // INLINE_BYTES)
        if taken == 15:
            break
    await results.aclose()
    offload.close()
    assert most == most_ahead
    assert decoder.blocks <= taken + most_ahead
    assert ahead.used_bytes == 0


COLUMNS = {"ts": "timestamp[s]", "k": "int64", "t": "string"}


def _many_keys() -> Iterator[dict[str, Any]]:
    for start in range(0, 1 << 17, 1 << 12):
        ids = np.arange(start, start + (1 << 12))
        yield {"ts": np.zeros(len(ids), np.int64), "k": ids, "t": [f"text {number}" for number in ids]}


def _source(name: str, objects: object) -> af.Flow:
    return af.source(objects, name=name, schema=COLUMNS, time="ts")


def _growing() -> dict[str, af.Flow]:
    many, few = _source("s", _many_keys()), _source("r", [{"ts": 0, "k": 0, "t": ""}])
    return {
        "window": many.window(by=["k"], n="count(*)"),
        "text keys": many.window(by=["t"], n="count(*)"),
        "texts": many.window(n="count(distinct t)"),
        "hopping": many.window(af.hopping("1h", "30m"), by=["k"], n="count(*)"),
        "updates": many.window(af.tumbling("1h"), by=["k"], emit={"every": "1m"}, n="count(*)"),
        "session": many.window(af.session("1d"), by=["k"], n="count(*)"),
        "count": many.window(af.count(100), by=["k"], n="count(*)"),
        "dedup": many.dedup(by=["k"], within="1d"),
        "top": many.top(1, order=["k"], by=["k"]),
        "interval join": many.join(few, on=["k"], within="1d"),
        "window join": many.join(few, on=["k"], window=af.tumbling("1d")),
        "as-of join": many.join(few, on=["k"], as_of="backward"),
        "lookup": few.join(many, on=["k"]),
    }


@pytest.mark.parametrize("kind", _growing())
async def test_a_run_whose_state_grows_fails_and_names_its_table(kind: str) -> None:
    if kind == "texts" and os.environ.get("ASYNCFLOW_KERNELS") == "reference":
        pytest.skip("the twins do not count the bytes of their sets")
    flow = _growing()[kind].named("growing").to("null")
    with pytest.raises(af.OutOfMemoryError, match=r"growing: it holds .*memory = 1MiB") as raised:
        await flow.run(memory="1MiB")
    assert raised.value.table == "growing"


async def test_a_run_that_holds_little_passes_much_through_a_small_bound() -> None:
    flow = _source("s", _many_keys()).filter("k % 2 = 0").derive(more="t || t").window(n="count(*)")
    rows = [row async for batch in flow.batches(memory="1MiB") for row in batch.to_pylist()]
    assert rows == [{"n": 1 << 16}]


async def test_where_the_system_has_no_more_to_give_the_error_names_the_table() -> None:
    def greedy(_batch: af.Batch) -> None:
        np.empty(1 << 60, np.uint8)

    flow = af.source([{"x": 1}]).map(greedy).named("greedy")
    with pytest.raises(af.OutOfMemoryError, match="greedy: memory ran out: Unable to allocate"):
        async for _ in flow:
            pass


# -- where the bound comes from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("memory = 0", "at least 1MiB"),
        ("memory = -5", "at least 1MiB"),
        ('memory = "1KiB"', "at least 1MiB"),
        ('memory = "lots"', "not a size"),
        ("memory = true", "expected"),
        ("memory = []", "expected"),
        ("memory = 99999999999999999999", "at least 1MiB"),
    ],
)
def test_what_is_no_bound_is_refused(written: str, told: str) -> None:
    with pytest.raises(af.PipelineError) as raised:
        load(f'{written}\n[sources.s]\ntype = "stdin"\nformat = "lines"\n')
    assert [problem.path for problem in raised.value.problems] == ["memory"]
    assert told in raised.value.problems[0].message


def test_a_pipeline_file_says_its_bound() -> None:
    sources = '\n[sources.s]\ntype = "stdin"\nformat = "lines"\n'
    assert load('memory = "2GiB"' + sources).memory_bytes == 2 << 30
    assert load('memory = "2GiB"' + sources, overrides=["memory=64MiB"]).memory_bytes == 64 * MIB
    assert load(sources).memory_bytes is None


@pytest.mark.parametrize(
    ("lines", "files", "limit"),
    [
        ("0::/", {"memory.max": "max\n"}, None),
        ("0::/a/b", {"a/b/memory.max": "max\n", "a/memory.max": "1000\n", "memory.max": "2000"}, 1000),
        ("4:memory:/a\n1:cpu:/", {"memory/a/memory.limit_in_bytes": "500"}, 500),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
    ],
)
def test_the_limit_of_a_cgroup(lines: str, files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text(lines)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    assert _cgroup_limit(str(tmp_path / "root"), str(own)) == limit


def test_a_process_under_a_limit_ends_in_order_and_names_the_knob(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("a sanitizer takes more address space than any limit leaves")
    pipeline = tmp_path / "p.toml"
    pipeline.write_text(
        '[sources.s]\ntype = "generate"\nstart = "2024-01-01T00:00:00Z"\n'
        '[stages.counts]\ntype = "window"\nby = ["ts"]\naggregates = { n = "count(*)" }\n'
        '[sinks.o]\ntype = "null"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "asyncflow", "run", str(pipeline)],
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (450 << 20, 450 << 20)),
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: counts: ") and "keys" in done.stderr and "memory" in done.stderr


def test_what_failed_is_told_though_no_thread_can_start_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        await asyncio.to_thread(int)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        raise OutOfMemoryError("all is taken", table="t")

    with pytest.raises(OutOfMemoryError, match="all is taken"):
        run_in_loop(main)
