"""Several peers of one source: a wrong clock of one peer makes no rows of the others late."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

import asyncflow as af
from tests.connectors.peers import Running, dialled, local, place, send

SCHEMA = {"ts": "timestamp[ms]", "who": "string"}


def counted(kind: str, folder: Path) -> af.Flow:
    """Windows of a second; a tcp or unix socket, or datagrams."""
    listen = "127.0.0.1:0" if kind == "udp" else local(kind, folder)
    rows = af.source(kind, name="rows", listen=listen, format="json", schema=SCHEMA, time="ts")
    flow = (
        rows.window(af.tumbling("1s"), by=["who"], n="count(*)")
        .named("w")
        .to("null", name="out", format="json")
    )
    return flow["w.late"].to("null", name="late", format="json")


async def peer(kind: str, address: str) -> socket.socket:
    if kind != "udp":
        return await dialled(address)
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.connect(place(address))
    return opened


def row(who: str, ahead: float = 0.0) -> bytes:
    return b'{"ts": %d, "who": "%s"}\n' % ((time.time() + ahead) * 1000, who.encode())


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("kind", ["tcp", "unix", "udp"])
def test_one_that_is_hours_ahead_harms_nobody(run, tmp_path: Path, kind: str, stays: bool) -> None:
    async def play() -> dict:
        async with Running(counted(kind, tmp_path)) as running:
            address = await running.address()
            honest, rogue = await peer(kind, address), await peer(kind, address)
            await send(honest, row("honest"))
            await running.taken(1)
            for taken in (3, 5):
                await send(rogue, row("rogue", 23 * 3600))
                await running.taken(taken - 1)
                await send(honest, row("honest"))
                await running.taken(taken)
            if not stays:
                rogue.close()
            again = await peer(kind, address)
            await send(again, row("honest"))
            await running.taken(6)
            ledger = await running.stop()
            for each in (honest, again, rogue):
                each.close()
            assert sum(each["n"] for each in running.records() if each["who"] == "rogue") == 2
            return ledger

    ledger = run(play())
    assert ledger["stages"]["w"]["late"] == 0
    assert ledger["stages"]["w"]["aggregated"] == 6


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_where_all_are_ahead_windows_close(run, tmp_path: Path, kind: str) -> None:
    """Clocks in a wrong time zone: the one that is least far ahead says how far the source has come."""

    async def play() -> None:
        async with Running(counted(kind, tmp_path)) as running:
            address = await running.address()
            here, there = await peer(kind, address), await peer(kind, address)
            for number, (socket_, who, ahead) in enumerate(
                [(here, "here", 7000), (there, "there", 7100), (here, "here", 7300), (there, "there", 7210)]
            ):
                await send(socket_, row(who, ahead))
                await running.taken(number + 1)
            await running.until(lambda: len(running.records()) == 2)
            assert [each["who"] for each in running.records()] == ["here", "there"]
            here.close()
            there.close()
            ledger = await running.stop()
            assert ledger["stages"]["w"]["late"] == 0

    run(play())


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_one_alone_goes_by_its_own_time(run, tmp_path: Path, kind: str) -> None:
    """What comes by a socket is late where it would be in a file, also where the time is ahead of the clock."""

    async def play() -> None:
        async with Running(counted(kind, tmp_path)) as running:
            alone = await peer(kind, await running.address())
            for number, ahead in enumerate((7200, 7210, 7203)):
                await send(alone, row("alone", ahead))
                await running.taken(number + 1)
            await running.until(lambda: len(running.records()) == 1 and len(running.records("late")) == 1)
            await running.stop()
            alone.close()

    run(play())
