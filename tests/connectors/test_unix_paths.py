"""Paths of unix sockets: left over, in use, not a socket, removed at the end; a path of another process is never touched."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.connectors import unix
from asyncflow.errors import ConnectorError, PipelineError
from asyncflow.runtime import Run
from tests.connectors.peers import CSV, SCHEMA, Running, Server, dialled, receive_all, say


def listening(path: Path, role: str) -> af.Flow:
    """A flow whose source, or whose sink, listens there."""
    if role == "source":
        made = af.source("unix", name="rows", listen=str(path), format=CSV, schema=SCHEMA)
        return made.to("null", name="out", format="json")
    return af.source([{"key": "a"}], name="feed").to("unix", name="rows", listen=str(path), format="json")


roles = pytest.mark.parametrize("role", ["source", "sink"])


async def used(path: Path, role: str) -> None:
    """Runs such a flow to its end, with one peer."""
    async with Running(listening(path, role)) as running:
        address = await running.address()
        if role == "source":
            await say(address, b"a,1\n")
            await running.taken(1)
            await running.stop()
            assert running.sinks["out"].data == b'{"key":"a","qty":1}\n'
        else:
            with await dialled(address) as reader:
                assert await receive_all(reader) == b'{"key":"a"}\n'
            await running.end()


@roles
def test_a_path_that_a_dead_process_left_is_taken_over_and_taken_away(run, tmp_path: Path, role: str) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    run(used(path, role))
    assert not path.exists()
    run(used(path, role))  # and again from nothing
    assert not path.exists()


@pytest.mark.parametrize("what", ["a file", "a directory", "a link to a file", "a broken link"])
def test_what_is_no_socket_is_left_alone(run, tmp_path: Path, what: str) -> None:
    path, other = tmp_path / "socket", tmp_path / "other"
    if what == "a directory":
        path.mkdir()
    elif what == "a file":
        path.write_text("mine")
    else:
        path.symlink_to(other)
        if what == "a link to a file":
            other.write_text("mine")

    async def main() -> None:
        opened = unix.open_source(unix.SourceOptions(listen=str(path)))
        with pytest.raises(ConnectorError, match=r"socket: cannot listen there: "):
            await opened.started()  # type: ignore[union-attr]
        await opened.aclose()

    run(main())
    assert os.path.lexists(path)
    assert not path.is_socket()
    assert not path.is_file() or path.read_text() == "mine"


def test_a_path_in_use_stays_with_its_owner(run, tmp_path: Path) -> None:
    async def main() -> None:
        with Server("unix", tmp_path) as owner:
            with pytest.raises(
                ConnectorError, match=r"/socket: cannot listen there: address already in use$"
            ):
                await Run(listening(Path(owner.address), "sink").checked()).execute()
            with await dialled(owner.address):
                (await owner.accepted()).close()

    run(main())


@roles
def test_a_path_that_became_somebody_elses_is_not_taken_away(run, tmp_path: Path, role: str) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        async with Running(listening(path, role)) as running:
            await running.address()
            path.rename(tmp_path / "ours")
            with Server("unix", tmp_path, str(path)) as owner:
                assert running.task is not None
                running.task.cancel()
                await asyncio.wait([running.task])
                with await dialled(owner.address):
                    (await owner.accepted()).close()

    run(main())


def test_the_longest_path_there_can_be(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(used(Path("x" * 107), "source"))
    assert not Path("x" * 107).exists()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/such/folder/socket", r"^rows: no/such/folder/socket: cannot listen there: no such file"),
        ("x" * 108, r"not a socket path: 'x+' \(1 to 107 bytes\)"),
    ],
)
def test_paths_that_cannot_be(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        await Run(listening(Path(path), "sink").checked()).execute()

    with pytest.raises((ConnectorError, PipelineError), match=message):
        run(main())
