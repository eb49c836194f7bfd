"""Errors of sockets name table, address and reason; a connection that was broken off is no end of input."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow.connectors._addresses import TcpEndpoint
from asyncflow.connectors._descriptors import DescriptorStream
from asyncflow.connectors.tcp import SourceOptions, open_source
from asyncflow.errors import ConnectorError, RetriableError
from asyncflow.runtime import Run
from tests.connectors.peers import CSV, SCHEMA, Running, Server, delivered, dialled, hung_up, reset, send


def arrived(stream: DescriptorStream) -> None:
    """Returns, without a turn of the loop, once the system knows of the reset."""
    while not hung_up(stream):
        pass


REFUSED = {"tcp": "connection refused", "unix": "no such file or directory"}


def test_a_sink_that_cannot_connect_is_named_and_says_why(run, kind: str, tmp_path: Path) -> None:
    with Server(kind, tmp_path) as gone:
        address = gone.address
    flow = af.source([{"n": 1}], schema={"n": "int64"}).to(kind, name="out", connect=address, format="json")

    async def main() -> None:
        with pytest.raises(RetriableError) as caught:
            await Run(flow.checked()).execute()
        assert str(caught.value) == f"out: {address}: cannot connect: {REFUSED[kind]}"

    run(main())


def test_a_source_that_cannot_connect_to_tell_its_columns_is_named(run, kind: str, tmp_path: Path) -> None:
    with Server(kind, tmp_path) as gone:
        address = gone.address
    flow = af.source(kind, name="rows", connect=address, format="csv").to("null", format="json")

    async def main() -> None:
        with pytest.raises(RetriableError) as caught:
            await Run(flow.checked()).execute()
        assert str(caught.value) == f"rows: {address}: cannot connect: {REFUSED[kind]}"

    run(main())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (TimeoutError(), "no answer"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed ('10.0.0.1', 1)"), "no route to host"),
        (OSError("something else"), "something else"),
    ],
)
def test_why_it_cannot_connect_is_said_in_the_systems_words(error: OSError, reason: str) -> None:
    assert TcpEndpoint("h:1").connect_fault(error).message == f"h:1: cannot connect: {reason}"


def test_a_sink_whose_address_is_taken_is_named(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as other:
            flow = af.source([{"n": 1}], schema={"n": "int64"})
            flow = flow.to(kind, name="out", listen=other.address, format="json")
            with pytest.raises(ConnectorError, match=r"^out: .*cannot listen there: address already in use$"):
                await Run(flow.checked()).execute()

    run(main())


def test_a_record_and_a_reset_that_come_at_once_are_both_seen(run) -> None:
    async def main() -> None:
        source = open_source(SourceOptions(listen="127.0.0.1:0"))
        streams = source.streams()
        [address] = await source.started()
        peer = await dialled(address)
        stream = await anext(streams)
        assert isinstance(stream, DescriptorStream)
        buffer = memoryview(bytearray(64))
        reading = asyncio.ensure_future(stream.read_into(buffer))
        await asyncio.sleep(0)
        peer.setblocking(True)
        peer.sendall(b"b,12")
        delivered(peer)
        reset(peer)
        arrived(stream)
        assert await reading == 4
        assert await stream.read_into(buffer) == 0
        assert stream.error == "Connection reset by peer"
        await source.aclose()
        await streams.aclose()

    run(main())


@pytest.mark.parametrize("waiting", [True, False])
def test_a_reset_that_nobody_has_seen_when_the_run_stops_is_no_end(run, waiting: bool) -> None:
    """The bytes before it are still read, then the stream says that it was broken off."""

    async def main() -> None:
        source = open_source(SourceOptions(listen="127.0.0.1:0"))
        streams = source.streams()
        [address] = await source.started()
        peer = await dialled(address)
        stream = await anext(streams)
        assert isinstance(stream, DescriptorStream)
        buffer = memoryview(bytearray(64))
        if waiting:
            await send(peer, b"a,1\n")
            assert await stream.read_into(buffer) == 4
        peer.setblocking(True)
        peer.sendall(b"b,12")
        delivered(peer)
        reset(peer)
        arrived(stream)  # no turn of the loop until the stop
        await source.stop()
        assert await stream.read_into(buffer) == 4
        assert bytes(buffer[:4]) == b"b,12"
        assert await stream.read_into(buffer) == 0
        assert stream.error == "Connection reset by peer"
        await source.aclose()
        await streams.aclose()

    run(main())


def test_stopped_with_a_reset_pending_the_part_of_a_record_is_not_decoded(run, tmp_path: Path) -> None:
    async def main() -> None:
        flow = af.source("tcp", name="rows", listen="127.0.0.1:0", format=CSV, schema=SCHEMA)
        flow = flow.to("null", name="out", format="json")
        flow = flow["rows.rejected"].to("null", name="rejected", format="json")
        async with Running(flow) as running:
            peer = await dialled(await running.address())
            await send(peer, b"a,1\n")
            await running.taken(1)
            [ours] = running.run.wiring.sources[0].connector.peers  # type: ignore[attr-defined]
            peer.setblocking(True)
            peer.sendall(b"b,12")
            delivered(peer)
            reset(peer)
            arrived(ours)
            await running.stop()
            assert running.records() == [{"key": "a", "qty": 1}]
            assert [(r["record"], r["reason"]) for r in running.records("rejected")] == [
                ("b,12", "cut short: Connection reset by peer")
            ]

    run(main())
