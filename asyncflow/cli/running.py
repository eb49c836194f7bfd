"""What ``run`` and ``agg`` do once their command line has been read; how a pipeline file is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncflow.plan.tables import Plan
    from asyncflow.runtime.base.workers import Workers


def loaded(file: str, overrides: Sequence[str]) -> Plan:
    """The plan of a pipeline file that is to be run; PipelineError with every problem."""
    from asyncflow.doors.pipeline_file.toml import load_file

    return load_file(file, overrides=overrides, sink_required=True)


def run_file(file: str, *, overrides: Sequence[str], **options: Any) -> int:
    """Runs a pipeline file and gives the exit code.  ``options``: of :func:`run_plan`."""
    plan = loaded(file, overrides)
    from asyncflow.runtime.process.process import run_plan

    return run_plan(plan, file=os.path.realpath(file), **options)


def aggregate(
    aggregates: tuple[str, ...],
    *,
    stats: str | None,
    progress: str,
    workers: Workers,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Runs a one-liner and gives the exit code.  ``options``: of :class:`AggOptions`."""
    from asyncflow.doors.oneliner import AggOptions, in_options, plan_of
    from asyncflow.errors import PipelineError
    from asyncflow.runtime.process.process import run_plan

    plan = plan_of(AggOptions(aggregates=aggregates, **options))
    try:
        return run_plan(plan, stats=stats, progress=progress, workers=workers, quiet=quiet, verbose=verbose)
    except PipelineError as error:
        raise in_options(error) from error
