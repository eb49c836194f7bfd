"""Pipes, terminals, sockets and devices, read and written without blocking.  Used by stdin, stdout, pipes opened as files, tcp and unix.

Bytes go straight between the kernel and the caller's buffer.  While a caller waits in ``read_into``, the loop's readiness callback reads
into the caller's buffer; otherwise nothing is read, so a slow consumer fills the kernel's buffer and backpressure reaches the peer.

Invariants: nothing blocks the loop; a descriptor that is always ready gives the loop a turn every ``TURN_BYTES``; bytes read for a
cancelled caller come first in the next read; ``O_NONBLOCK`` is never left on a description that another process shares.
"""

from __future__ import annotations

import array
import asyncio
import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable
from weakref import WeakValueDictionary

from asyncflow.connectors.contract import Buffer, ByteStream

TURN_BYTES = 1 << 20
PIPE_BYTES = 1 << 20

# The peer broke the connection off; EIO is a terminal that hung up.
_PEER_LOST = (
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EIO,
)


def is_pollable(fd: int) -> bool:
    """Whether the descriptor can make a caller wait; a regular file cannot."""
    return not stat.S_ISREG(os.fstat(fd).st_mode)


def private_description(fd: int, flags: int) -> tuple[int, Callable[[], None]]:
    """A non-blocking descriptor of the file behind ``fd``, and the function that closes it.

    The file is opened anew through /proc where the system allows that, so that no other process sees ``O_NONBLOCK``.  Else (a socket, a
    terminal of another user) the shared description is made non-blocking and set back at the end.
    """
    try:
        own = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        own = os.dup(fd)
        was_blocking = os.get_blocking(own)
        os.set_blocking(own, False)

        def give_back() -> None:
            os.set_blocking(own, was_blocking)
            os.close(own)

        return own, give_back
    return own, lambda: os.close(own)


_turns: WeakValueDictionary[tuple[int, int, int], asyncio.Lock] = WeakValueDictionary()


def turn_at(fd: int) -> asyncio.Lock:
    """The lock of the file behind ``fd``: sinks of one run that share a pipe write whole batches in turn."""
    status = os.fstat(fd)
    key = (id(asyncio.get_running_loop()), status.st_dev, status.st_ino)
    return _turns.setdefault(key, asyncio.Lock())


def enlarge_pipe(fd: int) -> None:
    """Asks for a pipe buffer of ``PIPE_BYTES``: fewer, larger reads.  Where the system refuses, the pipe stays as it is."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode) and hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < PIPE_BYTES:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass


class DescriptorStream(ByteStream):
    """Reads a non-blocking descriptor.  ``release`` is called once, at close.  ``wait_first``: the first read waits until the loop reports
    the descriptor as readable; a named pipe without a writer yet would else look ended.
    """

    def __init__(self, fd: int, name: str, release: Callable[[], None], *, wait_first: bool = False) -> None:
        self.name = name
        self.error = ""
        self.position_bytes = 0
        self._fd = fd
        self._release: Callable[[], None] | None = release
        self._waiting: tuple[asyncio.Future[int], memoryview | None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # set while the loop watches the descriptor
        self._more_likely = not wait_first
        # A named pipe without a writer is not reported as ended to a description opened since: only reading
        # tells; nor does libuv report a socket again once it was broken off, though it still holds bytes.
        kind = os.fstat(fd).st_mode
        self._always_try = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)
        self._unclaimed = b""
        self._ended = False
        self._left_bytes: int | None = (
            None  # after finish(): how much of what the kernel held is still to come
        )
        self._bytes_since_turn = 0

    def fileno(self) -> int:
        return self._fd

    async def read_into(self, buffer: memoryview) -> int:
        if self._bytes_since_turn >= TURN_BYTES:
            self._bytes_since_turn = 0
            await asyncio.sleep(0)  # before the read: a cancellation here must not cost bytes
        if self._unclaimed:
            count = min(len(self._unclaimed), len(buffer))
            buffer[:count] = self._unclaimed[:count]
            self._unclaimed = self._unclaimed[count:]
            return count
        if self._left_bytes is not None:
            return self._read(buffer[: self._left_bytes]) or 0
        if self._ended or self._release is None:
            return 0
        if self._more_likely:
            got = self._read(buffer)
            if got is not None:
                return got
        return await self._arrived(buffer)

    def finish(self) -> None:
        """Ends the stream in order: the bytes that the kernel holds now are still read."""
        if self._ended or self._release is None or self._left_bytes is not None:
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | getattr(select, "POLLRDHUP", 0))
        events = sum(event for _, event in poll.poll(0))
        if events & select.POLLERR:
            # The connection broke: no more can come, and reading to the end gives the reason.
            self._on_readable()
            return
        ended_by_peer = events & (select.POLLHUP | getattr(select, "POLLRDHUP", 0))
        self._left_bytes = _bytes_held(self._fd)
        if not ended_by_peer:
            self.error = "stopped"
        self._on_readable()
        self._wake_with_end()

    @property
    def at_hand(self) -> bool:
        """Whether the next read needs no new bytes: some are kept here, or the stream is at its end."""
        return bool(self._unclaimed) or self._ended or self._left_bytes is not None or self._release is None

    async def readable(self) -> None:
        """Returns once there may be bytes, or the end.  One caller waits at a time, here or in ``read_into``."""
        await self._arrived(None)

    def break_off(self, error: str) -> None:
        """Ends the stream now, with ``error``; bytes that were not read are dropped."""
        if not self._ended and self._release is not None:
            self.error = error
            self._ended = True
            self._left_bytes = None
            self._unwatch()
            self._wake_with_end()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        if self._release is None:
            return
        self._unwatch()
        release, self._release = self._release, None
        self._left_bytes = None
        self._wake_with_end()
        release()

    async def _arrived(self, buffer: memoryview | None) -> int:
        """Waits until the descriptor is readable, then reads into the buffer, where one is given."""
        assert self._waiting is None, "two wait for one descriptor"
        loop = asyncio.get_running_loop()
        arrival: asyncio.Future[int] = loop.create_future()
        self._waiting = (arrival, buffer)
        if self._loop is None:
            loop.add_reader(self._fd, self._on_readable)
            self._loop = loop
        try:
            return await arrival
        except asyncio.CancelledError:
            if (
                buffer is not None
                and arrival.done()
                and not arrival.cancelled()
                and arrival.exception() is None
            ):
                self._unclaimed = bytes(buffer[: arrival.result()])
            raise
        finally:
            self._waiting = None

    def _on_readable(self) -> None:
        if self._waiting is None or self._waiting[0].done():
            self._unwatch()
            return
        arrival, buffer = self._waiting
        if buffer is None:
            arrival.set_result(0)
            return
        try:
            got = self._read(buffer if self._left_bytes is None else buffer[: self._left_bytes])
        except OSError as error:
            arrival.set_exception(error)
        else:
            if got is not None:
                arrival.set_result(got)

    def _read(self, view: memoryview) -> int | None:
        """The number of bytes read; 0 at the end, None when none have come yet."""
        if not len(view):
            return 0
        try:
            count = os.readv(self._fd, [view])
        except (BlockingIOError, InterruptedError):
            self._more_likely = self._always_try
            return None
        except OSError as error:
            if error.errno not in _PEER_LOST:
                raise
            self.error = os.strerror(error.errno or 0)
            count = 0
        self._more_likely = self._always_try or count == len(view)  # a short read took all that was there
        self._bytes_since_turn += count
        self.position_bytes += count
        if self._left_bytes is not None:
            self._left_bytes -= count
        if count == 0:
            self._ended = True
            self._unwatch()
        return count

    def _wake_with_end(self) -> None:
        if self._waiting is not None and not self._waiting[0].done():
            self._waiting[0].set_result(0)

    def _unwatch(self) -> None:
        if self._loop is not None:
            loop, self._loop = self._loop, None
            if not loop.is_closed():
                loop.remove_reader(self._fd)


class DescriptorWriter:
    """Writes a non-blocking descriptor.  One write at a time; failures are the system's OSError.  ``release`` is called once, at close."""

    def __init__(self, fd: int, release: Callable[[], None]) -> None:
        self._fd = fd
        self._release: Callable[[], None] | None = release
        self._waiting: asyncio.Future[None] | None = None
        self._bytes_since_turn = 0
        self.taken_bytes = 0

    async def write(self, data: Buffer) -> None:
        """Writes all of ``data``; waits for a slow reader.  When cancelled, a part may have been written."""
        view = memoryview(data).cast("B")
        while len(view):
            if self._release is None:
                raise OSError(errno.EBADF, "closed while writing")
            if self._bytes_since_turn >= TURN_BYTES:
                self._bytes_since_turn = 0
                await asyncio.sleep(0)
                continue
            try:
                count = os.write(self._fd, view)
            except (BlockingIOError, InterruptedError):
                await self._writable()
                self._bytes_since_turn = 0
            else:
                self._bytes_since_turn += count
                self.taken_bytes += count
                view = view[count:]

    def close(self) -> None:
        if self._release is None:
            return
        release, self._release = self._release, None
        if self._waiting is not None and not self._waiting.done():
            # The waiting write goes on, finds the writer closed and raises.
            asyncio.get_running_loop().remove_writer(self._fd)
            self._waiting.set_result(None)
        release()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = ready = loop.create_future()
        loop.add_writer(self._fd, _set, ready)
        try:
            await ready
        finally:
            self._waiting = None
            if self._release is not None:
                loop.remove_writer(self._fd)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _bytes_held(fd: int) -> int:
    """How many bytes can be read at once; 0 where the system does not tell."""
    import termios  # most runs have no use for this module

    held = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, held)
    except OSError:
        return 0
    return held[0]
