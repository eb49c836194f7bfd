"""``asyncflow why``: asks running pipelines for their status."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from asyncflow.cli.options import VERBOSE, files
from asyncflow.cli.outcome import FAILED, tell_error
from asyncflow.printable import printable_lines, tell

if TYPE_CHECKING:
    from asyncflow.runtime.base.status import RunStatus

LONGEST_PID = 64
"""Digits of a process id at most; longer targets are files."""


@click.command()
@click.argument("target", metavar="FILE|PID", shell_complete=files)
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON, one a line.")
@VERBOSE
def why(target: str, as_json: bool, verbose: bool) -> int:
    """Say what a running pipeline waits for.

    Which input holds the watermark, since when, what it last said, how many rows wait, and what would release the next window.
    PID: of an asyncflow run; FILE: all runs of that pipeline file.  They are this user's on this machine; nothing is changed by asking.
    """
    from asyncflow.errors import ConnectorError
    from asyncflow.runtime.inspect.why_text import text

    try:
        is_pid = target.isdecimal() and len(target) <= LONGEST_PID
        answers = _of_process(int(target)) if is_pid else _of_file(target)
    except ConnectorError as error:
        tell_error(str(error))
        return FAILED
    for position, status in enumerate(answers):
        if as_json:
            click.echo(_encoded(status))
            continue
        if position:
            click.echo()
        click.echo(printable_lines(text(status)), nl=False)
    return 0


def _of_process(pid: int) -> list[RunStatus]:
    from asyncflow.errors import ConnectorError
    from asyncflow.runtime.inspect import control

    for each in control.found():
        if each.pid == pid:
            return [_decoded(pid, control.ask(each))]
    if not control.is_running(pid):
        raise ConnectorError(f"there is no process {pid}")
    where = " or ".join(control.directories())
    raise ConnectorError(
        f"process {pid} is no asyncflow run of yours that can be asked (no {pid}{control.SUFFIX} in {where})"
    )


def _of_file(file: str) -> list[RunStatus]:
    from asyncflow.errors import ConnectorError
    from asyncflow.runtime.inspect import control

    path = os.path.realpath(file)
    answers, unanswered = [], []
    for each in control.found():
        try:
            status = _decoded(each.pid, control.ask(each))
        except ConnectorError as error:
            unanswered.append(str(error))
            continue
        if status.file == path:
            answers.append(status)
    for reason in unanswered:
        tell(f"warning: {reason}")
    if not answers:
        if not os.path.exists(path):
            raise ConnectorError(f"{file}: there is no such file, and no run of it")
        raise ConnectorError(f"no run of {path} is under way (start one: asyncflow run {file})")
    return answers


def _decoded(pid: int, answer: bytes) -> RunStatus:
    import msgspec

    from asyncflow.errors import ConnectorError
    from asyncflow.runtime.base.status import RunStatus

    try:
        return msgspec.json.decode(answer, type=RunStatus)
    except msgspec.DecodeError as error:
        raise ConnectorError(
            f"process {pid} gave an answer that is not understood (another version of asyncflow?)"
        ) from error


def _encoded(status: RunStatus) -> str:
    import msgspec

    found: Any = msgspec.json.encode(status)
    return str(found, "utf-8")
