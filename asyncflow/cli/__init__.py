"""The command line: ``asyncflow run|check|test|verify|explain|why|agg|infer|list|schema|demo``.

A command joins a door to the engine.  Data goes to stdout, everything else to stderr.  A mistake of the user or a failure outside is one
line per problem, without a traceback (except with ``-v``).  Exit codes: 0 done, 1 the run failed, 2 usage or pipeline error, 130/143
stopped twice, 141 the reader of stdout went away.  Each command imports what it needs when it is called, so ``--help`` is quick; plain
command lines are read without click (``plain``), so small runs are quick.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence

from asyncflow.cli import plain
from asyncflow.cli.outcome import INTERRUPTED, reader_gone, told
from asyncflow.standard_streams import keep_numbers

COMPLETE = "_ASYNCFLOW_COMPLETE"
"""Set by a shell that asks for completions: ``bash_source`` prints the script for bash; also ``zsh_source``, ``fish_source``."""


def main(args: Sequence[str] | None = None) -> None:
    """The console script; ends the process with the code.  A caller in Python gives ``args`` and gets a SystemExit."""
    keep_numbers()
    gc.disable()  # imported modules stay anyway; the engine turns collection on again
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here is linear algebra: no threads for it
    if hasattr(signal, "SIGUSR1"):
        # A SIGUSR1 before the run, or after it, must not end the process.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    code = run_command(args)
    if args is None and not _others_at_work():
        # All that a run opened is closed: the interpreter need not be taken apart, which costs 6 of the 140 ms of a small run.
        atexit._run_exitfuncs()
        _flush()
        os._exit(code)
    _flush()
    gc.unfreeze()  # files that others left open are closed when the interpreter collects what holds them
    sys.exit(code)


def _others_at_work() -> bool:
    """Whether somebody needs the end of the interpreter: a thread, a debugger or profiler, ``python -i``, or code that is not ours."""
    watched = sys.gettrace() is not None or sys.getprofile() is not None or bool(sys.flags.inspect)
    # It finds the components of other distributions, which may have left files open.
    foreign = "importlib.metadata" in sys.modules
    return watched or foreign or threading.active_count() > 1


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
