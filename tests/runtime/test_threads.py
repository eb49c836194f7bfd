"""Threads that work for the event loop: results and errors, order, what waits at the end, and what is kept of a call."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from functools import partial

import pytest

from asyncflow.runtime.base.threads import Threads


async def test_every_call_tells_its_result() -> None:
    threads = Threads(3)
    results = await asyncio.gather(*(threads.run(partial(pow, number, 2)) for number in range(1000)))
    assert results == [number**2 for number in range(1000)]
    assert threading.current_thread() not in [await threads.run(threading.current_thread) for _ in range(10)]
    threads.close()


async def test_an_error_is_raised_where_the_call_is_awaited() -> None:
    threads = Threads(2)
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(partial(int, "x"))
    with pytest.raises(SystemExit):  # a thread goes on after any of them
        await threads.run(sys.exit)
    assert await asyncio.gather(threads.run(partial(int, "1")), threads.run(partial(int, "2"))) == [1, 2]
    threads.close()


async def test_one_thread_makes_calls_in_their_order_but_for_those_that_are_cancelled() -> None:
    threads, made, go = Threads(1), list[int](), threading.Event()
    first = threads.run(go.wait)
    others = [threads.run(partial(made.append, number)) for number in range(5)]
    others[2].cancel()
    go.set()
    assert await first
    await others[4]
    assert made == [0, 1, 3, 4]
    threads.close()


async def test_the_end_waits_for_calls_under_way_and_cancels_the_others() -> None:
    threads, made, began = Threads(1), list[str](), threading.Event()

    def slow() -> None:
        began.set()
        time.sleep(0.05)
        made.append("slow")

    under_way, waiting = threads.run(slow), threads.run(partial(made.append, "waiting"))
    await asyncio.to_thread(began.wait)
    threads.close()
    assert made == ["slow"]
    assert waiting.cancelled()
    await under_way
    threads.close()  # a second time, nothing is left to do
    assert not [each for each in threading.enumerate() if each.name.startswith("asyncflow-worker")]


def test_a_call_may_outlive_the_loop() -> None:
    threads, go = Threads(1), threading.Event()

    async def leave() -> None:
        threads.run(go.wait)

    asyncio.run(leave())
    go.set()
    threads.close()


async def test_nothing_of_a_call_is_kept() -> None:
    class Held:
        pass

    threads, held = Threads(2), Held()
    gone = weakref.ref(held)
    assert await threads.run(partial(isinstance, held, Held))
    del held
    for _ in range(2):  # the thread that made the call may not have come back to its wait
        await asyncio.sleep(0.01)
    gc.collect()
    assert gone() is None
    threads.close()
