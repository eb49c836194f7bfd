"""The file of a run with checkpoints: it goes on from a token, and power lost at any moment leaves what the token needs."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncflow.connectors import _checkpointed_file
from asyncflow.connectors._checkpointed_file import CheckpointedFile, CheckpointedFileSink
from asyncflow.connectors._file_sink import FileSink
from asyncflow.errors import ConnectorError
from asyncflow.state.disk import Disk, DiskFile
from tests.state.simulated import SimulatedSystem, machine

MODES = ("append", "create", "replace")


def file_of(path: Path, mode: str) -> CheckpointedFile:
    return CheckpointedFile(str(path), mode, Disk())


@pytest.mark.parametrize("mode", MODES)
def test_a_run_goes_on_from_its_token(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "out"
    first = file_of(path, mode)
    assert first.begin() == 0
    first.write(b"one\n")
    token = first.prepare()
    first.commit(token, last=False)
    first.write(b"two, of which no checkpoint knows\n")
    first._opened.close()  # as the system does when the process is killed
    second = file_of(path, mode)
    assert second.go_on(token) == 4
    second.write(b"three\n")
    last = second.prepare()
    second.commit(last, last=True)
    assert path.read_bytes() == b"one\nthree\n"
    assert os.listdir(tmp_path) == ["out"]
    file_of(path, mode).commit(last, last=True)
    assert path.read_bytes() == b"one\nthree\n"


def test_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    with pytest.raises(ConnectorError, match="is there already and not empty"):
        file_of(path, "create").begin()
    appended = file_of(path, "append")
    assert appended.begin() == 7
    appended.write(b"more\n")
    appended.close()
    assert path.read_bytes() == b"before\n", "no checkpoint knows of more"
    replaced = file_of(path, "replace")
    replaced.begin()
    replaced.write(b"new\n")
    token = replaced.prepare()
    assert path.read_bytes() == b"before\n"
    replaced.commit(token, last=True)
    assert path.read_bytes() == b"new\n"


def test_replace_keeps_the_mode_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    path.chmod(0o640)
    replaced = file_of(path, "replace")
    replaced.begin()
    replaced.commit(replaced.prepare(), last=True)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("mode", MODES)
def test_one_run_writes_it(tmp_path: Path, mode: str) -> None:
    first = file_of(tmp_path / "out", mode)
    first.begin()
    token = first.prepare()
    with pytest.raises(ConnectorError, match="another run is writing it"):
        file_of(tmp_path / "out", mode).begin()
    with pytest.raises(ConnectorError, match="another run is writing it"):
        file_of(tmp_path / "out", mode).go_on(token)
    first.close()
    file_of(tmp_path / "out", mode).go_on(token)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(b"one"), "has 3 bytes; the checkpoint needs its first 8 bytes"),
        (lambda path: path.write_bytes(b"ONE\ntwo\nthree\n"), "are not those that were written"),
        (lambda path: path.unlink(), "is gone; the checkpoint needs its first 8 bytes"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: Callable[[Path], Any], said: str) -> None:
    path = tmp_path / "out"
    first = file_of(path, "append")
    first.begin()
    first.write(b"one\ntwo\n")
    token = first.prepare()
    first.commit(token, last=False)
    first.close()
    change(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(ConnectorError, match=said):
        file_of(path, "append").go_on(token)
    assert (path.read_bytes() if path.exists() else None) == before
    with pytest.raises(ConnectorError, match="the checkpoint is of the file"):
        file_of(tmp_path / "other", "append").go_on(token)
    for wrong in (None, {}, {"path": str(path), "length": 1, "tail": 2, "crc": 0}):
        with pytest.raises(ConnectorError, match="says nothing of this file"):
            file_of(path, "append").go_on(wrong)


def test_a_failure_to_open_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r"the folder .* does not exist"):
        file_of(tmp_path / "nowhere" / "out", "append").begin()
    with pytest.raises(ConnectorError, match="is a directory, not a file"):
        file_of(tmp_path, "append").begin()


@pytest.mark.parametrize("mode", MODES)
async def test_each_checkpoint_ends_a_member(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "out.gz"
    first = FileSink(str(path), mode).with_checkpoints()
    assert isinstance(first, CheckpointedFileSink)
    await first.open()
    await first.write(b"one\n" * 1000)
    token = await first.prepare()
    await first.commit(token, last=False)
    await first.write(b"lost\n" * 100_000)
    await first.aclose(failed=True)
    second = FileSink(str(path), mode).with_checkpoints()
    second.recover(token)
    await second.open()
    await second.write(b"two\n")
    last = await second.prepare()
    await second.aclose()
    await second.commit(last, last=True)
    assert gzip.decompress(path.read_bytes()) == b"one\n" * 1000 + b"two\n"


def test_pipes_and_descriptors_are_written_as_they_come(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/null", "/dev/stdout"):
        sink = FileSink(path, "append")
        assert sink.with_checkpoints() is sink
        assert sink.checkpointed == "at-least-once"


# -- power lost at any moment ------------------------------------------------------------------------------------------------------


def problems(seed: int, mode: str, disk_of: Callable[[SimulatedSystem], Disk] = Disk) -> Iterator[str]:
    """Writes to the end with some checkpoints; what a run that goes on from the last token does not find."""
    chance = random.Random(seed)
    system = machine(SimulatedSystem())
    images: list[SimulatedSystem] = []
    system.on_call = lambda: images.extend(system.image(chance) for _ in range(6))
    file = CheckpointedFile("/home/out", mode, disk_of(system))
    file.begin()
    token, data = file.prepare(), b""
    images.clear()
    for number in range(5):
        for _ in range(chance.randint(0, 3)):
            piece = chance.randbytes(chance.choice((10, 700, 5000)))
            file.write(piece)
            data += piece
        following = file.prepare()
        for image in images:
            yield from _lost(image, mode, token, data, last=False)
        images[:] = [system.image(chance) for _ in range(6)]  # the checkpoint with the token is published now
        for image in images:
            yield from _lost(image, mode, following, data, last=False)
        images.clear()
        token = following
        if number < 4:
            file.commit(token, last=False)
    file.commit(token, last=True)
    for image in [*images, *(system.image(chance) for _ in range(20))]:
        yield from _lost(image, mode, token, data, last=True)


def _lost(image: SimulatedSystem, mode: str, token: Any, data: bytes, *, last: bool) -> Iterator[str]:
    file = CheckpointedFile("/home/out", mode, Disk(image))
    wanted = data[: token["length"]]
    try:
        if last:
            file.commit(token, last=True)
            written = "/home/out"
        else:
            file.go_on(token)
            file.close()
            written = "/home/out" if mode != "replace" else "/home/.out.asyncflow.tmp"
        with Disk(image).open(written) as found:
            if found.read(0, 1 << 30) != wanted:
                yield f"{token}: other bytes"
    except (ConnectorError, OSError) as error:
        yield f"{token}: {error}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_power_lost_after_any_call(seed: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpointed_file.os.path, "realpath", lambda path: path)
    assert list(problems(seed, mode)) == []


@pytest.mark.parametrize(
    ("step", "mode"),
    [
        ("sink.sync", "append"),
        ("sink.sync", "replace"),
        ("sink.dirsync", "create"),
        ("sink.dirsync", "replace"),
    ],
)
def test_no_sync_is_left_out(step: str, mode: str) -> None:
    class LeavesOut(Disk):
        def create(self, name: str, path: str, mode: int = 0o600) -> DiskFile:
            file = super().create(name, path, mode)
            sync = file.sync
            file.sync = lambda name: None if name == step else sync(name)  # type: ignore[method-assign]
            return file

        def sync_folder(self, name: str, path: str) -> None:
            if name != step:
                super().sync_folder(name, path)

    assert any(True for seed in range(4) for _ in problems(seed, mode, LeavesOut))
