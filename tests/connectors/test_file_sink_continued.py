"""The connector ``file`` as a sink: files that are continued, writes that fail half-way, and several runs that want one file."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

import asyncflow as af
from asyncflow.connectors.file import SinkOptions, open_sink
from asyncflow.errors import AsyncflowError, ConnectorError, DataError

COMPRESS: dict[str, Any] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def expand(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            return reader.read()
    return {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}.get(path.suffix, bytes)(
        data
    )


def append(path: Path, format: Any = "csv", rows: Any = ({"id": 1, "v": "a"},), mode: str = "append") -> Any:
    return af.source(list(rows)).to("file", path=str(path), format=format, mode=mode).run()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_csv_file_that_is_continued_has_one_header(run, tmp_path, suffix):
    path = tmp_path / f"out.csv{suffix}"
    for _ in range(3):
        run(append(path))
    assert expand(path) == b"id,v\n" + b"1,a\n" * 3


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("there", "format", "after"),
    [
        (b'"id",v\r\n0,z\r\n', "csv", b"1,a\n"),
        (b"\xef\xbb\xbfid,v\n0,z\n", "csv", b"1,a\n"),
        (b"id,v\n0,cut by a cra", "csv", b"\n1,a\n"),
        (b"id,v", "csv", b"\n1,a\n"),
        (b"\n", "csv", b"id,v\n1,a\n"),
        (b'id,v\n0,"cut in its quo', "csv", b'"\n1,a\n'),
        (b'id,v\n0,"cut "" in\n its quo', "csv", b'"\n1,a\n'),
        (b"id;v\n0;z\n", {"type": "csv", "delimiter": ";"}, b"1;a\n"),
        (b"0,z\n", {"type": "csv", "header": False}, b"1,a\n"),
        (b"other\n0,z", {"type": "csv", "header": False}, b"\n1,a\n"),
        (b'{"id":0}\n', "json", b'{"id":1,"v":"a"}\n'),
        (b'{"id":0}\n{"id":9,"v":"cut', "json", b'\n{"id":1,"v":"a"}\n'),
    ],
)
def test_what_is_put_between_a_file_and_the_rows_that_are_added(run, tmp_path, there, format, after, suffix):
    path = tmp_path / f"out{suffix}"
    path.write_bytes(COMPRESS[suffix](there))
    run(append(path, format))
    assert expand(path) == there + after


def test_a_table_that_is_continued_has_one_header(run, tmp_path):
    for _ in range(2):
        run(append(tmp_path / "out", "table"))
    assert (tmp_path / "out").read_text().count("id") == 1


def test_nothing_is_added_where_no_row_comes(run, tmp_path):
    path = tmp_path / "out.csv"
    path.write_bytes(b"id,v\n0,cut")
    flow = af.source([{"id": 1, "v": "a"}]).filter("id > 1").to("file", path=str(path), mode="append")
    run(flow.run())
    assert path.read_bytes() == b"id,v\n0,cut"


@pytest.mark.parametrize("there", [b"v,id\nz,0\n", b"id\n0\n", b"id,v,w\n0,z,y\n", b"0,z\n"])
def test_rows_are_not_added_under_another_header(run, tmp_path, there):
    path = tmp_path / "out.csv"
    path.write_bytes(there)
    with pytest.raises(DataError, match=r"out\.csv: has another header .*the rows \('id', 'v'\)"):
        run(append(path))
    assert path.read_bytes() == there


def test_a_file_of_records_of_one_size_is_not_continued_askew(run, tmp_path):
    path = tmp_path / "out.raw"
    run(append(path, "raw", [{"x": 1.5}]))
    run(append(path, "raw", [{"x": 2.5}]))
    assert path.stat().st_size == 16
    os.truncate(path, 11)
    with pytest.raises(DataError, match=r"out\.raw: ends 3 bytes into a record of 8"):
        run(append(path, "raw", [{"x": 1.5}]))
    assert path.stat().st_size == 11


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESS if suffix])
def test_nothing_is_added_behind_an_archive_that_is_cut_short(run, tmp_path, suffix):
    path = tmp_path / f"out.csv{suffix}"
    path.write_bytes(COMPRESS[suffix](b"id,v\n0,z\n" * 1000)[:-3])
    before = path.read_bytes()
    with pytest.raises(ConnectorError, match=rf"out\.csv\{suffix}: .*ends too early"):
        run(append(path))
    assert path.read_bytes() == before


# -- writes that fail half-way -------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk():
    """A limit on the size of files, as good as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("mode", ["create", "append"])
def test_a_write_that_fails_half_way_is_taken_back(run, tmp_path, full_disk, mode):
    path = tmp_path / "out.json"
    if mode == "append":
        path.write_bytes(b'{"n":-1}\n')
    rows = af.source([{"n": n, "v": "x" * 50} for n in range(100)], name="a")
    full_disk(200_000)
    with pytest.raises(ConnectorError, match=r"out\.json: file too large"):
        run(
            af.source(({"n": n} for n in range(100_000)), name="a")
            .to("file", path=str(path), mode=mode)
            .run()
        )
    full_disk(resource.RLIM_INFINITY)
    assert path.read_bytes().endswith(b"\n")
    run(rows.to("file", path=str(path), mode="append").run())
    assert len(path.read_bytes().splitlines()) == len(run(read(path)))


async def read(path: Path) -> list[Any]:
    return [row async for batch in af.source("file", path=str(path)) for row in batch.to_pylist()]


def test_a_write_that_fails_costs_an_archive_one_member(run, tmp_path, full_disk):
    path = tmp_path / "out.gz"
    run(append(path))

    async def scenario():
        opened = open_sink(SinkOptions(path=str(path), mode="append"))
        await opened.open()
        full_disk(100_000)
        with pytest.raises(ConnectorError, match="file too large"):
            for _ in range(10):
                await opened.write(os.urandom(50_000))
        await opened.aclose(failed=True)

    run(scenario())
    assert gzip.decompress(path.read_bytes()) == b"id,v\n1,a\n"


def test_cancelled_in_a_write_an_archive_is_whole(run, tmp_path):
    path = tmp_path / "out.gz"

    async def scenario():
        opened = open_sink(SinkOptions(path=str(path)))
        await opened.open()
        for _ in range(3):
            writing = asyncio.create_task(opened.write(bytes(1 << 20)))
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        await opened.aclose(failed=True)

    run(scenario())
    assert gzip.decompress(path.read_bytes()).strip(b"\0") == b""


# -- several runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["create", "append", "replace"])
@pytest.mark.parametrize("second", ["create", "append", "replace"])
@pytest.mark.parametrize("there", [True, False])
def test_two_runs_never_write_one_file(run, tmp_path, first, second, there):
    path = tmp_path / "out"
    if there:
        path.write_bytes(b"" if "create" in (first, second) else b"old\n")
    (tmp_path / "link").symlink_to("out")

    async def scenario():
        one = open_sink(SinkOptions(path=str(path), mode=first))
        two = open_sink(SinkOptions(path=str(tmp_path / "link"), mode=second))
        await one.open()
        await one.write(b"one\n")
        with pytest.raises(ConnectorError, match="another run is writing it"):
            await two.open()
        await two.aclose(failed=True)
        await one.aclose()

    run(scenario())
    assert path.read_bytes().splitlines()[-1] == b"one"
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]
    run(append(path, "json", mode="append"))


def test_runs_that_replace_one_file_one_after_the_other(run, tmp_path):
    async def scenario():
        outcomes = await asyncio.gather(
            *(append(tmp_path / "out", "json", [{"n": n}], mode="replace") for n in range(8)),
            return_exceptions=True,
        )
        assert any(not isinstance(outcome, BaseException) for outcome in outcomes)
        assert all("another run" in str(o) for o in outcomes if isinstance(o, BaseException))

    run(scenario())
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes().startswith(b'{"n":')


def test_replace_keeps_mode_and_owner(run, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    run(append(path, mode="replace"))
    after = path.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (before.st_uid, before.st_gid, 0o604)


@pytest.mark.parametrize("mode", ["create", "append", "replace"])
def test_the_temporary_file_of_a_killed_run_is_swept(run, tmp_path, mode):
    path = tmp_path / "out.json"
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import asyncio, os, signal, sys\n"
            "from asyncflow.connectors.file import SinkOptions, open_sink\n"
            "async def main():\n"
            "    sink = open_sink(SinkOptions(path=sys.argv[1], mode='replace'))\n"
            "    await sink.open()\n"
            "    await sink.write(b'half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "asyncio.run(main())",
            str(path),
        ]
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    run(append(path, "json", mode=mode))
    assert os.listdir(tmp_path) == ["out.json"]
    assert path.read_bytes() == b'{"id":1,"v":"a"}\n'


# -- paths that stand for descriptors ------------------------------------------------------------------------------------

WRITES = """
import asyncflow as af, os, sys
af.run(af.source([{"n": 1}]).to("file", path=sys.argv[1], mode=sys.argv[2], format="json"))
"""


@pytest.mark.parametrize("mode", ["create", "append", "replace"])
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
def test_a_descriptor_is_written_as_it_is(tmp_path, mode, name, kind):
    if name == "link":
        name = str(tmp_path / "link")
        os.symlink("/dev/stdout", name)
    command = f'printf "before\\n"; "$0" -c "$1" {name} {mode}'
    command = {"pipe": f"({command}) | cat", "file": f"({command}) > out; cat out", "socket": command}[kind]
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        stdout = theirs.fileno() if kind == "socket" else subprocess.PIPE
        done = subprocess.run(
            ["bash", "-c", command, sys.executable, WRITES],
            stdout=stdout, stderr=subprocess.PIPE, cwd=tmp_path, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert (done.stdout if kind != "socket" else ours.recv(1000)) == b'before\n{"n":1}\n'


def test_a_descriptor_that_is_not_open(run):
    with pytest.raises(AsyncflowError, match="descriptor 987 is not open"):
        run(append(Path("/dev/fd/987")))
