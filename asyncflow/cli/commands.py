"""All commands as click knows them: reads any command line, tells usage errors, prints help and completions."""

from __future__ import annotations

import sys

import click

from asyncflow.cli.agg import agg
from asyncflow.cli.checks import check, test, verify
from asyncflow.cli.outcome import FAILED, INTERRUPTED
from asyncflow.cli.runs import demo, run
from asyncflow.cli.shown import explain, infer, list_, schema
from asyncflow.cli.state import state
from asyncflow.cli.why import why
from asyncflow.printable import printable_lines, write_error


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name=None, version=__import__("asyncflow").__version__, prog_name="asyncflow")
def cli() -> None:
    """A stream processor for one machine: files and live input through the same windows."""


for command in (run, check, test, verify, explain, why, agg, infer, list_, schema, state, demo):
    cli.add_command(command)


def invoke(args: list[str]) -> int:
    """Runs one command line and gives its exit code.  Tells usage errors; other errors are raised."""
    try:
        with cli.make_context("asyncflow", args) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _usage(error)
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def complete(variable: str, instruction: str) -> int:
    """Answers a shell that completes a command line.  A question that cannot be answered gives no output in the middle of that line."""
    from click.shell_completion import shell_complete

    try:
        code = shell_complete(cli, {}, "asyncflow", variable, instruction)
        sys.stdout.flush()
    except (OSError, LookupError, ValueError, RuntimeError):
        return FAILED
    return code


def _usage(error: click.ClickException) -> None:
    """Tells a usage error in click's words."""
    import io

    words = io.StringIO()
    error.show(words)
    write_error(printable_lines(words.getvalue()))
