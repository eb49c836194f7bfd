"""The control socket of a run's process, and asking it: one line in, one JSON document out, and it closes.

The socket is a file ``PID.sock``, 0600, in a directory of the user's own, 0700: ``$XDG_RUNTIME_DIR/asyncflow``, or where that is not to
be had ``asyncflow-UID`` in the directory for temporary files.  These modes are the protection; a directory that is not ours alone is
refused.

Invariants: a client can do no more than ask; who says nothing, too much or does not take the answer is left after ``SECONDS``; more than
``MOST_CLIENTS`` at once are turned away; the file goes as the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from asyncflow.errors import ConnectorError

REQUEST = b"why\n"
FAULT = b"!"
"""Begins what is said in an answer's place where there is none."""
REQUEST_BYTES = 256
SECONDS = 5.0
MOST_CLIENTS = 8
MOST_ANSWER_BYTES = 64 << 20
MAX_PATH_BYTES = 107
"""Of a unix socket's address, less its final zero."""
SUFFIX = ".sock"


def directories() -> list[str]:
    """Where control sockets of this user may be, the first choice first."""
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        found.append(os.path.join(runtime, "asyncflow"))
    temporary = os.environ.get("TMPDIR", "")
    found.append(os.path.join(temporary if os.path.isabs(temporary) else "/tmp", f"asyncflow-{os.geteuid()}"))
    return found


def fault_of(directory: str) -> str | None:
    """Why a directory cannot be trusted; None where it is ours alone.  Raises FileNotFoundError where there is none."""
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        return f"{directory} is not a directory"
    if status.st_uid != os.geteuid():
        return f"{directory} belongs to another user"
    if status.st_mode & 0o077:
        return f"{directory} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}, not 0700)"
    return None


class Control:
    """The answering side.  ``answer`` gives the document; it is called in the loop, once for each that asks."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._path = ""
        self._made: tuple[int, int] | None = None

    async def open(self) -> None:
        """Listens; OSError, which says why, where that cannot be."""
        faults = []
        for directory in directories():
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o700)
                if (fault := fault_of(directory)) is not None:
                    faults.append(fault)
                    continue
                listening = self._bound(directory)
            except OSError as error:
                faults.append(f"{directory}: {(error.strerror or str(error)).lower()}")
                continue
            try:
                self._server = await asyncio.start_unix_server(
                    self._serve, sock=listening, limit=REQUEST_BYTES, backlog=MOST_CLIENTS
                )
            except BaseException:
                listening.close()
                raise
            return
        raise OSError("; ".join(faults))

    def _bound(self, directory: str) -> socket.socket:
        name = f"{os.getpid()}{SUFFIX}"
        self._path = os.path.join(directory, name)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(directory, name) as address:
                try:
                    opened.bind(address)
                except OSError as error:
                    # A process of our number that is gone left it.
                    if error.errno != errno.EADDRINUSE or not _refuses(directory, name):
                        raise
                    os.unlink(self._path)
                    opened.bind(address)
            os.chmod(self._path, 0o600)
            opened.setblocking(False)
            status = os.lstat(self._path)
            self._made = status.st_dev, status.st_ino
        except BaseException:
            opened.close()
            raise
        return opened

    async def close(self) -> None:
        """Leaves whoever asks, and takes the file away."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        with contextlib.suppress(OSError):
            status = os.lstat(self._path)
            if self._made == (status.st_dev, status.st_ino):
                os.unlink(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if len(self._clients) >= MOST_CLIENTS or task is None:
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(SECONDS):
                    asked = await reader.readline()
                    if asked == REQUEST:
                        writer.write(self._said())
                        await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()
            self._clients.discard(task)

    def _said(self) -> bytes:
        try:
            return self._answer()
        except Exception as error:  # whatever it is, the run goes on
            return FAULT + f"{type(error).__name__}: {error}".encode()


# -- asking ----------------------------------------------------------------------------------------------------------------


class Found(Struct, frozen=True):
    """A control socket: the process, and the directory that it is in."""

    pid: int
    directory: str


def found() -> list[Found]:
    """The control sockets that there are, by process; those that a process left that is gone are taken away."""
    there: dict[int, Found] = {}
    for directory in directories():
        try:
            if fault_of(directory) is not None:
                continue
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            number = name.removesuffix(SUFFIX)
            if not name.endswith(SUFFIX) or not number.isdecimal():
                continue
            if _is_left(directory, name, int(number)):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, name))
                continue
            there.setdefault(int(number), Found(int(number), directory))
    return [there[pid] for pid in sorted(there)]


def _is_left(directory: str, name: str, pid: int) -> bool:
    """A process that is gone left the socket; its number may be another's by now.  One just made may not listen yet."""
    if not is_running(pid):
        return _refuses(directory, name)
    try:
        age = time.time() - os.lstat(os.path.join(directory, name)).st_mtime
    except OSError:
        return False
    return age > SECONDS and _refuses(directory, name)


def is_running(pid: int) -> bool:
    """Whether there is a process of that number, ours or not."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def ask(asked: Found, seconds: float = 2 * SECONDS) -> bytes:
    """The answer of a process; ConnectorError where there is none."""
    answer = bytearray()
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened,
            _address(asked.directory, f"{asked.pid}{SUFFIX}") as address,
        ):
            opened.settimeout(seconds)
            opened.connect(address)
            opened.sendall(REQUEST)
            while part := opened.recv(1 << 16):
                answer += part
                if len(answer) > MOST_ANSWER_BYTES:
                    raise ConnectorError(f"process {asked.pid} says too much")
    except TimeoutError as error:
        raise ConnectorError(
            f"process {asked.pid} did not answer within {seconds:g} s: it is busy"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConnectorError(f"process {asked.pid} cannot be asked: {reason}") from error
    if answer.startswith(FAULT):
        raise ConnectorError(
            f"process {asked.pid} cannot say: {answer[len(FAULT) :].decode(errors='replace')}"
        )
    if not answer:
        raise ConnectorError(f"process {asked.pid} gave no answer")
    return bytes(answer)


@contextlib.contextmanager
def _address(directory: str, name: str) -> Iterator[str]:
    """What to bind or connect to: the path, or a shorter one where the system's limit for addresses is below it."""
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield path
        return
    if not os.path.isdir("/proc/self/fd"):
        raise OSError(errno.ENAMETOOLONG, f"the path is longer than {MAX_PATH_BYTES} bytes")
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{name}"
    finally:
        os.close(opened)


def _refuses(directory: str, name: str) -> bool:
    """Nobody listens there."""
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened,
            _address(directory, name) as address,
        ):
            opened.settimeout(1.0)
            opened.connect(address)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
