"""The connector ``file`` as a sink: its three modes, what they leave when a run fails, and targets that cannot be written."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import signal
import stat
import subprocess
import sys

import msgspec
import pytest

from asyncflow.connectors.file import SinkOptions, open_sink
from asyncflow.errors import ConnectorError, ReaderGoneError

MODES = ["create", "append", "replace"]
BIG = bytes(3 << 20)


def sink(path, mode="create"):
    return open_sink(SinkOptions(path=str(path), mode=mode))


async def write(path, *parts, mode="create", failed=False):
    """Opens, writes and closes (twice), as a run does."""
    opened = sink(path, mode)
    try:
        await opened.open()
        for part in parts:
            await opened.write(part)
        await opened.flush()
    except BaseException:
        await opened.aclose(failed=True)
        raise
    await opened.aclose(failed=failed)
    await opened.aclose()


@pytest.mark.parametrize("mode", MODES)
def test_a_new_file(run, tmp_path, mode):
    run(write(tmp_path / "out", b"one\n", memoryview(bytearray(b"two\n")), b"", BIG, mode=mode))
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n" + BIG
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_written_makes_an_empty_file(run, tmp_path, mode):
    run(write(tmp_path / "out", mode=mode))
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize(("mode", "left"), [("append", b"old\nnew\n"), ("replace", b"new\n")])
def test_a_file_that_is_there(run, tmp_path, mode, left):
    (tmp_path / "out").write_bytes(b"old\n")
    run(write(tmp_path / "out", b"new\n", mode=mode))
    assert (tmp_path / "out").read_bytes() == left


def test_create_refuses_a_file_that_is_there_unless_it_is_empty(run, tmp_path):
    (tmp_path / "out").touch()
    run(write(tmp_path / "out", b"first\n"))
    with pytest.raises(ConnectorError, match=r"out: is there already and not empty .*append.*replace"):
        run(write(tmp_path / "out", b"second\n"))
    assert (tmp_path / "out").read_bytes() == b"first\n"


def test_replace_shows_the_old_file_until_the_new_one_is_whole(run, tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old\n")
    target.chmod(0o640)

    async def scenario():
        opened = sink(target, "replace")
        await opened.open()
        await opened.write(b"new\n")
        await opened.flush()
        assert target.read_bytes() == b"old\n"
        assert len(os.listdir(tmp_path)) == 2
        await opened.aclose()

    run(scenario())
    assert target.read_bytes() == b"new\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_replace_goes_through_a_link(run, tmp_path):
    (tmp_path / "real").write_bytes(b"old\n")
    (tmp_path / "link").symlink_to("real")
    run(write(tmp_path / "link", b"new\n", mode="replace"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new\n"


@pytest.mark.parametrize(
    ("mode", "left"), [("create", b"part\n"), ("append", b"old\npart\n"), ("replace", b"old\n")]
)
def test_a_run_that_failed(run, tmp_path, mode, left):
    """Replace publishes nothing; the others keep what was written."""
    if mode != "create":
        (tmp_path / "out").write_bytes(b"old\n")
    run(write(tmp_path / "out", b"part\n", mode=mode, failed=True))
    assert (tmp_path / "out").read_bytes() == left
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_run_that_was_to_replace_nothing_leaves_nothing(run, tmp_path):
    run(write(tmp_path / "out", b"part\n", mode="replace", failed=True))
    assert os.listdir(tmp_path) == []


def test_gzip_by_suffix_and_appending_a_member(run, tmp_path):
    run(write(tmp_path / "out.gz", b"one\n", b"two\n"))
    run(write(tmp_path / "out.gz", b"three\n", mode="append"))
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == b"one\ntwo\nthree\n"


# -- targets that cannot be written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_what_is_wrong_with_the_path(run, tmp_path, mode):
    (tmp_path / "file").touch()
    for path, message in [
        (tmp_path / "none" / "out", r"none/out: the folder .*none does not exist"),
        (tmp_path / "file" / "out", r"file/out: the folder .* does not exist"),
        (tmp_path, "is a directory, not a file"),
        (tmp_path / ("x" * 300), "file name too long"),
    ]:
        with pytest.raises(ConnectorError, match=message):
            run(write(path, b"x", mode=mode))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
@pytest.mark.parametrize("mode", MODES)
def test_no_permission(run, tmp_path, mode):
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    with pytest.raises(ConnectorError, match="no permission to write it"):
        run(write(folder / "out", b"x", mode=mode))
    (tmp_path / "out").touch(mode=0o400)
    if mode != "replace":  # which writes beside it
        with pytest.raises(ConnectorError, match="no permission to write it"):
            run(write(tmp_path / "out", b"x", mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_full_device(run, mode):
    with pytest.raises(ConnectorError, match="/dev/full: no space left on device"):
        run(write("/dev/full", b"x", mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_the_null_device_takes_everything_and_stays(run, mode):
    run(write("/dev/null", b"one\n", BIG, mode=mode))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_that_goes_away_meanwhile(run, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    async def scenario():
        opened = sink(folder / "out", "replace")
        await opened.open()
        await opened.write(b"x")
        for name in os.listdir(folder):
            (folder / name).unlink()
        folder.rmdir()
        with pytest.raises(ConnectorError, match=r"the folder .* does not exist"):
            await opened.aclose()
        await opened.aclose()

    run(scenario())


def test_a_pipe_whose_reader_goes_away(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def scenario():
        opened = sink(tmp_path / "pipe")
        opening = asyncio.create_task(opened.open())
        await asyncio.sleep(0.01)
        assert not opening.done()  # nobody reads it yet
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        await opening
        await opened.write(b"one\n")
        assert os.read(reader, 100) == b"one\n"
        os.close(reader)
        with pytest.raises(ReaderGoneError, match="its reader went away"):
            await opened.write(b"two\n")
        await opened.aclose(failed=True)

    run(scenario())


def test_options_say_what_is_wrong():
    for wrong, message in [
        ({"path": ""}, "path must name"),
        ({"path": "a\0b"}, "NUL"),
        ({"path": "a", "mode": "overwrite"}, "Invalid enum value"),
        ({}, "missing required field `path`"),
    ]:
        with pytest.raises(msgspec.ValidationError, match=message):
            msgspec.convert(wrong, SinkOptions)


# -- cut short -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_cancelled_anywhere_leaves_nothing_open_and_no_half_file_in_place(run, tmp_path, mode):
    target = tmp_path / "out"

    async def scenario():
        for turns in range(8):
            target.write_bytes(b"" if mode == "create" else b"old\n")
            writing = asyncio.create_task(write(target, BIG, BIG, mode=mode))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            assert os.listdir(tmp_path) == ["out"]
            left = target.read_bytes()
            if mode == "replace":
                assert left in (b"old\n", BIG + BIG)
            else:
                assert (b"old\n" + BIG + BIG if mode == "append" else BIG + BIG).startswith(left)

    run(scenario())


PIPELINE = """
[sources.rows]
type = "generate"
rate = 2000
[stages.all]
type = "window"
inputs = ["rows"]
aggregates = {{ n = "count(*)" }}
[sinks.out]
type = "file"
path = "{out}"
mode = "{mode}"
inputs = ["rows"]
[sinks.total]
type = "file"
path = "{total}"
inputs = ["all"]
[sinks.seen]
type = "stdout"
inputs = ["rows"]
"""


@pytest.fixture
def started(tmp_path):
    """Starts ``asyncflow run`` on rows without an end; returns once some rows are out."""
    running = []

    def start(mode):
        text = PIPELINE.format(out=tmp_path / "out", total=tmp_path / "total", mode=mode)
        (tmp_path / "live.toml").write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-m", "asyncflow", "run", str(tmp_path / "live.toml")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        running.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_is_stopped_leaves_all_that_was_read(started, tmp_path, mode):
    (tmp_path / "out").write_bytes(b"" if mode == "create" else b"old\n")
    process = started(mode)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    lines = (tmp_path / "out").read_bytes().splitlines()
    if mode == "append":
        assert lines.pop(0) == b"old"
    assert (
        len([msgspec.json.decode(line) for line in lines])
        == msgspec.json.decode((tmp_path / "total").read_bytes())["n"]
    )
    assert sorted(os.listdir(tmp_path)) == ["live.toml", "out", "total"]


def test_a_run_that_is_killed_leaves_the_file_that_was_to_be_replaced(started, tmp_path):
    (tmp_path / "out").write_bytes(b"old\n")
    process = started("replace")
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert (tmp_path / "out").read_bytes() == b"old\n"


def test_a_large_write_does_not_hold_the_loop_by_itself(run, tmp_path):
    """Writes are a thread's: other tasks run between the parts, and the file has them in order."""

    async def scenario():
        opened = sink(tmp_path / "out")
        await opened.open()
        parts = [bytes([number]) * (1 << 18) for number in range(16)]
        turns = 0

        async def turn():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        for part in parts:
            await opened.write(part)
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        await opened.aclose()
        assert turns >= len(parts)
        with io.FileIO(tmp_path / "out") as file:
            assert file.readall() == b"".join(parts)

    run(scenario())
