"""Connectors of somebody else's: a source and a sink in a distribution of their own, without a change to any file of asyncflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncflow.cli import run_command
from tests import strangers

COUNTER = '''"""Connector ``counter``: numbers, one a line."""

from typing import Annotated

import msgspec

from asyncflow.connectors.contract import ByteSource, ByteStream


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far to count."""

    upto: Annotated[int, msgspec.Meta(ge=1, description="The last number.")]


class Counter(ByteSource, ByteStream):
    name = "counter"

    def __init__(self, upto):
        self._rest = "".join(f"{number}\\n" for number in range(1, upto + 1)).encode()

    async def streams(self):
        yield self

    async def read_into(self, buffer):
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    async def aclose(self):
        self._rest = b""


def open_source(options):
    return Counter(options.upto)
'''

DROPBOX = '''"""Connector ``dropbox``: a file for all that is written."""

from pathlib import Path

import msgspec

from asyncflow.connectors.contract import SinkConnector


class SinkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to."""

    folder: str


class Dropbox(SinkConnector):
    def __init__(self, folder):
        self._path = Path(folder, "dropped")

    async def open(self):
        self._file = self._path.open("wb")

    async def write(self, data, *, origin=None):
        self._file.write(data)

    async def aclose(self, *, failed=False):
        self._file.close()


def open_sink(options):
    return Dropbox(options.folder)
'''


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    points = {
        "asyncflow.sources": {"counter": "toys.counter"},
        "asyncflow.sinks": {"dropbox": "toys.dropbox"},
    }
    modules = {"toys/__init__.py": "", "toys/counter.py": COUNTER, "toys/dropbox.py": DROPBOX}
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
