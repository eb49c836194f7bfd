"""SIGINT and SIGTERM while a kernel works without giving way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from asyncflow._kernels import MODE

PROGRAM = """
import asyncio, signal, sys, time
import numpy as np
from asyncflow._kernels import kernel

async def main():
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda number=number: print("asked", number, flush=True))
    kernel("signals").end_at_second(signal.SIGINT, signal.SIGTERM)
    print("ready", flush=True)
    if sys.argv[1] == "busy":
        np.sort(np.random.default_rng(0).random(1 << 29))  # longer than the test, and never gives way
    await asyncio.sleep(60)

asyncio.run(main())
"""

pytestmark = pytest.mark.skipif(MODE == "reference", reason="the twin leaves signals to Python")


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGTERM)])
@pytest.mark.parametrize("state", ["busy", "idle"])
def test_the_second_signal_ends_the_process(state: str, numbers: tuple[int, int]) -> None:
    command = [sys.executable, "-c", PROGRAM, state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(numbers[0])
            os.kill(process.pid, numbers[0])  # the same request twice, as `timeout` sends it
            if state == "idle":
                assert process.stdout.readline() == f"asked {numbers[0]}\n"
            time.sleep(0.3)
            assert process.poll() is None
            process.send_signal(numbers[1])
            assert process.wait(20) == 128 + numbers[1]
        finally:
            process.kill()
