"""stdin and stdout in processes of their own: pipes, files, terminals, sockets and devices, on both loops."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import textwrap
import tty

import pytest

PROLOGUE = """
import asyncio, os, sys, hashlib
import uvloop
from asyncflow.connectors import stdin, stdout
from asyncflow.errors import ConnectorError, ReaderGoneError

async def read_all(buffer_bytes=262144):
    source = stdin.open_source(stdin.SourceOptions())
    buffer, data = memoryview(bytearray(buffer_bytes)), bytearray()
    async for stream in source.streams():
        while count := await stream.read_into(buffer):
            data += buffer[:count]
    await source.aclose(); await source.aclose()
    return source, bytes(data)

async def write_all(*parts):
    sink = stdout.open_sink(stdout.SinkOptions())
    await sink.open()
    try:
        for part in parts:
            await sink.write(part)
        await sink.flush()
    finally:
        await sink.aclose(); await sink.aclose()

def say(*what):
    print(*what, file=sys.stderr, flush=True)

async def patient():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no matter of these tests
    await main()
"""
READ = """
async def main():
    source, data = await read_all()
    say(len(data), hashlib.sha256(data).hexdigest(), source.bounded, source.total_bytes, source.position_bytes)
"""
COPY = """
async def main():
    source, data = await read_all()
    await write_all(data[:10], memoryview(data)[10:], b"")
"""
ENDLESS = """
async def main():
    try:
        while True:
            await write_all(b"x" * 100_000)
    except ReaderGoneError as error:
        say("gone:", error)
    except ConnectorError as error:
        say("error:", error)
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def python(request):
    """Starts a script whose ``main`` runs on one of the loops; warnings are errors there too."""
    runner = f"{request.param}.run(patient())"
    started: list[subprocess.Popen[bytes]] = []

    def start(script, **options):
        program = PROLOGUE + textwrap.dedent(script) + "\n" + runner
        command = [sys.executable, "-W", "error", "-X", "dev", "-c", program]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process, data=None):
    try:
        out, err = process.communicate(data, timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, err.decode()
    return out, err.decode().split()


DATA = os.urandom(3_000_001)


def digest(data):
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_stdin_from_a_pipe(python):
    _, said = finish(python(READ, stdin=subprocess.PIPE), DATA)
    assert said == [str(len(DATA)), digest(DATA), "False", "None", str(len(DATA))]


def test_stdin_from_a_pipe_with_nothing_in_it(python):
    assert finish(python(READ, stdin=subprocess.PIPE), b"")[1][0] == "0"


def test_stdin_from_a_file_begins_where_it_stands(python, tmp_path):
    (tmp_path / "in").write_bytes(DATA)
    with open(tmp_path / "in", "rb") as file:
        os.lseek(file.fileno(), 1000, os.SEEK_SET)
        _, said = finish(python(READ, stdin=file))
    rest = len(DATA) - 1000
    assert said == [str(rest), digest(DATA[1000:]), "True", str(rest), str(rest)]


def test_stdin_from_dev_null(python):
    assert finish(python(READ, stdin=subprocess.DEVNULL))[1][0] == "0"


def test_stdin_from_a_socket(python):
    ours, theirs = socket.socketpair()
    process = python(READ, stdin=theirs)
    ours.sendall(DATA)
    ours.close()
    assert finish(process)[1][:2] == [str(len(DATA)), digest(DATA)]
    assert theirs.getblocking()
    assert os.get_blocking(theirs.fileno())
    theirs.close()


def test_stdin_from_a_terminal_which_stays_blocking(python):
    master, slave = pty.openpty()
    process = python(READ, stdin=slave)
    os.write(master, b"first\nsecond\n\x04")
    assert finish(process)[1][:2] == ["13", digest(b"first\nsecond\n")]
    assert os.get_blocking(slave)
    os.close(master)
    os.close(slave)


def test_stdin_closed(python):
    process = python(
        """
        async def main():
            os.close(0)
            try:
                await read_all()
            except ConnectorError as error:
                say(error)
        """,
        stdin=subprocess.DEVNULL,
    )
    assert " ".join(finish(process)[1]) == "stdin cannot be read: bad file descriptor"


def test_stdin_waits_without_blocking_the_loop_and_can_be_cancelled_and_stopped(python):
    process = python(
        """
        async def main():
            source = stdin.open_source(stdin.SourceOptions())
            stream = await anext(source.streams())
            buffer = memoryview(bytearray(100))
            for _ in range(3):
                reading = asyncio.create_task(stream.read_into(buffer))
                await asyncio.sleep(0.01)
                assert not reading.done()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            reading = asyncio.create_task(stream.read_into(buffer))
            await asyncio.sleep(0.01)
            await source.stop()
            say(await reading, await stream.read_into(buffer), stream.error)
            await source.aclose()
        """,
        stdin=subprocess.PIPE,
    )
    said = process.stderr.readline()  # the pipe stays open on our side all the while
    process.communicate(timeout=60)
    assert said.split() == [b"0", b"0", b"stopped"]


def test_stop_still_hands_out_what_the_pipe_holds(python):
    process = python(
        """
        async def main():
            source = stdin.open_source(stdin.SourceOptions())
            stream = await anext(source.streams())
            buffer, data = memoryview(bytearray(1000)), b""
            data += buffer[: await stream.read_into(buffer)]
            await source.stop()
            while count := await stream.read_into(buffer):
                data += buffer[:count]
            say(len(data), stream.error)
            await source.aclose()
        """,
        stdin=subprocess.PIPE,
    )
    process.stdin.write(bytes(50_000))
    process.stdin.flush()
    said = process.stderr.readline()
    process.communicate(timeout=60)
    assert said.split() == [b"50000", b"stopped"]


@pytest.mark.parametrize("where", ["pipe", "file", "append"])
def test_stdout_takes_everything(python, tmp_path, where):
    source = tmp_path / "in"
    source.write_bytes(DATA)
    with open(source, "rb") as given:
        if where == "pipe":
            assert finish(python(COPY, stdin=given, stdout=subprocess.PIPE))[0] == DATA
            return
        target = tmp_path / "out"
        target.write_bytes(b"before\n")
        with open(target, "ab" if where == "append" else "r+b") as taken:
            finish(python(COPY, stdin=given, stdout=taken))
        assert target.read_bytes() == (b"before\n" + DATA if where == "append" else DATA)


def test_stdout_to_a_terminal_which_stays_blocking(python):
    master, slave = pty.openpty()
    tty.setraw(slave)
    process = python('async def main(): await write_all(b"one\\n", b"two\\n")', stdout=slave)
    finish(process)
    assert os.read(master, 100) == b"one\ntwo\n"
    assert not fcntl.fcntl(slave, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(master)
    os.close(slave)


def test_stdout_to_a_socket(python):
    ours, theirs = socket.socketpair()
    process = python('async def main(): await write_all(b"x" * 1_000_000, b"y")', stdout=theirs)
    theirs.close()
    got = bytearray()
    while part := ours.recv(65536):
        got += part
    ours.close()
    finish(process)
    assert got == b"x" * 1_000_000 + b"y"


def test_a_reader_that_goes_away_is_its_own_error(python):
    process = python(ENDLESS, stdout=subprocess.PIPE)
    process.stdout.read(1_000_000)
    process.stdout.close()
    assert process.stderr.readline() == b"gone: the reader of stdout went away\n"
    process.stderr.close()
    assert process.wait(60) == 0


def test_a_full_device_is_an_error(python):
    with open("/dev/full", "wb", buffering=0) as full:
        _, said = finish(python(ENDLESS, stdout=full))
    assert " ".join(said) == "error: stdout cannot be written: no space left on device"


def test_a_slow_reader_holds_the_writer_not_the_loop(python):
    process = python(
        """
        async def main():
            writing = asyncio.create_task(write_all(b"x" * 20_000_000))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not writing.done()
            say("loop lives")
            await writing
        """,
        stdout=subprocess.PIPE,
    )
    assert process.stderr.readline() == b"loop lives\n"
    assert len(finish(process)[0]) == 20_000_000


def test_a_cancelled_write_lets_go(python):
    process = python(
        """
        async def main():
            before = len(os.listdir("/proc/self/fd"))
            writing = asyncio.create_task(write_all(b"x" * 20_000_000))
            await asyncio.sleep(0.05)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            say(writing.cancelled(), len(os.listdir("/proc/self/fd")) == before)
        """,
        stdout=subprocess.PIPE,
    )
    assert process.stderr.readline() == b"True True\n"
    process.stdout.close()
    process.stderr.close()
    assert process.wait(60) == 0


def test_interrupt_goes_through(python):
    """A waiting read does not swallow SIGINT."""
    process = python(
        "async def main():\n    say('ready')\n    await read_all()",
        stdin=subprocess.PIPE,
        # A shell that starts tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in err
