"""``asyncflow run`` and ``asyncflow demo``: a pipeline as this process."""

from __future__ import annotations

import os
from typing import Any

import click

from asyncflow.cli.options import FILE, OVERRIDES, run_options
from asyncflow.cli.running import run_file

DEMO_SECONDS = 4.0
"""How long ``demo`` runs where stdout is no terminal."""


@click.command()
@FILE
@OVERRIDES
@click.option("--fresh", is_flag=True, help="Move the checkpoints of earlier runs aside and begin anew.")
@run_options
def run(file: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Run the pipeline FILE to the end of its input, or until SIGINT or SIGTERM.

    The first signal stops reading, lets what was read flow out and closes the open windows; the second ends at once.  With [checkpoint] the
    first signal takes a last checkpoint, windows stay open, and the next start goes on from there.
    """
    return run_file(file, overrides=overrides, **options)


@click.command()
@run_options
def demo(**options: Any) -> int:
    """Run a live example on generated data, nothing else needed: a few seconds on a pipe, until stopped on a terminal."""
    from asyncflow.doors.pipeline_file.demo import PIPELINE
    from asyncflow.doors.pipeline_file.toml import load
    from asyncflow.runtime.process.process import run_plan

    seconds = None if os.isatty(1) else DEMO_SECONDS
    return run_plan(load(PIPELINE), stop_after_seconds=seconds, **options)
