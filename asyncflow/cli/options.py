"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from asyncflow.cli.plain import MOST_WORKERS, PROGRESS, RUN_DEFAULTS, workers


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """What a shell completes a file's name with: files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


class WorkersType(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in new versions only
    """A number of workers, or ``auto``."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int | str:
        read = workers(str(value))
        if read is None:
            self.fail(f"{value!r} is neither auto nor a number from 1 to {MOST_WORKERS}.", param, context)
        return read


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
                type=click.Choice(PROGRESS),
                default=RUN_DEFAULTS["progress"],
                show_default=True,
                help="Show progress on stderr; auto: where it is a terminal.",
            ),
            click.option(
                "--workers",
                type=WorkersType(),
                metavar="[auto|N]",
                default=RUN_DEFAULTS["workers"],
                show_default=True,
                help="Threads that work, 1 to 256; auto: one for each processor that the process may use, by its affinity and "
                "cgroups.  The result is the same for any number.",
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
