"""The event loop of standalone processes and plain scripts.  Inside an application a run uses the application's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asyncflow.standard_streams import keep_numbers

T = TypeVar("T")


def run_in_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs the coroutine of ``main()`` in a new loop, of uvloop where that is installed.  No policy is set."""
    keep_numbers()
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        return runner.run(main())
    finally:
        try:
            runner.close()
        except RuntimeError as error:
            # Where memory has run out there is none for the thread that would wait for the others: what the run came to stands.
            if "new thread" not in str(error):
                raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
