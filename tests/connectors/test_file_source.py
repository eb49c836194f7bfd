"""The connector ``file`` as a source: names, archives, pipes, progress, faults, cancellation."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import threading

import msgspec
import pytest
import zstandard

import asyncflow as af
from asyncflow.connectors.file import SourceOptions, open_source
from asyncflow.errors import ConnectorError, DataError
from tests.connectors.streams import read_source, read_stream

ROWS = b"".join(b"%d,key-%d,%.3f\n" % (i, i % 7, 1 / (i + 1)) for i in range(40_000))


def source(path, **options):
    return open_source(SourceOptions(path=path, **options))


COMPRESSORS = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 << 20])
def test_reads_a_file_whole(run, tmp_path, size):
    data = (ROWS * 8)[:size]
    (tmp_path / "a.csv").write_bytes(data)
    opened = source(str(tmp_path / "a.csv"))
    assert run(read_source(opened)) == [(str(tmp_path / "a.csv"), data)]
    assert opened.bounded
    assert opened.total_bytes == opened.position_bytes == size


def test_globs_and_lists_come_in_name_order_and_once(run, tmp_path):
    for name in ("b.csv", "a.csv", "c.txt", "sub/d.csv", "odd[1].csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    names = [
        os.path.relpath(name, tmp_path)
        for name, _ in run(
            read_source(
                source([str(tmp_path / "**/*.csv"), str(tmp_path / "a.csv"), str(tmp_path / "odd[1].csv")])
            )
        )
    ]
    assert names == ["a.csv", "b.csv", "odd[1].csv", "sub/d.csv"]
    assert run(read_source(source(str(tmp_path / "*")))) == [
        (str(tmp_path / name), name.encode()) for name in ("a.csv", "b.csv", "c.txt", "odd[1].csv")
    ]


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("buffer_bytes", [77, 1 << 20])
def test_archives_of_several_members(run, tmp_path, suffix, buffer_bytes):
    compress = COMPRESSORS[suffix]
    parts = [ROWS[:100_000], b"", ROWS[100_000:100_001], ROWS[100_001:]]
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(b"".join(map(compress, parts)))
    opened = source(str(path))
    assert run(read_source(opened, buffer_bytes)) == [(str(path), ROWS)]
    assert opened.position_bytes == opened.total_bytes == path.stat().st_size


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_an_archive_cut_short_gives_what_it_holds_and_then_says_where(run, tmp_path, suffix):
    whole = COMPRESSORS[suffix](ROWS)
    path = tmp_path / f"a{suffix}"
    for size in (1, 5, 11, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        got = bytearray()

        async def read(got=got):
            opened = source(str(path))
            buffer = memoryview(bytearray(10_000))
            try:
                async for stream in opened.streams():
                    while count := await stream.read_into(buffer):
                        got.extend(buffer[:count])
            finally:
                await opened.aclose()

        with pytest.raises(ConnectorError, match=rf"a\{suffix}: .*(ends too early|not valid).* byte {size}"):
            run(read())
        assert ROWS.startswith(got)


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_an_archive_that_is_none_or_is_damaged(run, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(ROWS)
    with pytest.raises(ConnectorError, match="not valid"):
        run(read_source(source(str(path))))
    damaged = bytearray(COMPRESSORS[suffix](ROWS))
    damaged[len(damaged) // 2] ^= 0x55
    path.write_bytes(damaged)
    with pytest.raises(ConnectorError, match=r"not valid|ends too early"):
        run(read_source(source(str(path))))


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("padding", [4, 100_000])
def test_zeros_after_a_member_are_padding_and_anything_else_is_not(run, tmp_path, suffix, padding):
    path = tmp_path / f"a{suffix}"
    member = COMPRESSORS[suffix](b"x\n") + bytes(padding)
    path.write_bytes(member + COMPRESSORS[suffix](b"") + member)
    assert run(read_source(source(str(path)))) == [(str(path), b"x\nx\n")]
    path.write_bytes(COMPRESSORS[suffix](b"x\n") + b"junk, and more junk")
    with pytest.raises(ConnectorError, match="not valid"):
        run(read_source(source(str(path))))


@pytest.mark.parametrize("suffix", [*COMPRESSORS, ""])
def test_empty_files_are_empty_streams(run, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert run(read_source(source(str(path)))) == [(str(path), b"")]


@pytest.mark.parametrize("schema", [{"id": "int64", "v": "string"}, None])
@pytest.mark.parametrize("header", [b"id\n", b"id,v,v\n", b"\xff,v\n", b'"id'])
def test_a_header_that_cannot_be_used_is_told_with_its_file(run, tmp_path, header, schema):
    (tmp_path / "1.csv").write_bytes(b"id,v\n1,a\n")
    (tmp_path / "2.csv").write_bytes(header)
    flow = af.source("file", path=str(tmp_path / "*.csv"), format="csv", schema=schema)
    with pytest.raises(DataError, match=r"2\.csv: .*header"):
        run(flow.to("null").run())


def test_what_cannot_be_read_is_said_before_anything_is(run, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x\n")
    for path, message in [
        (str(tmp_path / "none.csv"), "none.csv: no such file"),
        (str(tmp_path / "*.json"), r"\*\.json: no file matches"),
        (str(tmp_path), "is a directory"),
        (str(tmp_path / "a.csv" / "b"), "no such file"),
    ]:
        for paths in (path, [str(tmp_path / "a.csv"), path]):
            with pytest.raises(ConnectorError, match=message):
                run(read_source(source(paths)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(run, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x\n")
    (tmp_path / "a.csv").chmod(0)
    with pytest.raises(ConnectorError, match="no permission"):
        run(read_source(source(str(tmp_path / "a.csv"))))


def test_a_named_pipe_waits_for_its_writer(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        reading = asyncio.create_task(read_source(source(str(tmp_path / "pipe"))))
        await asyncio.sleep(0.05)
        assert not reading.done()
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(ROWS,))
        writer.start()
        result = await reading
        await asyncio.to_thread(writer.join)
        return result

    assert run(scenario()) == [(str(tmp_path / "pipe"), ROWS)]


def test_an_open_pipe_by_its_descriptor(run):
    """What a shell's <(...) hands over; its writer may be done before we look."""
    for data in (b"", b"a,b\n"):
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        assert run(read_source(source(f"/dev/fd/{reader}"))) == [(f"/dev/fd/{reader}", data)]
        os.close(reader)


def test_a_device_is_read_as_it_is(run):
    assert run(read_source(source("/dev/null"))) == [("/dev/null", b"")]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_stop_ends_after_what_was_read(run, tmp_path, suffix):
    for name in ("a", "b"):
        (tmp_path / f"{name}{suffix}").write_bytes(COMPRESSORS[".gz"](ROWS) if suffix else ROWS)

    async def scenario():
        opened = source(str(tmp_path / "*"))
        seen = []
        async for stream in opened.streams():
            buffer = memoryview(bytearray(100))
            assert await stream.read_into(buffer) == 100
            await opened.stop()
            assert await stream.read_into(buffer) == 0
            seen.append((stream.name, stream.error))
        await opened.aclose()
        await opened.aclose()
        assert await stream.read_into(buffer) == 0
        return seen

    assert run(scenario()) == [(str(tmp_path / f"a{suffix}"), "stopped")]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (b"", "became shorter while it was read: 0 bytes of"),
        (ROWS[:7], "became shorter while it was read: 7 bytes of"),
        (ROWS[:-1], "became shorter while it was read"),
        (bytes(len(ROWS)), "was written anew while it was read"),
        (b"x" + ROWS, "was written anew while it was read"),
        (ROWS + b"more", ""),
        (ROWS, ""),
    ],
)
@pytest.mark.parametrize("read_bytes", [4, 100_000])
def test_a_file_that_changes_while_it_is_read(run, tmp_path, after, message, read_bytes):
    """Growth is no harm; what is gone, or was put in its place, is told."""
    path = tmp_path / "a"
    path.write_bytes(ROWS)
    os.utime(path, ns=(0, 0))

    async def scenario():
        opened = source(str(path))
        stream = await anext(opened.streams())
        buffer = memoryview(bytearray(read_bytes))
        data = bytes(buffer[: await stream.read_into(buffer)])
        path.write_bytes(after)
        try:
            while count := await stream.read_into(buffer):
                data += buffer[:count]
        finally:
            await opened.aclose()
        return data

    if message:
        with pytest.raises(ConnectorError, match=f"a: {message}"):
            run(scenario())
    else:
        assert run(scenario()) == after


def test_a_file_that_is_replaced_while_it_is_read_is_read_to_its_end(run, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(ROWS)
    (tmp_path / "new").write_bytes(b"x")

    async def scenario():
        opened = source(str(path))
        stream = await anext(opened.streams())
        buffer = memoryview(bytearray(100_000))
        data = bytes(buffer[: await stream.read_into(buffer)])
        os.replace(tmp_path / "new", path)
        while count := await stream.read_into(buffer):
            data += buffer[:count]
        await opened.aclose()
        return data

    assert run(scenario()) == ROWS


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_an_archive_that_becomes_shorter_while_it_is_read(run, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    member = COMPRESSORS[suffix](os.urandom(1 << 20))
    path.write_bytes(member * 4)

    async def scenario():
        opened = source(str(path))
        stream = await anext(opened.streams())
        buffer = memoryview(bytearray(1000))
        try:
            await stream.read_into(buffer)
            os.truncate(path, 2 * len(member))
            while await stream.read_into(buffer):
                pass
        finally:
            await opened.aclose()

    with pytest.raises(ConnectorError, match=rf"a\{suffix}: (became shorter while|.*ends too early)"):
        run(scenario())


def test_files_of_the_system_that_have_no_size_are_read(run):
    [(_, data)] = run(read_source(source("/proc/self/status")))
    assert data.startswith(b"Name:")


@pytest.mark.parametrize("suffix", ["", *COMPRESSORS])
def test_cancelled_at_every_await(run, tmp_path, suffix):
    """Whatever await is cut, nothing stays open (the fixture looks) and a later read goes on where the last one ended."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(COMPRESSORS[suffix](ROWS) if suffix else ROWS)

    async def scenario():
        for turns in range(12):
            opened = source(str(path))
            task = asyncio.create_task(read_source(opened, 1 << 20))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled() or task.result() == [(str(path), ROWS)]
        opened = source(str(path))
        stream = await anext(opened.streams())
        for _ in range(20):
            reading = asyncio.create_task(stream.read_into(memoryview(bytearray(10))))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        rest = await read_stream(stream)
        await opened.aclose()
        return rest

    rest = run(scenario())
    assert ROWS.endswith(rest)
    taken = len(ROWS) - len(
        rest
    )  # plain reads are done at once: a cancelled one may have taken its ten bytes
    assert taken % 10 == 0 and 0 <= taken <= 200


def test_closing_while_a_read_waits_ends_it(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        opened = source(str(tmp_path / "pipe"))
        stream = await anext(opened.streams())
        reading = asyncio.create_task(stream.read_into(memoryview(bytearray(10))))
        await asyncio.sleep(0.01)
        await opened.aclose()
        return await reading

    assert run(scenario()) == 0


def test_long_reads_are_made_by_a_worker(run, tmp_path):
    path, data = tmp_path / "a.csv", ROWS * 3
    path.write_bytes(data)
    readers = []

    async def read():
        opened, loop = source(str(path)), asyncio.get_running_loop()

        def aside(call):
            def made():
                readers.append(threading.current_thread())
                return call()

            return loop.run_in_executor(None, made)

        opened.aside = aside
        (pieces,) = await read_source(opened, 1 << 19)
        return pieces

    assert run(read()) == (str(path), data)
    assert len(readers) == len(data) // (1 << 19)  # but for the first, and with the end
    assert threading.main_thread() not in readers


@pytest.mark.parametrize("ended_by", ["cancel", "close"])
def test_a_worker_that_reads_is_waited_for(run, tmp_path, ended_by):
    path = tmp_path / "a.csv"
    path.write_bytes(ROWS)
    go, under_way, done = threading.Event(), threading.Event(), []

    async def read():
        opened, loop = source(str(path)), asyncio.get_running_loop()

        def aside(call):
            def made():
                under_way.set()
                go.wait()
                done.append(call())
                return done[0]

            return loop.run_in_executor(None, made)

        opened.aside = aside
        (stream,) = [each async for each in opened.streams()]
        assert await stream.read_into(memoryview(bytearray(1 << 18))) == 1 << 18
        reading = asyncio.create_task(stream.read_into(memoryview(bytearray(1000))))
        await asyncio.to_thread(under_way.wait)
        ending = asyncio.create_task(stream.aclose()) if ended_by == "close" else None
        if ending is None:
            reading.cancel()
        await asyncio.sleep(0.01)
        assert not reading.done()
        go.set()
        await asyncio.gather(reading, *([] if ending is None else [ending]), return_exceptions=True)
        assert reading.cancelled() if ending is None else reading.result() == 1000
        await opened.aclose()

    run(read())
    assert done == [1000]


def test_options_say_what_is_wrong():
    for wrong, message in [
        ({"path": ""}, "path must name"),
        ({"path": []}, "path must name"),
        ({"path": "a", "poll": "0s"}, "poll must"),
        ({"path": "a", "poll": "soon"}, "not a duration"),
        ({"path": "a.gz", "follow": True}, "not compressed"),
        ({"path": "a", "folow": True}, "unknown field `folow`"),
        ({}, "missing required field `path`"),
    ]:
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(wrong, SourceOptions)
