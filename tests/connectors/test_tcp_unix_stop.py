"""A stop while a sink waits for a reader: the run ends, and the error counts the rows that were not delivered."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import asyncflow as af
from asyncflow.errors import ConnectorError
from asyncflow.runtime.stages import shutdown
from tests.connectors.peers import CSV, SCHEMA, Running, Server, dialled, local, receive_all, say


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "PATIENCE_SECONDS", 0.2)


def nobody(kind: str, folder: Path) -> dict[str, Any]:
    """Options of a sink that connects again and again to where nobody is."""
    with Server(kind, folder) as gone:
        return {"connect": gone.address, "reconnect": True, "max_reconnect_delay": "20ms"}


def relay(kind: str, folder: Path, source: dict[str, Any] | None = None, **sink: Any) -> af.Flow:
    """From a listening source to a sink of sockets."""
    options = {"listen": "127.0.0.1:0", "format": CSV, "schema": SCHEMA} if source is None else source
    return af.source("tcp", name="rows", **options).to(kind, name="out", **{"format": "json", **sink})


# -- before the sink is open ------------------------------------------------------------------------------------------------------


def test_stopped_while_it_connects_for_the_first_time_it_ends_at_once(run, kind: str, tmp_path: Path) -> None:
    """With the patience as it is: nothing was read, so there is nothing to wait for."""

    async def main() -> None:
        async with Running(relay(kind, tmp_path, **nobody(kind, tmp_path))) as running:
            await running.until(lambda: running.run.wiring.sinks)
            await asyncio.sleep(0)
            counted = await running.stop()
            assert counted["sources"]["rows"]["rows"] == counted["sinks"]["out"]["rows"] == 0

    run(main(), seconds=shutdown.PATIENCE_SECONDS)


def test_stopped_while_it_connects_what_was_read_to_tell_the_schema_is_said_to_be_lost(
    run, kind: str, tmp_path: Path
) -> None:
    async def main() -> None:
        source = {"listen": "127.0.0.1:0", "format": "csv"}
        async with Running(
            relay(kind, tmp_path, source, **nobody(kind, tmp_path)), stop_timeout=0.2
        ) as running:
            await running.until(
                lambda: running.run.wiring.sources and running.run.wiring.sources[0].connector.addresses
            )
            await say(running.run.wiring.sources[0].connector.addresses[0], b"key,qty\na,1\n")
            await running.until(lambda: running.run.wiring.sinks)
            with pytest.raises(ConnectorError, match=r"^stopped, and stop_timeout \(200ms\) was too short"):
                await running.stop()

    run(main())


def test_stopped_while_it_connects_it_goes_on_once_somebody_is_there(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        options = nobody(kind, tmp_path)
        source = {"listen": "127.0.0.1:0", "format": "csv"}
        async with Running(relay(kind, tmp_path, source, **options)) as running:
            await running.until(
                lambda: running.run.wiring.sources and running.run.wiring.sources[0].connector.addresses
            )
            await say(running.run.wiring.sources[0].connector.addresses[0], b"key,qty\na,1\n")
            await running.until(lambda: running.run.wiring.sinks)
            running.run.stop()
            with Server(kind, tmp_path, options["connect"]) as server, await server.accepted() as reader:
                assert await receive_all(reader) == b'{"key":"a","qty":1}\n'
            assert (await running.end())["sinks"]["out"]["rows"] == 1

    run(main())


# -- while it runs ----------------------------------------------------------------------------------------------------------------


async def endless() -> AsyncIterator[dict[str, Any]]:
    n = 0
    while True:
        yield {"n": n}
        n += 1
        await asyncio.sleep(0)


def test_rows_that_nobody_comes_for_fail_the_stopped_run(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(relay(kind, tmp_path, listen=local(kind, tmp_path)), stop_timeout=0.2) as running:
            await say(await running.address(), b"a,1\n")
            await running.taken(1)
            with pytest.raises(ConnectorError, match=r"^stopped, and stop_timeout .* lost: 1 row for out$"):
                await running.stop()

    run(main())


def test_whoever_comes_soon_after_the_stop_still_gets_them(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Running(relay(kind, tmp_path, listen=local(kind, tmp_path))) as running:
            await say(await running.address(), b"a,1\n")
            await running.taken(1)
            running.run.stop()
            with await dialled(await running.address("out")) as reader:
                assert await receive_all(reader) == b'{"key":"a","qty":1}\n'
            assert (await running.end())["sinks"]["out"]["rows"] == 1

    run(main())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("format", ["json", "csv"])
def test_without_rows_a_listening_sink_ends_well(run, kind: str, tmp_path: Path, format: str) -> None:
    """A header alone is nothing that is lost."""

    async def main() -> None:
        async with Running(relay(kind, tmp_path, listen=local(kind, tmp_path), format=format)) as running:
            await running.address()
            assert (await running.stop())["sinks"]["out"]["rows"] == 0

    run(main())


def test_stopped_while_it_connects_again_the_run_fails(run, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        with Server(kind, tmp_path) as server:
            options = {"connect": server.address, "reconnect": True, "max_reconnect_delay": "20ms"}
            flow = af.source(endless(), name="rows", schema={"n": "int64"})
            flow = flow.to(kind, name="out", format="json", **options)
            async with Running(flow, stop_timeout=0.2) as running:
                (await server.accepted()).close()
                server.__exit__()
                out = running.run.wiring.sinks[0].connector
                await running.until(lambda: out.connecting.failures > 1)  # type: ignore[attr-defined]
                with pytest.raises(ConnectorError, match=r"stop_timeout .* lost: [\d,]+ rows? for out$"):
                    await running.stop()

    run(main())


def test_a_signal_ends_the_command_that_cannot_connect_yet(kind: str, tmp_path: Path) -> None:
    address = nobody(kind, tmp_path)["connect"]
    (tmp_path / "pipeline.toml").write_text(
        '[sources.rows]\ntype = "stdin"\nformat = "lines"\n'
        f'[sinks.out]\ntype = "{kind}"\nconnect = "{address}"\nreconnect = true\nformat = "json"\n'
    )
    command = [sys.executable, "-m", "asyncflow", "run", "pipeline.toml"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "cannot connect: " in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
