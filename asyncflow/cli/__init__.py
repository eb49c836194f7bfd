"""The command line: ``asyncflow run|check|test|verify|explain|why|agg|infer|list|schema|demo``.

A command joins a door to the engine.  Data goes to stdout, everything else to stderr.  A mistake of the user or a failure outside is one
line per problem, without a traceback (except with ``-v``).  Exit codes: 0 done, 1 the run failed, 2 usage or pipeline error, 130/143
stopped twice, 141 the reader of stdout went away.  Each command imports what it needs when it is called, so ``--help`` is quick.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence

import click

from asyncflow.cli.agg import agg
from asyncflow.cli.checks import check, test, verify
from asyncflow.cli.options import FAILED, READER_GONE, USAGE, tell_error
from asyncflow.cli.runs import demo, run
from asyncflow.cli.shown import explain, infer, list_, schema
from asyncflow.cli.why import why
from asyncflow.printable import printable_lines, tell, write_error
from asyncflow.standard_streams import keep_numbers

COMPLETE = "_ASYNCFLOW_COMPLETE"
"""Set by a shell that asks for completions: ``bash_source`` prints the script for bash; also ``zsh_source``, ``fish_source``."""
_UNWRITABLE = (errno.EBADF, errno.ENOSPC, errno.EFBIG, errno.EIO)


def main(args: Sequence[str] | None = None) -> None:
    """The console script; ends the process with the code."""
    keep_numbers()
    gc.disable()  # imported modules stay anyway; the engine turns collection on again
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here is linear algebra: no threads for it
    if hasattr(signal, "SIGUSR1"):
        # A SIGUSR1 before the run, or after it, must not end the process.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    code = run_command(args)
    _flush()
    gc.freeze()  # else the interpreter collects all imported modules at its end: 80 ms of processor time, a third of a small run
    sys.exit(code)


def _flush() -> None:
    """Writes what stdout and stderr still hold.  A stream that fails is given up: it must not change the exit code."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (AttributeError, OSError, ValueError):  # None: closed from the start
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
    """Answers a shell that completes a command line.  A question that cannot be answered gives no output in the middle of that line."""
    from click.shell_completion import shell_complete

    try:
        code = shell_complete(cli, {}, "asyncflow", COMPLETE, instruction)
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


def _told(error: Exception, verbose: bool) -> int:
    """Tells an error, a line for each problem, and gives the exit code."""
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
    """The exit code of a process whose reader went away; what Python still holds for stdout is dropped."""
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


for command in (run, check, test, verify, explain, why, agg, infer, list_, schema, demo):
    cli.add_command(command)
