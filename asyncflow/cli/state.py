"""``asyncflow state``: what the checkpoints of a pipeline hold, and whether they are whole."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from asyncflow.cli.options import VERBOSE
from asyncflow.cli.outcome import FAILED


@click.group()
def state() -> None:
    """Look at the checkpoints in a folder.  Nothing is changed, and a run may use the folder meanwhile."""


@state.command(name="list")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@VERBOSE
def list_(folder: str, verbose: bool) -> int:
    """List the checkpoints in DIR, the newest last: epoch, when it was made, how the run stood, its bytes, rows of state in each table."""
    from asyncflow.errors import AsyncflowError
    from asyncflow.model.durations import format_size
    from asyncflow.printable import printable_lines
    from asyncflow.state.directory import StateDirectory

    directory = StateDirectory(folder)
    code = 0
    for epoch in directory.epochs():
        try:
            contents = directory.contents(epoch)
        except FileNotFoundError:  # removed since
            continue
        except AsyncflowError as error:
            click.echo(printable_lines(f"{epoch:>10}  {error}"))
            code = FAILED
            continue
        made = datetime.fromtimestamp(contents.about.created_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows = {
            owner: sum(link.rows for part in held.parts for link in part.chain)
            for owner, held in contents.states.items()
            if held.parts
        }
        told = ", ".join(f"{owner} {count:,}" for owner, count in rows.items())
        size = format_size(directory.disk.size(directory.file(epoch)))
        click.echo(
            printable_lines(f"{epoch:>10}  {made}  {contents.about.status:<8}  {size:>9}  {told}".rstrip())
        )
    if not directory.epochs():
        click.echo("there are no checkpoints", err=True)
        return FAILED
    return code


@state.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@VERBOSE
def verify(folder: str, verbose: bool) -> int:
    """Read every byte of the checkpoints in DIR, and say of each whether it is whole."""
    from asyncflow.errors import AsyncflowError
    from asyncflow.printable import printable_lines
    from asyncflow.state.directory import StateDirectory

    directory = StateDirectory(folder)
    code = 0 if directory.epochs() else FAILED
    for epoch in directory.epochs():
        try:
            directory.check(epoch)
        except FileNotFoundError:
            continue
        except AsyncflowError as error:
            click.echo(printable_lines(f"{epoch:>10}  {error}"))
            code = FAILED
        else:
            click.echo(f"{epoch:>10}  whole")
    if not directory.epochs():
        click.echo("there are no checkpoints", err=True)
    return code
