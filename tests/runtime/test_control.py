"""The control socket: who may ask, what happens to those that misbehave, and what is left in the directory."""

# ruff: noqa: ASYNC240 - a look at a small file, now and then

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncflow.errors import ConnectorError
from asyncflow.runtime.inspect import control
from asyncflow.runtime.inspect.control import Control, ControlSocket


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the sockets, not made yet; the second choice is beside it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path / "run" / "asyncflow"


@pytest.fixture
def dead_pid() -> Iterator[int]:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    yield process.pid


@asynccontextmanager
async def opened(answer: bytes = b"{}") -> AsyncIterator[Control]:
    made = Control(lambda: answer)
    await made.open()
    try:
        yield made
    finally:
        await asyncio.wait_for(made.close(), 10)


async def asked(directory: Path) -> bytes:
    return await asyncio.to_thread(control.ask, ControlSocket(os.getpid(), str(directory)), 10.0)


async def said(directory: Path, request: bytes, *, end: bool = True) -> bytes:
    """What it answers to any bytes."""
    reader, writer = await asyncio.open_unix_connection(str(directory / f"{os.getpid()}.sock"))
    try:
        writer.write(request)
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def left_behind(directory: Path, pid: int) -> Path:
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{pid}.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    return path


async def test_only_the_user_can_get_at_it_and_it_goes(runtime: Path) -> None:
    async with opened(b'{"a": 1}'):
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
        path = runtime / f"{os.getpid()}.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asked(runtime) == b'{"a": 1}'
        assert await asyncio.to_thread(control.found) == [ControlSocket(os.getpid(), str(runtime))]
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize(
    "request_",
    [b"", b"why", b"WHY\n", b"GET / HTTP/1.1\r\n\r\n", b"\0\xff\n", b"x" * 100_000, b"why\nwhy\n" * 50_000],
)
async def test_whatever_a_client_says_the_next_one_is_answered(runtime: Path, request_: bytes) -> None:
    async with opened(b"{}"):
        assert await said(runtime, request_) in (b"", b"{}" if request_.startswith(b"why\n") else b"")
        assert await asked(runtime) == b"{}"


async def test_who_is_silent_is_left_and_does_not_hold_the_end_up(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened():
        silent = asyncio.create_task(said(runtime, b"wh", end=False))
        await asyncio.sleep(0)
        assert await asked(runtime) == b"{}"
    assert await silent == b""
    monkeypatch.setattr(control, "SECONDS", 0.05)
    async with opened():
        assert await said(runtime, b"wh", end=False) == b""


async def test_who_does_not_take_the_answer_is_left(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SECONDS", 0.05)
    async with opened(b"x" * (8 << 20)) as made:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(runtime / f"{os.getpid()}.sock"))
            client.sendall(control.REQUEST)
            async with asyncio.timeout(20):
                while not made._clients:  # noqa: ASYNC110 - whoever connects is no event
                    await asyncio.sleep(0.001)
                while made._clients:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)


async def test_many_at_once_are_turned_away_and_nobody_is_hurt(runtime: Path) -> None:
    async with opened(b"{}") as made:
        path = str(runtime / f"{os.getpid()}.sock")
        waiting = [await asyncio.open_unix_connection(path) for _ in range(control.MOST_CLIENTS)]
        async with asyncio.timeout(20):
            while len(made._clients) < control.MOST_CLIENTS:  # noqa: ASYNC110 - whoever connects is no event
                await asyncio.sleep(0.001)
        assert await said(runtime, control.REQUEST) == b""
        waiting[0][1].write(control.REQUEST)
        assert await asyncio.wait_for(waiting[0][0].read(), 10) == b"{}"
        assert await asked(runtime) == b"{}"
        for _, writer in waiting:
            writer.close()


async def test_an_answer_that_fails_is_told_to_who_asked(runtime: Path) -> None:
    def fails() -> bytes:
        raise ValueError("no idea")

    made = Control(fails)
    await made.open()
    try:
        with pytest.raises(ConnectorError, match="cannot say: ValueError: no idea"):
            await asked(runtime)
    finally:
        await made.close()


async def test_what_a_dead_process_left_is_taken_away_and_nothing_else(runtime: Path, dead_pid: int) -> None:
    stale = left_behind(runtime, dead_pid)
    note = runtime / "note.sock"
    note.write_text("mine")
    ours = left_behind(runtime, os.getpid())
    async with opened():  # a process of our own number left one: it is taken over
        assert await asked(runtime) == b"{}"
        assert [each.pid for each in await asyncio.to_thread(control.found)] == [os.getpid()]
    assert not stale.exists()
    assert not ours.exists()
    assert note.read_text() == "mine"


async def test_one_whose_number_is_another_processes_is_taken_away(runtime: Path) -> None:
    old, new = left_behind(runtime, os.getppid()), left_behind(runtime, os.getpid())
    os.utime(old, (0, 0))
    assert [each.pid for each in control.found()] == [os.getpid()]  # that one may be about to listen
    assert not old.exists() and new.exists()


async def test_one_that_answers_is_not_taken_over(runtime: Path) -> None:
    """In another namespace a process may have the same number: its socket stays, and ours is in the second place."""
    async with opened(b"first"):
        async with opened(b"second"):
            assert await asked(runtime) == b"first"
        assert await asked(runtime) == b"first"


async def test_a_file_put_in_its_place_is_left_alone(runtime: Path) -> None:
    path = runtime / f"{os.getpid()}.sock"
    async with opened():
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("what", ["open to others", "a link", "a file"])
async def test_a_directory_that_is_not_ours_alone_is_refused(
    runtime: Path, tmp_path: Path, what: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if what == "open to others":
        runtime.mkdir()
        runtime.chmod(0o750)
    elif what == "a link":
        runtime.symlink_to(elsewhere)
    else:
        runtime.write_text("")
    second = tmp_path / "tmp" / f"asyncflow-{os.geteuid()}"
    async with opened(b"{}"):
        assert await asked(second) == b"{}"
        assert list(elsewhere.iterdir()) == []
        assert stat.S_IMODE(second.stat().st_mode) == 0o700
    second.chmod(0o777)
    with pytest.raises(OSError, match=r"asyncflow-.* is open to other users \(mode 0777, not 0700\)"):
        await Control(lambda: b"").open()
    assert control.found() == []


async def test_a_path_longer_than_an_address_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with opened(b"{}"):
        assert (deep / "asyncflow" / f"{os.getpid()}.sock").is_socket()
        assert await asked(deep / "asyncflow") == b"{}"
        assert len(await asyncio.to_thread(control.found)) == 1
    assert list((deep / "asyncflow").iterdir()) == []


def test_without_a_runtime_directory_it_is_among_the_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    assert control.directories() == [f"/tmp/asyncflow-{os.geteuid()}"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert control.directories() == [f"/tmp/asyncflow-{os.geteuid()}"]


def test_which_processes_there_are(dead_pid: int) -> None:
    assert control.is_running(os.getpid())
    for pid in (dead_pid, 0, -1, 10**30):
        assert not control.is_running(pid)
