"""The command line: ``asyncflow run|check|test|verify|explain|why|agg|infer|list|schema|demo``.

A command joins a door to the engine.  Data goes to stdout, everything else to stderr.  A mistake of the user or a failure outside is one
line per problem, without a traceback (except with ``-v``).  Exit codes: 0 done, 1 the run failed, 2 usage or pipeline error, 130/143
stopped twice, 141 the reader of stdout went away.  Each command imports what it needs when it is called, so ``--help`` is quick; plain
command lines are read without click (``plain``), so small runs are quick.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

from asyncflow.cli import plain
from asyncflow.cli.outcome import INTERRUPTED, reader_gone, told
from asyncflow.standard_streams import keep_numbers

COMPLETE = "_ASYNCFLOW_COMPLETE"
"""Set by a shell that asks for completions: ``bash_source`` prints the script for bash; also ``zsh_source``, ``fish_source``."""


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
        from asyncflow.cli import commands

        return commands.complete(COMPLETE, instruction)
    given = list(sys.argv[1:] if args is None else args)
    verbose = "-v" in given or "--verbose" in given
    try:
        if (call := plain.call(given)) is not None:
            code = call()
        else:
            from asyncflow.cli import commands

            code = commands.invoke(given)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return reader_gone()
    except Exception as error:
        return told(error, verbose)
    return code
