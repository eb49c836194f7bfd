"""The connector ``file`` with ``follow = true``: growth, rotation, truncation, files that come and go, and the end by ``stop``.

Every test drives the outside and then waits for what must come of it; nothing is asserted after a mere pause, but that nothing came.
"""

from __future__ import annotations

import asyncio
import io
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asyncflow as af
from asyncflow.connectors._follow import FollowSource
from asyncflow.connectors.file import FileSource, SourceOptions, open_source
from asyncflow.errors import ConnectorError
from asyncflow.runtime.run.run import Run
from tests.connectors.conftest import open_descriptors
from tests.connectors.streams import eventually

POLL = "5ms"
SEVERAL_POLLS = 0.04


class Reader:
    """Reads a followed source as the runtime does; ``streams`` grows as bytes come: name, bytes, why it ended (None: it has not)."""

    def __init__(self, path: str | list[str]) -> None:
        self.source = open_source(SourceOptions(path=path, follow=True, poll=POLL))
        self.streams: list[list[Any]] = []

    @property
    def data(self) -> list[bytes]:
        return [stream[1] for stream in self.streams]

    @property
    def ends(self) -> list[str | None]:
        return [stream[2] for stream in self.streams]

    async def read(self) -> None:
        async with asyncio.TaskGroup() as group:
            async for stream in self.source.streams():
                entry = [os.path.basename(stream.name), b"", None]
                self.streams.append(entry)
                group.create_task(self._read_one(stream, entry))
        await self.source.aclose()

    @staticmethod
    async def _read_one(stream: Any, entry: list[Any]) -> None:
        buffer = memoryview(bytearray(4096))
        try:
            while count := await stream.read_into(buffer):
                entry[1] += bytes(buffer[:count])
            entry[2] = stream.error
        finally:
            await stream.aclose()

    async def sees(self, *data: bytes) -> None:
        """Returns once the streams hold just these bytes."""
        try:
            await eventually(lambda: self.data == list(data), seconds=10)
        except TimeoutError:
            raise AssertionError(f"read {self.data}, not {list(data)}") from None


@pytest.fixture
def follow(run: Any) -> Callable[..., Reader]:
    """Runs a scenario beside a reader of ``path``, then stops the reader, which must end by itself."""

    def start(path: str | list[str], scenario: Callable[[Reader], Awaitable[None]]) -> Reader:
        async def beside() -> Reader:
            reader = Reader(path)
            reading = asyncio.create_task(reader.read())
            driving = asyncio.ensure_future(scenario(reader))
            try:
                await asyncio.wait((reading, driving), return_when=asyncio.FIRST_COMPLETED)
                if not driving.done():
                    await reading
                await driving
                await reader.source.stop()
                await reading
            finally:
                driving.cancel()
                reading.cancel()
                await asyncio.gather(reading, driving, return_exceptions=True)
                await reader.source.aclose()
            return reader

        reader: Reader = run(beside())
        return reader

    return start


def writer_of(path: Path) -> io.FileIO:
    return io.FileIO(path, "ab")


def append(path: Path, data: bytes) -> None:
    with writer_of(path) as file:
        file.write(data)


def test_it_is_a_source_without_an_end(tmp_path):
    assert isinstance(open_source(SourceOptions(path="a", follow=True)), FollowSource)
    assert isinstance(open_source(SourceOptions(path="a")), FileSource)
    followed = open_source(SourceOptions(path=str(tmp_path / "a"), follow=True))
    assert (followed.bounded, followed.concurrent, followed.total_bytes) == (False, True, None)


def test_growth_and_a_last_line_completed_later(follow, tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")

    async def scenario(reader):
        await reader.sees(b"one\n")
        append(path, b"tw")
        await reader.sees(b"one\ntw")
        append(path, b"o\nthree\n" + b"x" * 20_000)
        await reader.sees(b"one\ntwo\nthree\n" + b"x" * 20_000)
        assert reader.ends == [None]
        assert reader.source.position_bytes == path.stat().st_size

    assert follow(str(path), scenario).streams == [["a.log", b"one\ntwo\nthree\n" + b"x" * 20_000, "stopped"]]


def test_a_file_that_is_not_there_yet_is_waited_for(follow, tmp_path):
    path = tmp_path / "later" / "a.log"

    async def scenario(reader):
        await asyncio.sleep(SEVERAL_POLLS)
        assert reader.streams == []
        path.parent.mkdir()
        path.write_bytes(b"one\n")
        await reader.sees(b"one\n")

    follow(str(path), scenario)


def test_rotation_by_rename_and_create(follow, tmp_path):
    """The writer goes on in the renamed file until it opens the new one: all of it is read first."""
    path, old = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_bytes(b"1\n")

    async def scenario(reader):
        await reader.sees(b"1\n")
        with writer_of(path) as writer:
            path.rename(old)
            await asyncio.sleep(SEVERAL_POLLS)
            writer.write(b"2\n")
            await reader.sees(b"1\n2\n")
            path.touch()
            await asyncio.sleep(SEVERAL_POLLS)
            writer.write(b"3\n")  # nothing in the new one yet: this one is still in use
            await reader.sees(b"1\n2\n3\n")
            assert reader.ends == [None]
            writer.write(b"4\n")
        append(path, b"5\n")
        await reader.sees(b"1\n2\n3\n4\n", b"5\n")
        await eventually(lambda: reader.ends == ["", None])  # for a while somebody might still write to it
        assert reader.source.position_bytes == 10

    assert [name for name, _, _ in follow(str(path), scenario).streams] == ["a.log", "a.log"]


@pytest.mark.parametrize("how", ["renamed", "deleted", "moved away"])
def test_a_writer_that_is_late_after_the_rotation(follow, tmp_path, how):
    """The file that took the place is read meanwhile."""
    path = tmp_path / "a.log"
    path.write_bytes(b"1\n")
    (tmp_path / "old").mkdir()

    async def scenario(reader):
        await reader.sees(b"1\n")
        with writer_of(path) as writer:
            if how == "deleted":
                path.unlink()
            else:
                path.rename(tmp_path / "old" / "a" if how == "moved away" else tmp_path / "a.log.1")
            path.write_bytes(b"2\n")
            await reader.sees(b"1\n", b"2\n")
            writer.write(b"late\n")
            await reader.sees(b"1\nlate\n", b"2\n")
            append(path, b"3\n")
            await reader.sees(b"1\nlate\n", b"2\n3\n")
            assert reader.ends == [None, None]
        await eventually(lambda: reader.ends == ["", None])

    follow(str(path), scenario)


@pytest.mark.parametrize("anew", [b"2,b\n", b"123456,x\n", b"x" * 5000 + b"\n", b"1,c\n1,a\n"])
@pytest.mark.parametrize("there", [b"1,a\n", b"head,er\n" * 100 + b"1,a\n"])
def test_a_file_that_is_written_anew_between_two_looks_is_read_anew(follow, tmp_path, there, anew):
    """Of the same length, or longer: what was read of it is not there any more."""
    path = tmp_path / "a.log"
    path.write_bytes(there)
    anew += b"y" * (len(there) - len(anew))

    async def scenario(reader):
        await reader.sees(there)
        path.write_bytes(anew)
        await reader.sees(there, anew)
        append(path, b"3,c\n")
        await reader.sees(there, anew + b"3,c\n")
        assert reader.ends == ["truncated", None]

    follow(str(path), scenario)


def test_more_files_than_may_be_open_take_turns(follow, tmp_path, caplog):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in range(60):
        (tmp_path / f"{number:02}.log").write_bytes(b"%d\n" % number)

    async def scenario(reader):
        await eventually(lambda: sorted(reader.data) == sorted(b"%d\n" % n for n in range(60)), seconds=20)
        assert sum(".log" in each for each in open_descriptors()) <= 24  # of 40; while turns change some more
        for number in (0, 59, 30):
            append(tmp_path / f"{number:02}.log", b"more\n")
        await eventually(lambda: sum(data.endswith(b"more\n") for data in reader.data) == 3, seconds=20)
        (tmp_path / "07.log").write_bytes(b"8\n9\n")
        await eventually(lambda: b"8\n9\n" in reader.data, seconds=20)
        (tmp_path / "60.log").write_bytes(b"60\n")
        await eventually(lambda: b"60\n" in reader.data, seconds=20)

    resource.setrlimit(resource.RLIMIT_NOFILE, (40, limits[1]))
    try:
        read = follow(str(tmp_path / "*.log"), scenario)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(read.streams) == 62
    [told] = [record.message for record in caplog.records if "take turns" in record.message]
    assert told.startswith(f"{tmp_path}/*.log: more files to follow than may be open (")


def test_many_rotations_lose_nothing_and_repeat_nothing(follow, tmp_path):
    path = tmp_path / "a.log"

    async def scenario(reader):
        for number in range(8):
            path.write_bytes(b"%d\n" % number)
            await reader.sees(*(b"%d\n" % earlier for earlier in range(number + 1)))
            path.rename(tmp_path / f"a.log.{number}")

    follow(str(path), scenario)


def test_a_glob_that_finds_the_rotated_file_too_reads_it_once(follow, tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"1\n")

    async def scenario(reader):
        await reader.sees(b"1\n")
        path.rename(tmp_path / "a.log.1")
        path.write_bytes(b"2\n")
        await reader.sees(b"1\n", b"2\n")
        append(tmp_path / "a.log.1", b"late\n")
        await reader.sees(b"1\nlate\n", b"2\n")
        (tmp_path / "a.log.2.gz").write_bytes(b"an older one, put away")
        await asyncio.sleep(SEVERAL_POLLS)
        assert len(reader.streams) == 2
        assert reader.ends == [None, None]

    follow(str(tmp_path / "a.log*"), scenario)


def test_truncation_reads_on_from_the_start(follow, tmp_path):
    """As copytruncate does it, with a writer that appends."""
    path = tmp_path / "a.log"
    with writer_of(path) as writer:
        writer.write(b"one\ntwo\nthr")

        async def scenario(reader):
            await reader.sees(b"one\ntwo\nthr")
            os.truncate(path, 0)
            await eventually(lambda: reader.ends[0] is not None)
            writer.write(b"four\n")
            await reader.sees(b"one\ntwo\nthr", b"four\n")
            os.truncate(path, 0)
            writer.write(b"5\n")  # shorter than what was read, also if nobody looked in between
            await reader.sees(b"one\ntwo\nthr", b"four\n", b"5\n")

        assert follow(str(path), scenario).ends == ["truncated", "truncated", "stopped"]


def test_deletion_and_return(follow, tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"1\n")

    async def scenario(reader):
        await reader.sees(b"1\n")
        path.unlink()
        await eventually(lambda: reader.ends == [""])
        path.write_bytes(b"2\n")
        await reader.sees(b"1\n", b"2\n")

    follow(str(path), scenario)


def test_replaced_at_once(follow, tmp_path):
    path, new = tmp_path / "a.log", tmp_path / "new"
    path.write_bytes(b"1\n")
    new.write_bytes(b"2\n")

    async def scenario(reader):
        await reader.sees(b"1\n")
        os.replace(new, path)
        await reader.sees(b"1\n", b"2\n")

    follow(str(path), scenario)


def test_a_link_that_is_pointed_elsewhere(follow, tmp_path):
    link = tmp_path / "current"
    for name in ("monday", "tuesday"):
        (tmp_path / name).write_bytes(name.encode())
    link.symlink_to("monday")

    async def scenario(reader):
        await reader.sees(b"monday")
        (tmp_path / "next").symlink_to("tuesday")
        os.replace(tmp_path / "next", link)
        await reader.sees(b"monday", b"tuesday")

    follow(str(link), scenario)


def test_globs_and_lists_take_new_files_and_let_go_of_those_that_went(follow, tmp_path):
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_bytes(name.encode())

    async def scenario(reader):
        await reader.sees(b"a.csv", b"b.csv")
        (tmp_path / "c.csv").write_bytes(b"c")
        (tmp_path / "d.txt").write_bytes(b"d")
        await reader.sees(b"a.csv", b"b.csv", b"c", b"d")
        append(tmp_path / "a.csv", b"+")
        append(tmp_path / "d.txt", b"+")
        await reader.sees(b"a.csv+", b"b.csv", b"c", b"d+")
        (tmp_path / "done").mkdir()
        (tmp_path / "b.csv").rename(tmp_path / "done" / "b.csv")
        await eventually(lambda: reader.ends[1] == "")
        (tmp_path / "b.csv").write_bytes(b"again")
        await reader.sees(b"a.csv+", b"b.csv", b"c", b"d+", b"again")

    ended = follow([str(tmp_path / "*.csv"), str(tmp_path / "d.txt")], scenario).streams
    assert [name for name, _, _ in ended] == ["a.csv", "b.csv", "c.csv", "d.txt", "b.csv"]


def test_what_cannot_be_followed_is_an_error(follow, tmp_path):
    async def scenario(_):
        await asyncio.Event().wait()

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BaseExceptionGroup) as failure:
        follow(str(tmp_path / "pipe"), scenario)
    assert failure.group_contains(ConnectorError, match="only a regular file can be followed")
    with pytest.raises(BaseExceptionGroup) as failure:
        follow(str(tmp_path), scenario)
    assert failure.group_contains(ConnectorError, match="is a directory")
    if os.geteuid() != 0:
        (tmp_path / "a").touch(mode=0)
        with pytest.raises(BaseExceptionGroup) as failure:
            follow(str(tmp_path / "a"), scenario)
        assert failure.group_contains(ConnectorError, match="no permission")


def test_stop_and_close_wake_a_read_that_waits(run, tmp_path):
    (tmp_path / "a").write_bytes(b"1\n")

    async def scenario(end):
        source = open_source(SourceOptions(path=str(tmp_path / "a"), follow=True, poll="1h"))
        streams = source.streams()
        stream = await anext(streams)
        buffer = memoryview(bytearray(10))
        assert await stream.read_into(buffer) == 2
        reading = asyncio.create_task(stream.read_into(buffer))
        next_stream = asyncio.create_task(anext(streams, None))
        await asyncio.sleep(SEVERAL_POLLS)
        assert not reading.done() and not next_stream.done()
        await getattr(source, end)()
        assert (await reading, await next_stream) == (0, None)
        assert await stream.read_into(buffer) == 0
        await source.aclose()
        await source.aclose()
        return stream.error

    assert run(scenario("stop")) == "stopped"
    run(scenario("aclose"))


def test_cancelled_anywhere_nothing_stays_open(run, tmp_path):
    (tmp_path / "a").write_bytes(b"1\n" * 10_000)

    async def scenario():
        for turns in range(0, 40, 3):
            reader = Reader(str(tmp_path / "a"))
            reading = asyncio.create_task(reader.read())
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await reader.source.aclose()

    run(scenario())


@pytest.mark.parametrize("schema", [{"key": "string", "n": "int64"}, None])
def test_a_flow_over_a_rotated_file(run, tmp_path, schema):
    """Each file has its own header; rows come as they are written; stop lets everything out and windows close."""
    path, out = tmp_path / "a.csv", tmp_path / "out.json"
    path.write_bytes(b"key,n\na,1\n")
    flow = (
        af.source("file", path=str(path), follow=True, poll=POLL, format="csv", schema=schema)
        .window("all", total="sum(n)", rows="count(*)")
        .to("file", path=str(out), format="json")
    )

    async def scenario():
        run_ = Run(flow.plan)
        running = asyncio.create_task(run_.execute())

        async def counted(rows):
            await eventually(
                lambda: running.done() or sum(s.rows for s in run_.ledger.sources.values()) == rows
            )
            if running.done():
                await running

        await counted(1)
        append(path, b"b,2\nc,")
        await counted(2)
        append(path, b"3\n")
        await counted(3)
        path.rename(tmp_path / "a.csv.1")
        path.write_bytes(b"n,key\n4,d\n")
        await counted(4)
        run_.stop()
        return await running

    ledger = run(scenario())
    assert sum(source.rejected for source in ledger.sources.values()) == 0
    assert msgspec.json.decode(out.read_bytes()) == {"total": 10, "rows": 4}
