"""Processor law: whatever the processor, the instruction level, the C library's and numpy's choice of code, or compiled kernels or their
twins, every sink gets the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.laws.flows import STAGES, csv_bytes, json_bytes, outcome, pipeline

ROOT = Path(__file__).parents[2]
ROWS = 300


def digests() -> dict[str, str]:
    """What each pipeline gives, run in this process."""
    rng = random.Random(3)
    special = [0.0, -0.0, 1e300, 5e-324, 1e-5, None]
    table = [
        (
            1_700_000_000_000 + n * 90 + rng.randint(-3000, 3000),
            rng.choice(["a", "b", "é", "long key"]),
            rng.choice(special) if rng.random() < 0.05 else rng.uniform(-2, 40),
            None if rng.random() < 0.1 else rng.randint(-5, 50),
        )
        for n in range(ROWS)
    ]
    found = {}
    for stage in STAGES:
        for source, sink, data in (
            ("csv", "json", csv_bytes(table)),
            ("json", "csv", json_bytes(table, [0, 2, 1])),
        ):
            text = pipeline(stage, source_format=source, sink_format=sink)
            sinks, ledger = outcome(text, [data])
            whole = repr((sorted(sinks.items()), json.dumps(ledger, sort_keys=True)))
            found[f"{stage} {source}"] = hashlib.sha256(whole.encode()).hexdigest()
    return found


def run(**environ: str) -> dict[str, str] | str:
    """``digests`` in a process of its own; or why this machine cannot."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.laws.test_processor_law"],
        env={**os.environ, **environ}, cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    if done.returncode and "that this machine does not have" in done.stderr:
        return "this machine does not have the level"
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def numpy_features() -> str:
    """What numpy chose at run time on this processor."""
    from numpy._core import _multiarray_umath as umath

    return " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name))


OLDER = "glibc.cpu.hwcaps=" + ",".join(
    f"-{name}{ending}"
    for ending in ("", "_Usable")
    for name in ("AVX2", "FMA", "FMA4", "AVX512F", "AVX512VL", "AVX512BW")
)
OTHERS = {
    "numpy without what it finds": {"NPY_DISABLE_CPU_FEATURES": numpy_features()},
    "the C library of an older processor": {"GLIBC_TUNABLES": OLDER},
    "portable code": {"ASYNCFLOW_CPU": "portable"},
    "x86-64-v2": {"ASYNCFLOW_CPU": "v2"},
    "an older processor": {"ASYNCFLOW_CPU": "v3", "GLIBC_TUNABLES": OLDER, "NPY_DISABLE_CPU_FEATURES": numpy_features()},
    "the other kernels": {"ASYNCFLOW_KERNELS": "compiled" if os.environ.get("ASYNCFLOW_KERNELS") == "reference" else "reference"},
}  # fmt: skip


@pytest.fixture(scope="module")
def here() -> dict[str, str] | str:
    return run()


@pytest.mark.parametrize("other", OTHERS)
def test_the_same_bytes(here: dict[str, str], other: str) -> None:
    found = run(**OTHERS[other])
    if isinstance(found, str):
        pytest.skip(found)
    assert {name for name in here if here[name] != found[name]} == set()


def test_the_older_processors_are_others() -> None:
    """numpy and the C library do give other bits in those environments, where they have any choice on this machine."""
    code = "import math, numpy as np; x = np.linspace(0.1, 9, 20001); print(hash((np.exp(x).tobytes(), np.log(x).tobytes())))"
    if "X86_V4" not in numpy_features() and "AVX512" not in numpy_features():
        pytest.skip("numpy has one exp on this processor")
    environ = {**os.environ, "PYTHONHASHSEED": "0"}
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**environ, **more}, capture_output=True, check=True
        ).stdout
        for more in ({}, OTHERS["numpy without what it finds"])
    }
    assert len(outputs) == 2


if __name__ == "__main__":
    assert np is not None
    print(json.dumps(digests()))
