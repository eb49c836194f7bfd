"""The control socket of a run's process, and its client: one line in, one JSON document out, then the connection is closed.

The socket is a file ``PID.sock`` (0600) in a directory of the user (0700): ``$XDG_RUNTIME_DIR/asyncflow``, or ``asyncflow-UID`` in the
directory for temporary files where there is none.  These modes are the protection: a directory that others can enter is refused.

Invariants: a request changes nothing; a client that sends no request, too long a request, or does not take the answer is closed after
``SECONDS``; more than ``MOST_CLIENTS`` at a time are refused; the file is removed when the run ends.
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
"""The first byte of an error text that is sent in place of an answer."""
REQUEST_BYTES = 256
SECONDS = 5.0
MOST_CLIENTS = 8
MOST_ANSWER_BYTES = 64 << 20
MAX_PATH_BYTES = 107
"""The longest address of a unix socket, without its final zero."""
SUFFIX = ".sock"


def directories() -> list[str]:
    """The directories where control sockets of this user may be, the first choice first."""
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime):
        found.append(os.path.join(runtime, "asyncflow"))
    temporary = os.environ.get("TMPDIR", "")
    found.append(os.path.join(temporary if os.path.isabs(temporary) else "/tmp", f"asyncflow-{os.geteuid()}"))
    return found


def fault_of(directory: str) -> str | None:
    """Why a directory cannot be trusted; None where it belongs to this user alone.  FileNotFoundError where there is none."""
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode):
        return f"{directory} is not a directory"
    if status.st_uid != os.geteuid():
        return f"{directory} belongs to another user"
    if status.st_mode & 0o077:
        return f"{directory} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}, not 0700)"
    return None


class Control:
    """The server.  ``answer`` gives the document; it is called in the loop, once a request."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._path = ""
        self._made: tuple[int, int] | None = None

    async def open(self) -> None:
        """Listens; OSError with the reasons where no directory can be used."""
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
                    # A dead process of the same number left the file.
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
        """Closes all connections and removes the file."""
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
        except Exception as error:  # the run must go on
            return FAULT + f"{type(error).__name__}: {error}".encode()


# -- asking ----------------------------------------------------------------------------------------------------------------


class ControlSocket(Struct, frozen=True):
    """A control socket: its process and its directory."""

    pid: int
    directory: str


def found() -> list[ControlSocket]:
    """The control sockets in order of process; sockets of dead processes are removed."""
    there: dict[int, ControlSocket] = {}
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
            there.setdefault(int(number), ControlSocket(int(number), directory))
    return [there[pid] for pid in sorted(there)]


def _is_left(directory: str, name: str, pid: int) -> bool:
    """Whether a dead process left the socket.  Its number may be another process's by now; a socket just made may not listen yet."""
    if not is_running(pid):
        return _refuses(directory, name)
    try:
        age = time.time() - os.lstat(os.path.join(directory, name)).st_mtime
    except OSError:
        return False
    return age > SECONDS and _refuses(directory, name)


def is_running(pid: int) -> bool:
    """Whether there is a process of that number, of any user."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def ask(asked: ControlSocket, seconds: float = 2 * SECONDS) -> bytes:
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
    """The address to bind or connect to: the path, or a shorter form where the path is beyond the system's limit."""
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
    """Whether the socket has no listener."""
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
