"""Reads byte sources the way the runtime does: streams in turn or side by side, into a reused buffer."""

from __future__ import annotations

import asyncio

from asyncflow.connectors.contract import ByteSource, ByteStream


async def read_stream(stream: ByteStream, buffer_bytes: int = 4096) -> bytes:
    """All bytes of a stream; closes it."""
    buffer, data = memoryview(bytearray(buffer_bytes)), bytearray()
    try:
        while count := await stream.read_into(buffer):
            data += buffer[:count]
    finally:
        await stream.aclose()
    return bytes(data)


async def read_source(source: ByteSource, buffer_bytes: int = 4096) -> list[tuple[str, bytes]]:
    """Name and bytes of every stream, to the source's end; closes the source."""
    read: list[tuple[str, bytes]] = []

    async def one(stream: ByteStream) -> None:
        read.append((stream.name, await read_stream(stream, buffer_bytes)))

    try:
        if not source.concurrent:
            async for stream in source.streams():
                await one(stream)
        else:
            async with asyncio.TaskGroup() as group:
                async for stream in source.streams():
                    group.create_task(one(stream))
    finally:
        await source.aclose()
    return read


async def eventually(condition, *, seconds: float = 20) -> None:
    """Returns once ``condition()`` is true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is the outside's, no event tells of it
            await asyncio.sleep(0.005)
