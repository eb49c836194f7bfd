"""tcp and unix behind an adverse proxy: the bytes are cut, held up and joined in every way, and the output is that of a file."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.testing import chunks
from tests.connectors.peers import SCHEMA, Running, Server, adverse_proxy, dialled, local, receive_all, send


def measured(rows: int) -> bytes:
    chance = random.Random(rows)
    lines = []
    for number in range(rows):
        key = chance.choice(["a", '"b,c"', '"line\nbreak"', "päron", '"say ""hi"""', ""])
        quantity = chance.choice(["", "x", str(chance.randrange(10_000)), "7,7"])
        lines.append(f"{number * 40 + chance.randrange(300)},{key},{quantity}\r\n")
    return b"ts,key,qty\r\n" + "".join(lines).encode()


def windows(source: af.Flow) -> af.Flow:
    summed = source.window(af.tumbling("1s"), by=["key"], n="count(*)", total="sum(qty)").named("w")
    out = summed.to("null", name="out", format="csv")
    late = out["w.late"].to("null", name="late", format="json")
    return late["rows.rejected"].to("null", name="rejected", format="json")


WINDOWED: dict[str, Any] = {
    "name": "rows",
    "format": "csv",
    "schema": {"ts": "timestamp[ms]", **SCHEMA},
    "time": "ts",
    "watermark_delay": "100ms",
}


def outcome(running: Running, name: str) -> dict[str, Any]:
    """What the sinks got; of rejected records all but the name of the stream."""
    rejected = [
        (row["record"], row["reason"], row["position"].removeprefix(name))
        for row in running.records("rejected")
    ]
    return {"out": running.sinks["out"].data, "late": running.sinks["late"].data, "rejected": rejected}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["listen", "connect"])
def test_an_adverse_proxy_changes_nothing(run, kind: str, tmp_path: Path, seed: int, mode: str) -> None:
    data = measured(400)
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    before = "" if kind == "tcp" else str(tmp_path / "proxy")

    async def from_file() -> dict[str, Any]:
        async with Running(windows(af.source("file", path=str(path), **WINDOWED))) as running:
            await running.end()
            return outcome(running, str(path))

    async def listening() -> dict[str, Any]:
        source = af.source(kind, listen=local(kind, tmp_path), **WINDOWED)
        async with Running(windows(source)) as running:
            address = await running.address()
            async with adverse_proxy(address, seed, before) as proxy:
                with await dialled(proxy) as peer:
                    for piece in chunks(data, seed, 3000):
                        await send(peer, piece)
                    peer.shutdown(socket.SHUT_WR)
                    assert await receive_all(peer) == b""  # the source has read the end
            counted = await running.stop()
            assert counted["sources"]["rows"]["bytes"] == len(data)
            name = running.records("rejected")[0]["position"].rsplit(":", 1)[0]
            return outcome(running, name)

    async def connecting() -> dict[str, Any]:
        with Server(kind, tmp_path) as server:
            async with (
                adverse_proxy(server.address, seed, before) as proxy,
                Running(windows(af.source(kind, connect=proxy, **WINDOWED))) as running,
            ):
                with await server.accepted() as peer:
                    for piece in chunks(data, seed, 3000):
                        await send(peer, piece)
                await running.end()
                return outcome(running, proxy)

    expected = run(from_file())
    assert len(expected["rejected"]) > 50
    assert expected["late"]
    assert run(listening() if mode == "listen" else connecting(), seconds=60) == expected
