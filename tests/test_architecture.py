"""ARCHITECTURE.md follows one record through the code: a real run passes the files that the page lists, and hands rows to no others."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import asyncflow as af
from asyncflow._kernels import MODE
from asyncflow.runtime import Run

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "asyncflow"
MOST_FILES = 12

BESIDE = re.compile(
    r"runtime/base/|runtime/ingest/(source|idleness|in_flight|buffers|foreign_streams|positions)\.py|runtime/edges/aligner\.py"
    r"|connectors/(_listen_source|_peers|_sockets|contract)\.py"  # limits of peers
    r"|runtime/wiring/|operators/(contract|raw|pieces|windows/grouped)\.py"  # columns handed over
    r"|formats/(_cells|contract)\.py|model/|_kernels/"
)
"""Code that also runs for each block: it keeps time, memory, order and limits, or picks columns."""

PIPELINE = """
[sources.numbers]
type = "tcp"
listen = "127.0.0.1:0"
format = { type = "csv", header = false }
schema = { ts = "timestamp[ms]", value = "int64" }
time = "ts"

[stages.sums]
type = "window"
window = { tumbling = "1s" }
aggregates = { total = "sum(value)" }

[sinks.out]
type = "tcp"
listen = "127.0.0.1:0"
format = { type = "csv", header = false }
"""


def stations() -> list[tuple[str, str]]:
    """The page's list: path in the package and the name that the page gives there."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    section = page.partition("## A record, from socket to sink")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. \[`[^`]+`\]\(asyncflow/([^)]+)\) `(\w+)`", section, re.MULTILINE)


def source_of(path: str) -> str:
    place = PACKAGE / path
    return (
        place.read_text()
        if place.is_file()
        else "".join(file.read_text() for file in place.glob("*.py*") if file.suffix != ".pyc")
    )


@contextmanager
def called(files: set[str]) -> Iterator[None]:
    """Collects the package's files whose functions are called meanwhile."""

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (path := Path(frame.f_code.co_filename)).is_relative_to(PACKAGE):
            files.add(str(path.relative_to(PACKAGE)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


async def passed() -> set[str]:
    """The files that records pass once all is open: a second of rows comes in, the second before goes out."""
    run = Run(af.load(PIPELINE).plan)
    running = asyncio.create_task(run.execute())
    connectors = [stage.connector for stage in (*run.wiring.sources, *run.wiring.sinks)]
    while len(connectors) < 2 or not all(connector.addresses for connector in connectors):
        await asyncio.sleep(0.01)
        connectors = [stage.connector for stage in (*run.wiring.sources, *run.wiring.sinks)]
    (host, _, port), (sink_host, _, sink_port) = (c.addresses[0].rpartition(":") for c in connectors)
    rows, reader = await asyncio.open_connection(sink_host, int(sink_port))
    _, writer = await asyncio.open_connection(host, int(port))
    files: set[str] = set()

    async def second(number: int) -> None:
        writer.write(f"{number * 1000},{number}\n".encode())
        if number:
            assert (await rows.readline()).split(b",")[-1] == f"{number - 1}\n".encode()

    for number in range(3):
        await second(number)
    with called(files):
        for number in range(3, 6):
            await second(number)
    writer.close()
    run.stop()
    await running
    reader.close()
    return files


async def test_a_record_passes_the_files_of_the_list() -> None:
    listed = [path for path, _ in stations()]
    assert 10 < len(listed) == len(set(listed)) <= MOST_FILES
    files = await passed()
    assert [path for path in listed if path.endswith(".py") and path not in files] == []
    if MODE == "reference":
        twins = {path: f"{path}/reference.py" for path in listed if not path.endswith(".py")}
        assert len(twins) == 3
        assert [path for path, twin in twins.items() if twin not in files] == []
    others = sorted(path for path in files - set(listed) if not BESIDE.match(path))
    assert others == [], "code that records pass is missing in the list, or belongs beside it"


def test_the_names_of_the_list_are_there() -> None:
    assert [(path, name) for path, name in stations() if not re.search(rf"\b{name}\b", source_of(path))] == []


def test_a_record_passes_the_kernels_of_the_list() -> None:
    """The same run on the plain twins: there a kernel's calls are calls of Python."""
    if MODE == "reference":
        return  # the first test has seen them
    node = f"{__file__}::{test_a_record_passes_the_files_of_the_list.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", node]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ASYNCFLOW_KERNELS": "reference"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
