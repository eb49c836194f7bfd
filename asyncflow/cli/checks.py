"""``asyncflow check``, ``test`` and ``verify``: whether a pipeline is right."""

from __future__ import annotations

from pathlib import Path

import click

from asyncflow.cli.options import FILE, OVERRIDES, VERBOSE
from asyncflow.cli.outcome import FAILED
from asyncflow.cli.running import loaded
from asyncflow.printable import hidden, printable, tell


@click.command()
@FILE
@OVERRIDES
@VERBOSE
def check(file: str, overrides: tuple[str, ...], verbose: bool) -> int:
    """Read, type and wire the pipeline FILE and print every problem.  Opens nothing outside."""
    plan = loaded(file, overrides)
    counts = [(len(plan.sources), "source"), (len(plan.stages), "stage"), (len(plan.sinks), "sink")]
    tell(f"{file}: ok ({', '.join(f'{n} {noun}' + ('' if n == 1 else 's') for n, noun in counts)})")
    return 0


@click.command()
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


@click.command()
@FILE
@OVERRIDES
@VERBOSE
def verify(file: str, overrides: tuple[str, ...], verbose: bool) -> int:
    """Run the pipeline FILE several times, its input cut and spread over workers differently, and compare what its sinks get.

    Reads bounded input and writes nothing.  Exit code 0 if all runs gave the same bytes, 1 if one differs.
    """
    from asyncflow.runtime.base.loop import run_in_loop
    from asyncflow.runtime.checks.verify import verify as runs_of

    plan = loaded(file, overrides)

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
