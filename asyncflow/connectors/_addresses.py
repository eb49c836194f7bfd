"""Addresses of sockets: ``host:port`` for tcp and udp, a path for unix.  Binds and connects; errors are worded for the user."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import re
import socket
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from asyncflow.connectors._paths import file_taken
from asyncflow.connectors._peers import keep_alive
from asyncflow.errors import ConnectorError, RetriableError
from asyncflow.model.capabilities import Resource

BACKLOG = 1024
MAX_PATH_BYTES = 107
CONNECT_TIMEOUT_SECONDS = 10

_log = logging.getLogger("asyncflow.connectors")
_HOST_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>\d{1,5})\Z")
_RETRIABLE = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENOENT,
    errno.EAGAIN,
)


def parse_host_port(text: str) -> tuple[str, int]:
    """``"host:port"``, ``"[::1]:port"``, ``":port"`` (all interfaces) to host and port.  Raises ValueError that shows the form."""
    match = _HOST_PORT.match(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(
            f'not an address: {text!r} (write it like "127.0.0.1:9000", "example.org:9000", "[::1]:9000", ":9000")'
        )
    host = match["bracketed"] or match["host"]
    return ("" if host == "*" else host), int(match["port"])


def format_host_port(address: tuple[Any, ...]) -> str:
    """A socket address as ``host:port``, brackets around IPv6."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening(kind: str, text: str) -> Iterator[Resource]:
    """The address to listen at as a resource; ``kind`` is ``tcp`` or ``udp``.  Port 0 takes nothing; all interfaces clash with each."""
    host, port = parse_host_port(text)
    if port == 0:
        return
    if not host:
        hosts = ["4", "6"]
    elif host.lower() == "localhost":
        hosts = ["4 127.0.0.1", "6 ::1"]
    else:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:  # which addresses a name has, only asking would tell
            hosts = [f"4 {host.lower()}", f"6 {host.lower()}"]
        else:
            hosts = [f"{address.version} {address}".removesuffix(" 0.0.0.0").removesuffix(" ::")]
    every = tuple(f"{port} {each} " for each in hosts if len(each) == 1)
    names = frozenset(f"{port} {each}" for each in hosts)
    yield Resource(kind, names, text, "listen", "taken", matches=lambda name: name.startswith(every))


def tell_if_open(addresses: Iterable[Any]) -> None:
    """Logs the sockets that listen on all interfaces.  ``addresses``: as the system gives them."""
    found = [name for name in addresses if isinstance(name, tuple) and name[0] in ("0.0.0.0", "::")]
    if found:
        where = ", ".join(map(format_host_port, found))
        _log.info("listening on all interfaces: %s", where)


async def bind_all(host: str, port: int, kind: socket.SocketKind, text: str) -> list[socket.socket]:
    """Non-blocking sockets bound to every address of ``host``; one port for all of them.  ConnectorError when none could be bound."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=kind, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConnectorError(f"{text}: {error.strerror or error}") from error
    bound: list[socket.socket] = []
    fault: OSError | None = None
    for family, kind_, protocol, _, address in dict.fromkeys(found):
        try:
            opened = socket.socket(family, kind_, protocol)
        except OSError as error:  # a family that this machine does not have
            fault = error
            continue
        try:
            opened.setblocking(False)
            if kind == socket.SOCK_STREAM:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            shared_port = bound[0].getsockname()[1] if bound else port
            opened.bind((address[0], shared_port, *address[2:]))
        except OSError as error:
            opened.close()
            if error.errno != errno.EADDRNOTAVAIL:
                for other in bound:
                    other.close()
                raise ConnectorError(
                    f"{text}: cannot listen there: {os.strerror(error.errno or 0).lower()}"
                ) from error
            fault = error
        else:
            bound.append(opened)
    if not bound:
        raise ConnectorError(f"{text}: cannot listen there: {fault.strerror if fault else 'no such address'}")
    return bound


class Endpoint(ABC):
    """A place that stream sockets listen at or connect to.  ``text`` is how the user wrote it."""

    text: str

    @abstractmethod
    def __init__(self, text: str) -> None:
        """ValueError where ``text`` is no address."""

    @abstractmethod
    def taken(self) -> Iterator[Resource]:
        """What a listener there takes for itself."""

    @abstractmethod
    async def bind(self) -> list[socket.socket]:
        """Non-blocking sockets, bound; ConnectorError says why not."""

    @abstractmethod
    def unbind(self) -> None:
        """Removes the file that binding made, if any."""

    @abstractmethod
    async def connect(self) -> socket.socket:
        """A non-blocking connected socket.  RetriableError when nobody answers at the address, ConnectorError for other failures."""

    @abstractmethod
    def name(self, address: Any, number: int) -> str:
        """A name for the ``number``-th peer."""

    def connect_fault(self, error: OSError) -> ConnectorError:
        kind = (
            RetriableError
            if error.errno in _RETRIABLE or isinstance(error, (TimeoutError, socket.gaierror))
            else ConnectorError
        )
        return kind(f"{self.text}: cannot connect: {_reason(error)}")


class TcpEndpoint(Endpoint):
    """``host:port``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._host, self._port = parse_host_port(text)

    def taken(self) -> Iterator[Resource]:
        return listening("tcp", self.text)

    async def bind(self) -> list[socket.socket]:
        return await bind_all(self._host, self._port, socket.SOCK_STREAM, self.text)

    def unbind(self) -> None:
        return None

    async def connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        fault: OSError = OSError(errno.EADDRNOTAVAIL, "no such address")
        try:
            found = await loop.getaddrinfo(self._host or "localhost", self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self.connect_fault(error) from error
        for family, kind, protocol, _, address in found:
            try:
                connected = await _connect(socket.socket(family, kind, protocol), address)
            except OSError as error:
                fault = error
            else:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                keep_alive(connected)
                return connected
        raise self.connect_fault(fault) from fault

    def name(self, address: Any, number: int) -> str:
        return format_host_port(address)


class UnixEndpoint(Endpoint):
    """A path in the file system.  A socket of a process that is gone is removed; any other file stays and is an error."""

    def __init__(self, text: str) -> None:
        if not text or len(os.fsencode(os.path.expanduser(text))) > MAX_PATH_BYTES:
            raise ValueError(f"not a socket path: {text!r} (1 to {MAX_PATH_BYTES} bytes)")
        self.text = text
        self._path = os.path.expanduser(text)
        self._bound: tuple[int, int] | None = None

    def taken(self) -> Iterator[Resource]:
        return file_taken(self.text, "listen", written=True, use="taken")

    async def bind(self) -> list[socket.socket]:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.setblocking(False)
        try:
            try:
                opened.bind(self._path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not await self._is_stale():
                    raise
                os.unlink(self._path)
                opened.bind(self._path)
            status = os.stat(self._path)
            self._bound = (status.st_dev, status.st_ino)
        except OSError as error:
            opened.close()
            raise ConnectorError(
                f"{self.text}: cannot listen there: {(error.strerror or str(error)).lower()}"
            ) from error
        except BaseException:
            opened.close()
            raise
        return [opened]

    def unbind(self) -> None:
        bound, self._bound = self._bound, None
        with contextlib.suppress(OSError):
            status = os.stat(self._path)
            if bound == (status.st_dev, status.st_ino):
                os.unlink(self._path)

    async def connect(self) -> socket.socket:
        try:
            return await _connect(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self._path)
        except OSError as error:
            raise self.connect_fault(error) from error

    def name(self, address: Any, number: int) -> str:
        return f"{self.text}#{number}"

    async def _is_stale(self) -> bool:
        if not stat.S_ISSOCK(os.stat(self._path).st_mode):
            return False
        try:
            (await _connect(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), self._path)).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


def _reason(error: OSError) -> str:
    """The reason in the system's words; an event loop's own text repeats the address."""
    if isinstance(error, TimeoutError) and not error.errno:
        return "no answer"
    if isinstance(error, socket.gaierror) or (error.errno or 0) <= 0:
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno or 0).lower()


async def _connect(opened: socket.socket, address: Any) -> socket.socket:
    """Connects ``opened``; closes it when that fails or is cancelled."""
    try:
        opened.setblocking(False)
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await asyncio.get_running_loop().sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened
