"""Every connector test runs on plain asyncio and on uvloop, and fails if it leaves a descriptor open."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator

import pytest
import uvloop

# libuv opens a pipe for signals once per process and keeps it: have it before descriptors are counted.
uvloop.run(asyncio.sleep(0))


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> object:
    return asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which connector of byte streams is tried."""
    return str(request.param)


@pytest.fixture
def run(loop_factory) -> Iterator[object]:
    """Runs one coroutine to its end on a fresh loop (bounded: a hang is a failure) and checks that nothing stays open."""

    def run_coroutine(coroutine, *, seconds: float = 30):
        async def bounded():
            async with asyncio.timeout(seconds):
                return await coroutine

        gc.collect()
        before = open_descriptors()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(bounded())
        gc.collect()
        assert open_descriptors() == before
        return result

    yield run_coroutine


def open_descriptors() -> set[str]:
    return {
        f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}"
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }
