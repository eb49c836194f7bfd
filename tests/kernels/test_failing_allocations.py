"""A kernel whose allocation fails raises MemoryError; its object can still be read and freed, and refuses further use.

``CI_LONG=1`` lets every allocation of a work fail (of the works that make many, 500), else a few of them do, by a seed.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asyncflow._kernels import MODE, kernel
from tests.kernels import failing_allocations

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LONG = os.environ.get("CI_LONG", "") not in ("", "0")
SEED = 20
COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = pytest.mark.skipif(
    MODE == "reference"
    or COMPILER is None
    or not sys.platform.startswith("linux")
    or "musl" in (ctypes.util.find_library("c") or "")
    or "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="needs compiled kernels, a C compiler, and the memory of glibc",
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("shim") / "failing_malloc.so"
    assert COMPILER is not None
    subprocess.run(
        [COMPILER, "-O1", "-w", "-shared", "-fPIC", "-o", library, HERE / "failing_malloc.c", "-ldl"],
        check=True,
    )
    return library


@pytest.mark.timeout(1300 if LONG else 300)
@pytest.mark.parametrize("work", failing_allocations.WORK)
def test_no_memory_is_memory_error(work: str, shim: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", failing_allocations.__name__, shim, work,
            str(500 if LONG else 12), str(SEED),
        ],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        timeout=1200 if LONG else 120,
        check=False,
        cwd=ROOT,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1].startswith("done"), (
        done.returncode,
        lines[-2:],
        done.stderr[-2000:],
    )
    assert lines[-1].split()[2] != "0", "nothing failed: the shim counts no allocation"


def test_an_object_that_ran_out_of_memory_is_refused() -> None:
    table = kernel("groups").GroupTable(["int64"])

    class Greedy:
        def __array__(self, *_: object, **__: object) -> object:
            raise MemoryError

    with pytest.raises(MemoryError):
        table.assign([(Greedy(), None)], 1)
    with pytest.raises(RuntimeError, match="ran out of memory in an earlier call: make a new one"):
        table.assign([(np.zeros(1, np.int64), None)], 1)
    assert table.nbytes > 0
