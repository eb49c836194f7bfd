"""What ``asyncflow check`` says of a pipeline file with a mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncflow.cli import run_command


def check(text: str, folder: Path) -> int:
    """The exit status of ``asyncflow check`` for this text as a pipeline file in ``folder``."""
    path = folder / "pipeline.toml"
    path.write_text(text)
    return run_command(["check", str(path)])


def assert_refused(
    text: str, told: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``check`` exits with 2 and prints error lines alone, in which each part of ``told`` stands."""
    assert check(text, folder) == 2
    out, err = capsys.readouterr()
    assert out == "" and err and "Traceback" not in err
    assert all(line.startswith("error: ") for line in err.splitlines())
    for part in told:
        assert part in err
