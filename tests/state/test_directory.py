"""The directory of checkpoints: owners, publishing, going back, tidying, chains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asyncflow.errors import StateError
from asyncflow.model.snapshot import Piece, Saved
from asyncflow.state.directory import StateDirectory, move_aside

from .states import PIPELINE, RUN, about, publish, same, states


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    found = StateDirectory(str(tmp_path / "state"))
    found.lock(RUN)
    return found


def test_nothing_there(directory: StateDirectory, tmp_path: Path) -> None:
    assert directory.load() is None
    assert directory.epochs() == []
    assert directory.next_epoch() == 1
    assert StateDirectory(str(tmp_path / "nowhere")).load() is None
    with pytest.raises(StateError, match=r"there is no checkpoint 3 \(there are: none\)"):
        directory.load(3)


def test_the_newest_is_the_state(directory: StateDirectory) -> None:
    for epoch in (1, 2, 5):
        publish(directory, epoch, states(epoch))
    loaded = directory.load()
    assert loaded is not None and loaded.epoch == 5 and same(loaded.states, states(5))
    older = directory.load(2)
    assert older is not None and same(older.states, states(2))
    assert directory.next_epoch() == 6
    with pytest.raises(StateError, match=r"there is no checkpoint 4 \(there are: 1, 2, 5\)"):
        directory.load(4)


def test_a_damaged_one_is_not_skipped(directory: StateDirectory) -> None:
    for epoch in (1, 2):
        publish(directory, epoch, states(epoch))
    path = Path(directory.file(2))
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError, match=r"chk-0000000002\.af: damaged at byte 64"):
        directory.load()
    with pytest.raises(StateError, match="damaged at byte 64"):
        directory.check(2)
    directory.check(1)


def test_a_renamed_file_is_refused(directory: StateDirectory) -> None:
    publish(directory, 1, states(1))
    os.rename(directory.file(1), directory.file(9))
    with pytest.raises(StateError, match="holds the checkpoint 1, not 9"):
        directory.load()


def test_an_epoch_is_published_once(directory: StateDirectory) -> None:
    publish(directory, 1, states(1))
    with pytest.raises(StateError, match="there is a checkpoint of this epoch already"):
        publish(directory, 1, states(2))
    loaded = directory.load()
    assert loaded is not None and same(loaded.states, states(1))


def test_tidying_keeps_the_last(directory: StateDirectory) -> None:
    for epoch in range(1, 8):
        publish(directory, epoch, states(epoch))
        directory.tidy(3)
    assert directory.epochs() == [5, 6, 7]
    directory.tidy(0)
    assert directory.epochs() == [6, 7]


def test_what_a_dead_run_left(directory: StateDirectory) -> None:
    publish(directory, 1, states(1))
    directory.begin(8, PIPELINE).add("a", Piece("b", np.arange(10)))
    assert directory.next_epoch() == 9
    other = Path(directory.path) / "notes.txt"
    other.write_text("not ours")
    directory.remove_temporaries()
    assert sorted(os.listdir(directory.path)) == ["chk-0000000001.af", "lock", "notes.txt"]
    assert directory.next_epoch() == 2


def test_one_that_is_dropped(directory: StateDirectory) -> None:
    unpublished = directory.begin(1, PIPELINE)
    unpublished.add("a", Piece("b", np.arange(10)))
    unpublished.drop()
    assert os.listdir(directory.path) == ["lock"]


# -- chains ------------------------------------------------------------------------------------------------------------------------------


def chained(directory: StateDirectory, epoch: int, before: int | None, rows: list[int]) -> None:
    """A part that goes on from the one of an earlier checkpoint."""
    unpublished = directory.begin(epoch, PIPELINE)
    if before is not None:
        (part,) = directory.contents(before).states["a"].parts
        unpublished.keep("a", part)
    if rows:
        unpublished.add("a", Piece("keys", np.array(rows)))
    unpublished.publish(about(epoch), {"a": {}})


def test_rows_that_were_saved_before_are_not_saved_again(directory: StateDirectory) -> None:
    chained(directory, 1, None, [1, 2, 3])
    chained(directory, 2, 1, [4])
    chained(directory, 3, 2, [])
    chained(directory, 4, 3, [5, 6])
    for epoch, wanted in ((1, [1, 2, 3]), (2, [1, 2, 3, 4]), (3, [1, 2, 3, 4]), (4, [1, 2, 3, 4, 5, 6])):
        loaded = directory.load(epoch)
        assert loaded is not None and loaded.states["a"].parts["keys"].tolist() == wanted
        directory.check(epoch)
    directory.tidy(2)
    assert directory.epochs() == [1, 2, 3, 4], "1 and 2 hold rows of 3 and 4"
    again = StateDirectory(directory.path)
    directory.unlock()
    again.lock(RUN)
    again.tidy(2)
    assert again.epochs() == [1, 2, 3, 4], "so says the file, after a restart too"
    chained(again, 5, None, [7])
    chained(again, 6, 5, [8])
    again.tidy(2)
    assert again.epochs() == [5, 6]


def test_a_chain_that_is_broken(directory: StateDirectory) -> None:
    chained(directory, 1, None, [1, 2, 3])
    chained(directory, 2, 1, [4])
    kept = Path(directory.file(1)).read_bytes()
    os.unlink(directory.file(1))
    with pytest.raises(StateError, match="there is no checkpoint 1"):
        directory.load()
    chained(directory, 1, None, [1, 2, 9])
    with pytest.raises(StateError, match="is not the file that it was saved in"):
        directory.load()
    os.unlink(directory.file(1))
    directory.unlock()
    other = StateDirectory(directory.path)
    other.lock(bytes(16))
    chained(other, 1, None, [1, 2, 3])
    with pytest.raises(StateError, match="is not the file that it was saved in"):
        other.load(2)
    Path(directory.file(1)).write_bytes(kept)
    loaded = other.load(2)
    assert loaded is not None and loaded.states["a"].parts["keys"].tolist() == [1, 2, 3, 4]


def test_rows_of_another_dtype_do_not_follow(directory: StateDirectory) -> None:
    chained(directory, 1, None, [1])
    unpublished = directory.begin(2, PIPELINE)
    unpublished.keep("a", directory.contents(1).states["a"].parts[0])
    unpublished.add("a", Piece("keys", np.array([1.5])))
    with pytest.raises(ValueError, match="rows of float64 after rows of"):
        unpublished.publish(about(2), {"a": {}})
    unpublished.drop()


# -- owners ------------------------------------------------------------------------------------------------------------------------------


def test_one_owner(directory: StateDirectory) -> None:
    told = json.loads((Path(directory.path) / "lock").read_text())
    assert told["pid"] == os.getpid() and told["run"] == RUN.hex()
    other = StateDirectory(directory.path)
    with pytest.raises(
        StateError, match=f"state: in use by process {os.getpid()} on .*: end that run, or choose"
    ):
        other.lock(bytes(16))
    directory.unlock()
    other.lock(bytes(16))


def test_one_owner_among_twenty_processes(tmp_path: Path) -> None:
    code = f"""
import sys
from asyncflow.errors import StateError
from asyncflow.state.directory import StateDirectory
directory = StateDirectory({str(tmp_path / "state")!r})
sys.stdin.readline()
try:
    directory.lock(bytes(16))
    print("mine", flush=True)
except StateError as error:
    print(error, flush=True)
sys.stdin.readline()
"""
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    try:
        for starter in starters:
            assert starter.stdin is not None
            starter.stdin.write("\n")
            starter.stdin.flush()
        said = [starter.stdout.readline() for starter in starters if starter.stdout is not None]
        assert sorted(line == "mine\n" for line in said) == [False] * 19 + [True]
        assert all("in use by" in line for line in said if line != "mine\n")
        owner = starters[[line == "mine\n" for line in said].index(True)]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        StateDirectory(str(tmp_path / "state")).lock(bytes(16))
    finally:
        for starter in starters:
            starter.kill()
            starter.communicate()


def test_a_run_that_has_lost_its_directory_does_not_publish(directory: StateDirectory) -> None:
    publish(directory, 1, states(1))
    unpublished = directory.begin(2, PIPELINE)
    os.unlink(os.path.join(directory.path, "lock"))
    other = StateDirectory(directory.path)
    other.lock(bytes(16))
    with pytest.raises(StateError, match="another run has taken this directory"):
        unpublished.publish(about(2), {})
    unpublished.drop()
    publish(other, 2, states(2))
    loaded = directory.load()
    assert loaded is not None and same(loaded.states, states(2))


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.chmod(tmp_path / "state", 0o770)
    with pytest.raises(StateError, match="others may write in this directory"):
        StateDirectory(str(tmp_path / "state")).lock(RUN)


def test_moved_aside(directory: StateDirectory, tmp_path: Path) -> None:
    publish(directory, 1, states(1))
    path = str(tmp_path / "state")
    with pytest.raises(StateError, match="in use by process"):
        move_aside(path)
    directory.unlock()
    assert move_aside(path) == f"{path}.old-1"
    assert move_aside(path) is None
    (tmp_path / "state").mkdir()
    assert move_aside(path) == f"{path}.old-2"
    old = StateDirectory(f"{path}.old-1").load()
    assert old is not None and same(
        old.states, {owner: Saved(state.fields, state.parts) for owner, state in states(1).items()}
    )
