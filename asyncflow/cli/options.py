"""Shared by several commands: exit codes, how an error is told, arguments and options, and how a pipeline file is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asyncflow.printable import tell

if TYPE_CHECKING:
    from asyncflow.plan.tables import Plan

FAILED, USAGE, READER_GONE = 1, 2, 141


def tell_error(text: str) -> None:
    """One error, on stderr."""
    tell(f"error: {text}")


def loaded(file: str, overrides: Sequence[str]) -> Plan:
    """The plan of a pipeline file that is to be run; PipelineError with every problem."""
    from asyncflow.doors.pipeline_file.toml import load

    return load(Path(file), overrides=overrides, sink_required=True)


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """What a shell completes a file's name with: files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that runs a plan."""
    for option in reversed(
        (
            click.option(
                "--stats",
                metavar="FILE",
                shell_complete=files,
                help="Write the ledger as JSON to FILE; - is stderr.",
            ),
            click.option(
                "--progress",
                type=click.Choice(["auto", "on", "off"]),
                default="auto",
                show_default=True,
                help="Show progress on stderr; auto: where it is a terminal.",
            ),
            click.option(
                "--workers",
                type=click.IntRange(1, 256),
                default=1,
                show_default=True,
                help="Threads that work; the result is the same for any number.",
            ),
            click.option("--quiet", is_flag=True, help="Only errors on stderr."),
            click.option(
                "-v", "--verbose", is_flag=True, help="More on stderr; errors with their traceback."
            ),
        )
    ):
        command = option(command)
    return command


FILE = click.argument("file", type=str, shell_complete=files)
OVERRIDES = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override one value of the file, as sources.sales.path=x.csv.",
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Errors with their traceback.")
