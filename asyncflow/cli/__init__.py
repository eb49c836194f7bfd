"""The command line: ``asyncflow run|check|test|verify|explain|why|agg|infer|list|schema|demo``.

It only joins a door to the engine.  Data goes to stdout and everything else to stderr; a mistake of the user's or of the outside is one
line per problem, never a traceback (except with ``-v``).  Exit codes: 0 done, 1 the run failed, 2 usage or pipeline error, 130/143 stopped
twice, 141 the reader of stdout went away.  Everything heavy is imported by the command that needs it, so ``--help`` is quick.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from asyncflow.cli.agg import agg
from asyncflow.cli.options import (
    FAILED,
    FILE,
    OVERRIDES,
    READER_GONE,
    USAGE,
    VERBOSE,
    run_options,
    tell_error,
)
from asyncflow.cli.why import why
from asyncflow.printable import hidden, printable, printable_lines, tell, write_error
from asyncflow.standard_streams import keep_numbers

if TYPE_CHECKING:
    from asyncflow.model.schema import Schema
    from asyncflow.plan.tables import Plan, Source

COMPLETE = "_ASYNCFLOW_COMPLETE"
"""Set by a shell that asks for completions: ``bash_source`` prints the script for bash; also ``zsh_source``, ``fish_source``."""
_UNWRITABLE = (errno.EBADF, errno.ENOSPC, errno.EFBIG, errno.EIO)
DEMO_SECONDS = 4.0
"""How long ``demo`` runs where nobody watches it on a terminal."""


def main(args: Sequence[str] | None = None) -> None:
    """The console script; ends the process with the code."""
    keep_numbers()
    gc.disable()  # what is imported stays; the engine turns it on again, over what comes after
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here is linear algebra: no threads for it
    if hasattr(signal, "SIGUSR1"):
        signal.signal(
            signal.SIGUSR1, signal.SIG_IGN
        )  # whoever asks a run too early, or too late, does not end it
    _leave(run_command(args))


def _leave(code: int) -> NoReturn:
    """Ends the process without taking the interpreter apart, which costs a twentieth of a small run; all that a run opened is closed.

    What is registered with ``atexit`` is still called.  Where a thread still works, or something watches the program, it ends the long way.
    """
    watched = sys.gettrace() or sys.getprofile() or not sys.modules.keys().isdisjoint(("cProfile", "profile"))
    if watched or threading.active_count() > 1:
        _flush()
        sys.exit(code)
    atexit._run_exitfuncs()
    _flush()
    os._exit(code)


def _flush() -> None:
    """Whatever is left for stdout and stderr.  A stream that cannot take it is given up: it must not change the exit code."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (AttributeError, OSError, ValueError):  # None: it was closed from the start
            setattr(sys, name, None)


def run_command(args: Sequence[str] | None = None) -> int:
    """Runs one command line and gives its exit code; errors are told on stderr."""
    if instruction := os.environ.get(COMPLETE):
        return _complete(instruction)
    given = list(sys.argv[1:] if args is None else args)
    verbose = "-v" in given or "--verbose" in given
    try:
        with cli.make_context("asyncflow", given.copy()) as context:
            result = cli.invoke(context)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        _usage(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        return _told(error, verbose)


def _complete(instruction: str) -> int:
    """What a shell asks while somebody types.  Whatever is wrong with the question, nothing is said in the middle of a line."""
    from click.shell_completion import shell_complete

    try:
        code = shell_complete(cli, {}, "asyncflow", COMPLETE, instruction)
        sys.stdout.flush()
    except (OSError, LookupError, ValueError, RuntimeError):
        return FAILED
    return code


def _usage(error: click.ClickException) -> None:
    """What is wrong with the command line, as click words it."""
    import io

    words = io.StringIO()
    error.show(words)
    write_error(printable_lines(words.getvalue()))


def _told(error: Exception, verbose: bool) -> int:
    """Says what went wrong, a line for each problem, and gives the exit code."""
    from asyncflow.errors import AsyncflowError, PipelineError, ReaderGoneError

    if isinstance(error, ReaderGoneError):
        return _reader_gone()
    if verbose:
        import traceback

        write_error(printable_lines("".join(traceback.format_exception(error))))
    if isinstance(error, PipelineError):
        for problem in error.problems:
            tell_error(str(problem))
        return USAGE
    if isinstance(error, AsyncflowError):
        tell_error(str(error))
        return FAILED
    if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
        tell_error(f"standard output cannot be written: {os.strerror(error.errno).lower()}")
        return FAILED
    text = str(error)
    tell_error(f"{type(error).__name__}: {text}" if text else type(error).__name__)
    if not verbose:
        tell("this is a bug in asyncflow or beyond it; -v shows where")
    return FAILED


def _reader_gone() -> int:
    """Like a process that SIGPIPE ended, but closed in order.  What Python still has for stdout goes nowhere."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
    return READER_GONE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name=None, version=__import__("asyncflow").__version__, prog_name="asyncflow")
def cli() -> None:
    """A stream processor for one machine: files and live input through the same windows."""


cli.add_command(why)
cli.add_command(agg)


@cli.command()
@FILE
@OVERRIDES
@run_options
def run(file: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Run the pipeline FILE to the end of its input, or until SIGINT or SIGTERM.

    The first signal stops reading, lets what was read flow out and closes the open windows; the second ends at once.
    """
    plan = _load(file, overrides)
    from asyncflow.runtime.process.process import run_plan

    return run_plan(plan, file=os.path.realpath(file), **options)


def _load(file: str, overrides: Sequence[str]) -> Plan:
    from asyncflow.doors.pipeline_file.toml import load

    return load(Path(file), overrides=overrides, sink_required=True)


@cli.command()
@FILE
@OVERRIDES
@VERBOSE
def check(file: str, overrides: tuple[str, ...], verbose: bool) -> int:
    """Read, type and wire the pipeline FILE and print every problem.  Opens nothing outside."""
    plan = _load(file, overrides)
    counts = [(len(plan.sources), "source"), (len(plan.stages), "stage"), (len(plan.sinks), "sink")]
    tell(f"{file}: ok ({', '.join(f'{n} {noun}' + ('' if n == 1 else 's') for n, noun in counts)})")
    return 0


@cli.command()
@FILE
@OVERRIDES
@VERBOSE
def test(file: str, overrides: tuple[str, ...], verbose: bool) -> int:
    """Run the [[tests]] of the pipeline FILE on virtual time.  Opens nothing outside and waits for nothing.

    Exit code 0 if all pass, 1 if one fails.
    """
    from asyncflow.doors.pipeline_file.toml import load
    from asyncflow.runtime.base.loop import run_in_loop
    from asyncflow.runtime.checks.trial import run_trials

    plan = load(Path(file), overrides=overrides)
    outcomes = run_in_loop(lambda: run_trials(plan))
    for outcome in outcomes:
        click.echo(printable(hidden(f"{'FAIL' if outcome.failure else 'ok':<4}  {outcome.name}")))
        for line in outcome.failure:
            click.echo(printable(hidden(f"      {line}")))
    failed = sum(bool(outcome.failure) for outcome in outcomes)
    told = f"{len(outcomes) - failed} passed, {failed} failed" if outcomes else "it has no [[tests]]"
    tell(f"{file}: {told}")
    return FAILED if failed else 0


@cli.command()
@FILE
@OVERRIDES
@VERBOSE
def verify(file: str, overrides: tuple[str, ...], verbose: bool) -> int:
    """Run the pipeline FILE several times, its input cut and spread over workers differently, and compare what its sinks get.

    Reads bounded input and writes nothing.  Exit code 0 if all runs gave the same bytes, 1 if one differs.
    """
    from asyncflow.runtime.base.loop import run_in_loop
    from asyncflow.runtime.checks.verify import verify as runs_of

    plan = _load(file, overrides)

    async def compare() -> int:
        differing: dict[str, None] = {}
        runs = 0
        async for each in runs_of(plan):
            runs += 1
            click.echo(str(each.manner))
            for name, (digest, size, rows) in each.sinks.items():
                note = "  DIFFERS" if name in each.differing else ""
                click.echo(f"  {name}: {digest[:16]}  {rows:,} rows  {size:,} bytes{note}")
            differing |= dict.fromkeys(each.differing)
        told = f"differs: {', '.join(differing)}" if differing else f"the same bytes in all {runs} runs"
        tell(f"{file}: {told}")
        return FAILED if differing else 0

    return run_in_loop(compare)


@cli.command()
@FILE
@OVERRIDES
@click.option(
    "--as",
    "form",
    type=click.Choice(["tree", "mermaid", "json"]),
    default="tree",
    show_default=True,
    help="How to print it.",
)
@VERBOSE
def explain(file: str, overrides: tuple[str, ...], form: str, verbose: bool) -> int:
    """Print the plan of the pipeline FILE: tables, schemas, which columns are read, where state is held."""
    from asyncflow.doors.pipeline_file.toml import load
    from asyncflow.plan.explain import explain as explained

    plan = load(Path(file), overrides=overrides)
    click.echo(explained(plan, form, _inferred(plan)))
    return 0


def _inferred(plan: Plan) -> dict[str, Schema]:
    """The schemas that the plan leaves out and that can be read without waiting and without loss: those of files."""
    from msgspec.structs import replace

    from asyncflow.doors.components import check as problems_of
    from asyncflow.errors import AsyncflowError, PipelineError

    left_out = tuple(each for each in plan.sources if each.schema is None and _waits_for_nobody(each))
    if not left_out:
        return {}
    from asyncflow.runtime import infer_schemas
    from asyncflow.runtime.base.loop import run_in_loop

    try:
        inferred = run_in_loop(lambda: infer_schemas(replace(plan, sources=left_out)))
    except AsyncflowError:
        return {}
    if problems := problems_of(plan, inferred):
        raise PipelineError(problems)
    return inferred


def _waits_for_nobody(source: Source) -> bool:
    from asyncflow.plan import capabilities

    can = capabilities.of_source(source.connector)
    return bool(can.bounded and can.rereadable)


@cli.command()
@FILE
@click.option(
    "--format", metavar="F", help="csv, json, ...; left out: told from the name or the first bytes."
)
@VERBOSE
def infer(file: str, format: str | None, verbose: bool) -> int:
    """Print a ready pipeline file for the data in FILE."""
    from asyncflow.doors.pipeline_file.inferred import pipeline_text, source_plan
    from asyncflow.runtime.base.loop import run_in_loop
    from asyncflow.runtime.checks.sample import sample

    plan = source_plan(file, format)
    click.echo(pipeline_text(file, *run_in_loop(lambda: sample(plan))), nl=False)
    return 0


@cli.command(name="list")
@click.argument(
    "kinds",
    nargs=-1,
    type=click.Choice(["pipeline", "sources", "stages", "sinks", "formats", "aggregates", "functions"]),
)
def list_(kinds: tuple[str, ...]) -> int:
    """List what there is, with options: the keys of a pipeline, sources, stages, sinks, formats, aggregates, functions."""
    from asyncflow.doors.pipeline_file import catalog

    for position, kind in enumerate(kinds or catalog.KINDS):
        if position:
            click.echo()
        click.echo("\n".join(catalog.text(kind)))
    return 0


@cli.command()
def schema() -> int:
    """Print the JSON Schema of the pipeline file, for editors."""
    import json

    from asyncflow.doors.pipeline_file.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    return 0


@cli.command()
@run_options
def demo(**options: Any) -> int:
    """Run a live example on generated data, nothing else needed: a few seconds on a pipe, until stopped on a terminal."""
    from asyncflow.doors.pipeline_file.demo import PIPELINE
    from asyncflow.doors.pipeline_file.toml import load
    from asyncflow.runtime.process.process import run_plan

    seconds = None if os.isatty(1) else DEMO_SECONDS
    return run_plan(load(PIPELINE), stop_after_seconds=seconds, **options)
