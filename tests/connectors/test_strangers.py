"""Connectors of another distribution: a source and a sink, without a change to any file of asyncflow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncflow.cli import run_command
from asyncflow.doors.pipeline_file.toml import load
from asyncflow.errors import ConnectorError
from asyncflow.plan.tables import Plan
from asyncflow.runtime.run.run import Run
from asyncflow.runtime.stages import shutdown
from tests import strangers

COUNTER = '''"""Connector ``counter``: numbers, one a line."""

import asyncio
from typing import Annotated

import msgspec

from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.model.capabilities import DescribesSource, SourceCapabilities


class SourceOptions(msgspec.Struct, DescribesSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far to count."""

    upto: Annotated[int, msgspec.Meta(ge=1, description="The last number.")]
    ends: bool = True

    def capabilities(self):
        return SourceCapabilities(bounded=self.ends, rereadable=True, guarantee="at-least-once")


class Counter(ByteSource, ByteStream):
    name = "counter"

    def __init__(self, upto, ends):
        self.bounded = ends
        self._rest = "".join(f"{number}\\n" for number in range(1, upto + 1)).encode()
        self._ended = asyncio.Event()
        if ends:
            self._ended.set()

    async def streams(self):
        yield self

    async def read_into(self, buffer):
        if not self._rest:
            await self._ended.wait()
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    async def aclose(self):
        self._ended.set()


def open_source(options):
    return Counter(options.upto, options.ends)
'''

DROPBOX = '''"""Connector ``dropbox``: a file for all that is written, which somebody fetches."""

import asyncio
from pathlib import Path

import msgspec

from asyncflow.connectors.contract import SinkConnector
from asyncflow.model.capabilities import DescribesSink, Resource, SinkCapabilities


class SinkOptions(msgspec.Struct, DescribesSink, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to."""

    folder: str
    fetched: bool = True
    guarantee_text = "exactly-once, where it is fetched once"

    def capabilities(self):
        taken = Resource("dropbox", frozenset((self.folder,)), self.folder, "folder", "filled")
        return SinkCapabilities(may_wait=not self.fetched, guarantee="exactly-once", resources=(taken,))


class Dropbox(SinkConnector):
    def __init__(self, folder, fetched):
        self._path = Path(folder, "dropped")
        self._fetched = fetched

    async def open(self):
        self._file = self._path.open("wb")

    async def write(self, data, *, origin=None):
        self._file.write(data)

    async def aclose(self, *, failed=False):
        self._file.close()
        if not self._fetched and not failed:
            await asyncio.Event().wait()


def open_sink(options):
    return Dropbox(options.folder, options.fetched)
'''

SILENT = '''"""Connector ``silent``: declares nothing, and waits for ever for somebody who takes its rows."""

import asyncio

from asyncflow.connectors.contract import SinkConnector


class Silent(SinkConnector):
    async def write(self, data, *, origin=None):
        await asyncio.Event().wait()

    async def aclose(self, *, failed=False):
        pass


def open_sink(options):
    return Silent()
'''


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    points = {
        "asyncflow.sources": {"counter": "toys.counter"},
        "asyncflow.sinks": {"dropbox": "toys.dropbox", "silent": "toys.silent"},
    }
    modules = {
        "toys/__init__.py": "",
        "toys/counter.py": COUNTER,
        "toys/dropbox.py": DROPBOX,
        "toys/silent.py": SILENT,
    }
    folder = strangers.distribution(tmp_path / "site", points, modules)
    with strangers.installed(folder):
        yield folder


def pipeline(folder: Path, upto: object = 1000) -> str:
    path = folder / "pipeline.toml"
    path.write_text(f"""
[sources.numbers]
type = "counter"
upto = {upto}
format = {{ type = "csv", header = false }}
schema = {{ n = "int64" }}
[stages.sum]
type = "window"
aggregates = {{ total = "sum(n)", rows = "count(*)" }}
[sinks.out]
type = "dropbox"
folder = "{folder}"
""")
    return str(path)


@pytest.mark.usefixtures("site")
def test_they_run_from_a_pipeline_file(tmp_path: Path) -> None:
    assert run_command(["run", pipeline(tmp_path)]) == 0
    assert json.loads((tmp_path / "dropped").read_text()) == {"total": 500_500, "rows": 1000}


@pytest.mark.usefixtures("site")
def test_they_are_checked_and_listed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", pipeline(tmp_path, 0)]) == 2
    assert "sources.numbers.upto" in capfd.readouterr().err
    assert run_command(["list", "sources", "sinks"]) == 0
    listed = capfd.readouterr().out
    assert "upto (integer) required: The last number." in listed
    assert "a file for all that is written" in listed
    assert "guarantee: exactly-once, where it is fetched once" in listed


@pytest.mark.usefixtures("site")
def test_two_of_them_do_not_share_what_cannot_be_shared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path(pipeline(tmp_path))
    path.write_text(
        path.read_text()
        + f"""
[sinks.again]
type = "dropbox"
folder = "{tmp_path}"
"""
    )
    assert run_command(["check", str(path)]) == 2
    assert f"sinks.again.folder: {tmp_path} is filled by the sink 'out' already" in capfd.readouterr().err


@pytest.mark.usefixtures("site")
def test_a_lookup_join_knows_whether_they_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pipeline.toml"
    numbers = """format = { type = "csv", header = false }
schema = { n = "int64" }
"""
    path.write_text(f"""
[sources.left]
type = "counter"
upto = 3
{numbers}
[sources.right]
type = "counter"
upto = 3
ends = false
{numbers}
[stages.both]
type = "join"
left = "left"
right = "right"
on = ["n"]
[sinks.out]
type = "null"
""")
    assert run_command(["check", str(path)]) == 2
    assert "its source 'right' (counter) may never end" in capfd.readouterr().err
    path.write_text(path.read_text().replace("ends = false", ""))
    assert run_command(["run", str(path)]) == 0


@pytest.mark.usefixtures("site")
def test_their_runs_are_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["verify", pipeline(tmp_path)]) == 0
    assert not (tmp_path / "dropped").exists()


async def stopped_once_read(plan: Plan) -> Run:
    """Runs a plan whose source does not end, and stops the run when all rows came; the run, after its end."""
    run = Run(plan)
    running = asyncio.create_task(run.execute())
    async with asyncio.timeout(60):
        while not running.done() and "numbers" not in run.ledger.sources:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0)
        while not running.done() and run.ledger.sources["numbers"].rows < 1000:  # noqa: ASYNC110
            await asyncio.sleep(0)
        run.stop()
        await running
    return run


def unending(folder: Path, sink: str) -> Plan:
    text = (
        Path(pipeline(folder)).read_text().replace("upto", "ends = false\nupto").partition("[sinks.out]")[0]
    )
    return load(f'stop_timeout = "1s"\n{text}[sinks.out]\n{sink}')


@pytest.mark.usefixtures("site")
def test_a_sink_that_may_wait_for_ever_ends_once_its_rows_are_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "PATIENCE_SECONDS", 0.05)
    plan = unending(tmp_path, f'type = "dropbox"\nfetched = false\nfolder = "{tmp_path}"')
    run = asyncio.run(stopped_once_read(plan))
    assert run.ledger.sinks["out"].rows == 1
    assert json.loads((tmp_path / "dropped").read_text())["rows"] == 1000


@pytest.mark.usefixtures("site")
def test_a_sink_that_declares_nothing_has_as_long_as_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r"stop_timeout \(1s\) was too short .* lost: 1 row for out"):
        asyncio.run(stopped_once_read(unending(tmp_path, 'type = "silent"')))
