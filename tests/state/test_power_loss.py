"""Power lost after any call: the next start finds the last checkpoint that was published, or the one under way, whole.

The same trial is made with disks that leave out one of the steps on which that rests.  The trial must find each of them out.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator

import pytest

from asyncflow.errors import StateError
from asyncflow.state import format as state_format
from asyncflow.state.directory import StateDirectory, Unpublished
from asyncflow.state.disk import Disk, DiskFile
from asyncflow.state.format import Reader

from .simulated import FailingSystem, SimulatedSystem, machine
from .states import RUN, publish, same, states

EPOCHS, IMAGES = 6, 16
HOME = "/home/state"


def problems(seed: int, disk_of: Callable[[SimulatedSystem], Disk] = Disk) -> Iterator[str]:
    """Publishes some epochs, with power lost after each call: what a restart finds that should not be so."""
    chance = random.Random(seed)
    system = machine(SimulatedSystem())
    published = 0
    images: list[tuple[int, SimulatedSystem]] = []
    system.on_call = lambda: images.extend((published, system.image(chance)) for _ in range(IMAGES))
    directory = StateDirectory(HOME, disk_of(system))
    directory.lock(RUN)
    for epoch in range(1, EPOCHS + 1):
        publish(directory, epoch, states(1_000 * seed + epoch))
        published = epoch
        images.extend((published, system.image(chance)) for _ in range(IMAGES))
        directory.tidy(2)
        for least, image in images:
            if said := problem(seed, image, least, goes_on=chance.random() < 0.05):
                yield said
        images.clear()


def problem(seed: int, image: SimulatedSystem, published: int, *, goes_on: bool) -> str:
    directory = StateDirectory(HOME, Disk(image))
    try:
        loaded = directory.load()
    except (StateError, OSError) as error:
        return f"after epoch {published}: {error}"
    found = 0 if loaded is None else loaded.epoch
    if not published <= found <= published + 1:
        return f"after epoch {published}: the checkpoint {found}"
    if loaded is not None and not same(loaded.states, states(1_000 * seed + found)):
        return f"after epoch {published}: the checkpoint {found} is another one"
    if goes_on:
        directory.lock(RUN)
        following = directory.next_epoch()
        directory.remove_temporaries()
        publish(directory, following, states(following))
        again = directory.load()
        if again is None or not same(again.states, states(following)):
            return f"after epoch {published}: the restart cannot go on"
    return ""


@pytest.mark.parametrize("seed", range(8))
def test_power_lost_after_any_call(seed: int) -> None:
    assert list(problems(seed)) == []


# -- disks that leave something out --------------------


class _LeavesOut(Disk):
    """Does not sync at one step."""

    step = ""

    def create(self, step: str, path: str) -> DiskFile:
        file = super().create(step, path)
        sync = file.sync
        file.sync = lambda step: None if step == self.step else sync(step)  # type: ignore[method-assign]
        return file

    def sync_folder(self, step: str, path: str) -> None:
        if step != self.step:
            super().sync_folder(step, path)


@pytest.mark.parametrize("step", ["publish.fsync", "publish.dirsync", "recover.folder.sync"])
def test_no_sync_is_left_out(step: str) -> None:
    mutant = type("LeavesOut", (_LeavesOut,), {"step": step})
    assert any(True for seed in range(5) for _ in problems(seed, mutant)), step


def test_the_sync_comes_before_the_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Unpublished, about: object, fields: object) -> object:
        contents = self._writer.finish(about, fields)  # type: ignore[arg-type]
        self._directory.publish(self._path, self.epoch, contents)
        self._file.sync("publish.fsync")
        self._file.close()
        return contents

    monkeypatch.setattr(Unpublished, "publish", hasty)
    assert any(True for seed in range(5) for _ in problems(seed))


def test_the_file_has_another_name_until_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Unpublished, directory: StateDirectory, identity: object) -> None:
        begin(self, directory, identity)  # type: ignore[arg-type]
        directory.disk.rename("publish.rename", self._path, directory.file(self.epoch))
        self._path = directory.file(self.epoch)

    begin = Unpublished.__init__
    monkeypatch.setattr(Unpublished, "__init__", hasty)
    monkeypatch.setattr(
        StateDirectory, "publish", lambda self, path, epoch, contents: self.disk.sync_folder("x", self.path)
    )
    assert any(True for seed in range(5) for _ in problems(seed))


def test_the_checksums_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_format, "_crc32", lambda data, before=0: 0)
    system = machine(SimulatedSystem())
    directory = StateDirectory(HOME, Disk(system))
    directory.lock(RUN)
    publish(directory, 1, states(4))
    with Disk(system).open(directory.file(1)) as file:
        data = system._file(file._descriptor).now
        data[64 + 24] ^= 1
        Reader(file).parts()  # nobody notices


# -- calls that fail --------------------


def calls_of_a_run() -> int:
    system = FailingSystem()
    machine(system)
    system.fail(1 << 30, 0)
    publish_two(system)
    return (1 << 30) - system.left


def publish_two(system: SimulatedSystem) -> int:
    """Publishes two epochs and tidies; how many were published."""
    directory = StateDirectory(HOME, Disk(system))
    directory.lock(RUN)
    published = 0
    try:
        for epoch in (1, 2):
            publish(directory, epoch, states(epoch))
            published = epoch
            directory.tidy(2)
    finally:
        directory.unlock()
    return published


@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EIO, errno.EDQUOT, 0],
    ids=lambda code: os.strerror(code) if code else "short",
)
def test_any_call_fails_once(code: int) -> None:
    """The run fails there or not at all; the next start goes on from what was published."""
    count = calls_of_a_run()
    assert count > 12
    for number in range(1, count + 1):
        system = FailingSystem()
        machine(system)
        system.fail(number, code)
        try:
            publish_two(system)
        except (OSError, StateError) as error:
            found = error if isinstance(error, OSError) else error.__cause__
            assert isinstance(found, OSError) and found.errno == code
        else:
            assert code == 0 or system.left > 0
        system.fail(1 << 30, 0)
        directory = StateDirectory(HOME, Disk(system))
        loaded = directory.load()
        if loaded is not None:
            assert same(loaded.states, states(loaded.epoch))
        directory.lock(RUN)
        directory.remove_temporaries()
        following = directory.next_epoch()
        publish(directory, following, states(following))
        again = directory.load()
        assert again is not None and same(again.states, states(following))


class Ended(BaseException):
    """The process was killed there."""


def test_ended_at_any_step() -> None:
    """Each step has a name; a run that is ended before it or after it, and one that is ended again as it recovers, goes on."""
    steps: list[str] = []
    first = machine(SimulatedSystem())
    whole_run(first, steps.append)
    assert {
        "publish.create.before",
        "publish.rename.after",
        "publish.dirsync.after",
        "tidy.unlink.before",
    } <= set(steps)
    for number in range(len(steps)):
        system = machine(SimulatedSystem())
        for again in (number, number % 7, 1 << 30):
            left = [again]

            def end(name: str, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise Ended(name)

            try:
                whole_run(system, end)
            except Ended:
                system._locked.clear()
        directory = StateDirectory(HOME, Disk(system))
        loaded = directory.load()
        assert loaded is not None and loaded.epoch >= 4 and same(loaded.states, states(loaded.epoch))
        assert not [name for name in Disk(system).names(HOME) if name.startswith(".tmp")]


def whole_run(system: SimulatedSystem, on_step: Callable[[str], None]) -> None:
    """Goes on from what is there, to four more checkpoints."""
    directory = StateDirectory(HOME, Disk(system, on_step))
    directory.lock(RUN)
    loaded = directory.load()
    assert loaded is None or same(loaded.states, states(loaded.epoch))
    epoch = directory.next_epoch()
    directory.remove_temporaries()
    for following in range(epoch, epoch + 4):
        publish(directory, following, states(following))
        directory.tidy(2)
    directory.unlock()
