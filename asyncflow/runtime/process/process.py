"""One plan as a whole process: its event loop, signals, progress, warnings and the ``--stats`` file.

The first SIGINT or SIGTERM asks for an orderly end: reading stops, what was read flows out, windows close.  Exit 0, or 1 where bounded
input was not read to its end.  The second signal ends the process at once, also while a kernel works (``_kernels.signals``).  SIGUSR1 and
requests on the control socket are answered with the status of the run.  Only data goes to stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from asyncflow._kernels import signals as signals_kernel
from asyncflow.connectors._paths import file_taken
from asyncflow.errors import PipelineError, Problem
from asyncflow.model.batch import END_OF_TIME, NO_TIME
from asyncflow.plan import graph
from asyncflow.plan.resources import resources_of
from asyncflow.plan.tables import Plan, Sink, Source
from asyncflow.printable import hidden, printable_lines, tell, write_error
from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.base.loop import run_in_loop
from asyncflow.runtime.base.memory import default_memory
from asyncflow.runtime.base.workers import Workers
from asyncflow.runtime.run.run import Run

if TYPE_CHECKING:
    from asyncflow.runtime.base.status import RunStatus
    from asyncflow.runtime.inspect.control import Control
    from asyncflow.runtime.process.progress import Snapshot

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_FREE_BYTES = 32 << 20

CONTROL_AFTER_SECONDS = 0.1
"""A shorter run has no control socket."""
PROGRESS_AFTER_SECONDS = 0.5
"""A shorter run shows no progress."""


def run_plan(
    plan: Plan,
    *,
    stats: str | None = None,
    progress: str = "auto",
    workers: Workers = 1,
    quiet: bool = False,
    verbose: bool = False,
    stop_after_seconds: float | None = None,
    file: str | None = None,
    fresh: bool = False,
) -> int:
    """Runs the plan to its end and gives the exit code 0; raises the first failure.  The options are those of ``asyncflow run``.

    ``fresh``: the checkpoints of earlier runs are moved aside.  ``stop_after_seconds``: as if the first signal came then.  ``file``: the
    pipeline file, as ``asyncflow why`` looks it up.
    """
    if stats not in (None, "-"):
        _check_stats(plan, stats, file)
    shown = progress == "on" or (progress == "auto" and not quiet and _free_terminal(plan))

    checkpoints = None
    if plan.checkpoints is not None:
        from asyncflow.runtime.process import resume

        checkpoints = resume.opened(plan, fresh=fresh, quiet=quiet)
        if checkpoints.finished:
            run_in_loop(partial(resume.finish_again, plan, checkpoints))
            return 0
    gc.freeze()
    gc.enable()
    _keep_freed_memory()

    async def main() -> None:
        memory = default_memory() if plan.memory_bytes is None else None
        run = Run(plan, workers=workers, memory=memory, fails_without_rows=True, checkpoints=checkpoints)
        try:
            with _signals(run, partial(_tell_why, run, file)), _notes(shown=not quiet):
                async with _control(partial(_why_answer, run, file), verbose=verbose):
                    await _execute(run, shown, stop_after_seconds)
        finally:
            if stats is not None:
                _write_stats(run.ledger, stats)
            if run.in_order and not quiet:
                for line in warnings(run):
                    tell(line)
        if verbose:
            write_error(printable_lines(summary(run)) + "\n")

    try:
        run_in_loop(main)
    finally:
        if checkpoints is not None:
            checkpoints.close()
    return 0


def _check_stats(plan: Plan, path: str, file: str | None) -> None:
    """PipelineError where the ledger would overwrite a file that the plan reads or writes, or the pipeline file."""
    tables: list[Source | Sink] = [*plan.sources, *plan.sinks]
    itself = file_taken(file, "", written=False) if file else ()
    for own in file_taken(path, "", written=True):
        if any(own.clashes(other) for other in itself):
            raise PipelineError([Problem("--stats", f"{path} is the pipeline file")])
        for table in tables:
            for other in filter(own.clashes, resources_of(table)):
                room = "source" if isinstance(table, Source) else "sink"
                problem = f"{path} is {other.use} by the {room} {table.name!r} already"
                raise PipelineError([Problem("--stats", problem)])


def _standing(run: Run, file: str | None) -> RunStatus:
    from asyncflow.runtime.inspect.why import status

    found = status(run)
    return replace(found, name=hidden(found.name), pid=os.getpid(), file=file)


def _why_answer(run: Run, file: str | None) -> bytes:
    import msgspec

    return msgspec.json.encode(_standing(run, file))


def _tell_why(run: Run, file: str | None) -> None:
    """Writes the status of the run to stderr, above the progress display."""
    from asyncflow.runtime.inspect.why_text import text

    write_error(printable_lines(text(_standing(run, file))))


@contextlib.asynccontextmanager
async def _control(answer: Callable[[], bytes], *, verbose: bool) -> AsyncIterator[None]:
    """The control socket, while the run lasts; a failure to open it does not fail the run."""
    control: Control | None = None

    async def open_it() -> None:
        nonlocal control
        await asyncio.sleep(CONTROL_AFTER_SECONDS)
        from asyncflow.runtime.inspect.control import Control

        control = Control(answer)
        try:
            await control.open()
        except Exception as error:
            if verbose:
                tell(f"warning: asyncflow why cannot ask this run: {error}")

    opening = asyncio.create_task(open_it())
    try:
        yield
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        if control is not None:
            await control.close()


def _keep_freed_memory() -> None:
    """Tells glibc to keep freed large blocks: a run allocates the same sizes again and again, and the system would zero each page anew."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        mallopt(parameter, KEPT_FREE_BYTES)


async def _execute(run: Run, shown: bool, stop_after_seconds: float | None) -> None:
    display = asyncio.create_task(_display(run)) if shown else None
    timer = None
    if stop_after_seconds is not None:
        timer = asyncio.get_running_loop().call_later(stop_after_seconds, run.stop)
    try:
        await run.execute()
    finally:
        if timer is not None:
            timer.cancel()
        if display is not None:
            display.cancel()
            await asyncio.gather(display, return_exceptions=True)


async def _display(run: Run) -> None:
    await asyncio.sleep(PROGRESS_AFTER_SECONDS)
    from asyncflow.runtime.process import progress

    await progress.show(lambda: snapshot(run))


def snapshot(run: Run) -> Snapshot:
    """The run at this moment, for the progress display."""
    from asyncflow.runtime.process.progress import Snapshot

    counts = run.ledger.sources.values()
    watermarks = [each.watermark for each in counts if NO_TIME < each.watermark < END_OF_TIME]
    return Snapshot(
        rows=sum(each.rows for each in counts),
        position_bytes=run.position_bytes,
        total_bytes=run.total_bytes,
        bounded=run.bounded,
        watermark_ns=min(watermarks, default=None),
        open_windows=run.open_windows,
        rejected=sum(each.rejected for each in counts),
    )


def _free_terminal(plan: Plan) -> bool:
    """stderr is a terminal, and no sink writes rows to the terminal of stdout."""
    if not sys.stderr.isatty():
        return False
    return not os.isatty(1) or not any(map(_writes_stdout, plan.sinks))


def _writes_stdout(sink: Sink) -> bool:
    return any(each.kind == "descriptor" and "1" in each.names for each in resources_of(sink))


class _NoteHandler(logging.Handler):
    """Writes log records to stderr, with ``warning:`` before warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        tell(f"warning: {text}" if record.levelno >= logging.WARNING else text)


@contextlib.contextmanager
def _notes(*, shown: bool) -> Iterator[None]:
    """Log records of the run on stderr (a sequence's hand-over, a table that could not be read again), where ``shown``."""
    handler = _NoteHandler() if shown else logging.NullHandler()
    loggers = [
        logging.getLogger(f"asyncflow.{name}")
        for name in ("sequence", "refresh", "connectors", "checkpoints")
    ]
    told = [(logger, logger.level) for logger in loggers if not logger.isEnabledFor(logging.INFO)]
    for logger, _ in told:
        logger.propagate = False
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in told:
            logger.removeHandler(handler)
            logger.propagate = True
            logger.setLevel(level)


@contextlib.contextmanager
def _signals(run: Run, tell_why: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    stopped = False

    def on_signal(number: int) -> None:
        nonlocal stopped
        if stopped:
            os._exit(128 + number)
        stopped = True
        run.stop()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    asked_before = signal.getsignal(signal.SIGUSR1)
    try:
        for number in numbers[:2]:
            loop.add_signal_handler(number, on_signal, number)
        loop.add_signal_handler(signal.SIGUSR1, tell_why)
        signals_kernel.end_at_second(*numbers[:2])
    except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or no such signals here
        yield
        return
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        signal.signal(signal.SIGUSR1, asked_before or signal.SIG_DFL)  # None: not set in Python


def _write_stats(ledger: Ledger, target: str) -> None:
    """Writes the ledger as JSON.  A failure is a warning and does not change the exit code."""
    import json

    text = json.dumps(ledger.to_dict()) + "\n"
    if target == "-":
        write_error(text)
        return
    try:
        with open(target, "w", opener=_without_waiting) as out:
            out.write(text)
    except (OSError, ValueError) as error:
        unread = getattr(error, "errno", 0) == errno.ENXIO and _is_fifo(target)
        reason = "nobody reads the pipe" if unread else getattr(error, "strerror", None) or error
        tell(f"warning: --stats {target}: cannot be written: {reason}")


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _without_waiting(path: str, flags: int) -> int:
    """Opens without waiting: a pipe without a reader is ENXIO.  Writes to the descriptor wait as usual."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def warnings(run: Run) -> Iterator[str]:
    """Warnings at the end of a run: the first rejected records, and the counts of side outputs that nobody reads."""
    read = graph.read_names(run.plan)
    for line in run.warnings:
        if f"{line.partition(':')[0]}.rejected" not in read:
            yield f"warning: {line}"
    for name, counts in run.ledger.sources.items():
        for kind, count in (("rejected", counts.rejected), ("future", counts.future)):
            if count and f"{name}.{kind}" not in read:
                yield f"warning: {name}: {count:,} {kind} (the table {name}.{kind} would hold them)"
    for name, stage in run.ledger.stages.items():
        late = stage.ways.get("late", 0)
        if late and f"{name}.late" not in read:
            yield f"warning: {name}: {late:,} late (the table {name}.late would hold them)"


def summary(run: Run) -> str:
    """The run's ledger as a few lines of text."""
    ledger = run.ledger
    plural = "" if run.workers == 1 else "s"
    lines = [f"{ledger.name}: {ledger.seconds:.3f} s, {run.workers} worker{plural}"]
    for room in ("sources", "stages", "sinks"):
        for name, counts in ledger.to_dict()[room].items():
            lines.append(
                f"  {name}: "
                + ", ".join(f"{key} {value}" for key, value in counts.items() if value is not None)
            )
    return "\n".join(lines)
