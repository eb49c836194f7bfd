"""Each fuzzer runs, for a moment: the long runs are of another stage, so a fuzzer that no longer fits would be seen late."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZERS = sorted(path.stem for path in Path(__file__).parent.glob("fuzz_*.py"))


@pytest.mark.parametrize("name", FUZZERS)
def test_fuzzer_runs(name: str) -> None:
    command = [sys.executable, "-m", f"tests.fuzz.{name}", "--seconds", "0.1", "--seed", "7"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
