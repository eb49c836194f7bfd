"""Checkpoint files: what is written is read again, and a file that was changed in any byte is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncflow.errors import StateError
from asyncflow.model.snapshot import Piece
from asyncflow.state import format as state_format
from asyncflow.state.directory import StateDirectory
from asyncflow.state.disk import Disk
from asyncflow.state.format import (
    BLOCK_BYTES,
    CHECKPOINT,
    Identity,
    Reader,
    Writer,
    described,
    dtype_of,
    header_of,
)

from .simulated import File, SimulatedSystem
from .states import CELL, DTYPES, FIELDS, PIPELINE, RUN, about, publish, rows, same, states

IDENTITY = Identity(CHECKPOINT, 7, RUN, PIPELINE)


def directory_of(system: SimulatedSystem | None = None) -> StateDirectory:
    directory = StateDirectory("/state", Disk(system or SimulatedSystem()))
    directory.lock(RUN)
    return directory


def file_bytes(some: dict[str, Any]) -> tuple[SimulatedSystem, bytearray]:
    """A file system with one checkpoint, and the bytes of its file, which may be changed."""
    system = SimulatedSystem()
    directory = directory_of(system)
    publish(directory, 7, some)
    return system, next(
        node.now for node in system.nodes.values() if isinstance(node, File) and node.now[1:4] == b"AFS"
    )


def read(system: SimulatedSystem) -> Any:
    with Disk(system).open("/state/chk-0000000007.af") as file:
        reader = Reader(file)
        return reader, reader.parts()


@given(st.integers(1, 10_000), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(epoch: int, pieces: int) -> None:
    directory = directory_of()
    some = states(epoch)
    publish(directory, epoch, some, pieces)
    loaded = directory.load()
    assert loaded is not None and loaded.epoch == epoch
    assert same(loaded.states, some)
    assert loaded.contents.about == about(epoch)


def test_parts_of_many_blocks(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    some = {"a": states(1).get("events", None) or states(2)["events"]}
    big = rows(chance, CELL, (2 * BLOCK_BYTES + 1000) // CELL.itemsize)
    parts = {"big": big, "exact": rows(chance, "<i8", BLOCK_BYTES // 8), "none": rows(chance, "<f8", 0)}
    some["a"] = type(some["a"])(FIELDS, parts)
    directory = StateDirectory(str(tmp_path / "state"))
    directory.lock(RUN)
    publish(directory, 1, some, pieces=2)
    loaded = directory.load()
    assert loaded is not None and same(loaded.states, some)
    assert os.stat(directory.file(1)).st_mode & 0o777 == 0o600
    assert os.stat(directory.path).st_mode & 0o777 == 0o700


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype: Any) -> None:
    wanted = np.dtype(dtype)
    said = msgspec.msgpack.decode(msgspec.msgpack.encode(described(wanted)))
    assert dtype_of(said) == wanted


@pytest.mark.parametrize("dtype", ["O", "M8[ns]", "c16", "<f2,O", "U3"])
def test_dtypes_that_are_not_saved(dtype: str) -> None:
    directory = directory_of()
    unpublished = directory.begin(1, PIPELINE)
    with pytest.raises(ValueError, match="is not saved"):
        unpublished.add("a", Piece("b", np.zeros(2, dtype)))


@pytest.mark.parametrize(
    "said",
    [
        "|O8",
        "<U4",
        "<M8[ns]",
        "<i3",
        "i8",
        "",
        7,
        None,
        [],
        {},
        {"size": 8, "fields": []},
        {"size": 4, "fields": [["a", "<i8", 0]]},
        {"size": 8, "fields": [["a", "<i8", -1]]},
        {"size": 16, "fields": [["a", "<i8", 0], ["a", "<i8", 8]]},
        {"size": 8, "fields": [["a", "|O8", 0]]},
        {"of": "<i8", "shape": []},
        {"of": "<i8", "shape": [0]},
        {"of": "<i8", "shape": [2**40]},
        {"of": {"of": {"of": {"of": {"of": {"of": {"of": {"of": {"of": "<i8"}}}}}}}}, "shape": [1]},
    ],
)
def test_what_is_no_dtype(said: Any) -> None:
    with pytest.raises(ValueError, match=r"no dtype|no field"):
        dtype_of(said)


def test_big_endian_rows_are_saved_little_endian() -> None:
    directory = directory_of()
    data = np.arange(5, dtype=">i8")
    publish(directory, 7, {"a": type(states(1)["events"])({}, {"b": data})})
    loaded = directory.load()
    assert loaded is not None
    found = loaded.states["a"].parts["b"]
    assert found.dtype == np.dtype("<i8").newbyteorder("=") and found.tolist() == data.tolist()


def changed(system: SimulatedSystem, some: dict[str, Any]) -> str:
    """What reading a changed file says; it must not be taken for the one that was written."""
    try:
        reader, parts = read(system)
    except StateError as error:
        return str(error)
    pytest.fail(f"a changed file was read: {reader.contents} {parts} {some}")


def test_every_byte_counts() -> None:
    some = states(4, most_rows=250)
    system, data = file_bytes(some)
    assert 4_000 < len(data) < 60_000
    chance = random.Random(1)
    read(system)
    for place in range(len(data)):
        before = data[place]
        data[place] ^= 1 << chance.randrange(8)
        said = changed(system, some)
        assert "/state/chk-0000000007.af: " in said
        data[place] = before
    read(system)


def test_every_length_counts() -> None:
    some = states(4, most_rows=60)
    system, data = file_bytes(some)
    whole = bytes(data)
    for length in range(len(whole)):
        data[:] = whole[:length]
        changed(system, some)
    for more in (b"\0", b"\0" * 8, whole[-32:], whole):
        data[:] = whole + more
        changed(system, some)


def test_blocks_may_not_change_places() -> None:
    some = {"a": type(states(1)["events"])({}, {"b": np.arange(4), "c": np.arange(4)[::-1]})}
    system, data = file_bytes(some)
    whole = bytes(data)
    size = 24 + 8  # of a block of one number, cut into three pieces: 1, 1 and 2 numbers
    data[64 : 64 + size], data[64 + size : 64 + 2 * size] = (
        whole[64 + size : 64 + 2 * size],
        whole[64 : 64 + size],
    )
    assert "in the place of block 0" in changed(system, some)


def test_other_files() -> None:
    system, data = file_bytes(states(3))
    whole = bytes(data)
    data[:] = b"a text\n" * 50
    assert "not a checkpoint of asyncflow" in changed(system, {})
    data[:] = b""
    assert "not a checkpoint of asyncflow" in changed(system, {})
    head = bytearray(header_of(Identity(CHECKPOINT, 7, RUN, PIPELINE))[:60])
    head[8] = 2
    data[:] = head + state_format._crc32(bytes(head)).to_bytes(4, "little") + whole[64:]
    assert "written in format 2 by another version of asyncflow; this version reads format 1" in changed(
        system, {}
    )


def test_fields_of_a_later_minor_version_are_ignored() -> None:
    system, data = file_bytes({})
    whole = bytes(data)
    length = int.from_bytes(whole[64:68], "little")
    contents = msgspec.msgpack.decode(whole[64 + 24 : 64 + 24 + length])
    contents["more"] = {"later": 1}
    contents["about"]["even_more"] = [1]
    encoded = msgspec.msgpack.encode(contents)
    file = Disk(system).create("test", "/later")
    writer = Writer(file, IDENTITY, "test")
    writer._block(state_format.CONTENTS, encoded, "directory")
    writer._buffer += state_format.footer_of(64, len(writer._buffer) + 32)
    writer._flush("footer")
    assert Reader(file).contents.about == about(7)


@given(st.binary(max_size=300), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_contents_of_any_kind_are_refused_or_read(encoded: bytes, seed: int) -> None:
    """The checksums are right: only the contents are not those of a checkpoint."""
    system, data = file_bytes(states(seed % 50))
    chance = random.Random(seed)
    begin = int.from_bytes(data[-32:-24], "little")
    length = int.from_bytes(data[begin : begin + 4], "little")
    contents = data[begin + 24 : begin + 24 + length]
    if chance.random() < 0.5:
        contents = bytearray(encoded)
    else:
        for _ in range(chance.randint(1, 3)):
            contents[chance.randrange(len(contents))] = chance.randrange(256)
    number = sum(1 for _ in Reader(Disk(system).open("/state/chk-0000000007.af"))._blocks(64, begin, 0))
    del data[begin:]
    writer = Writer(Disk(system).open("/state/chk-0000000007.af"), IDENTITY, "test")
    writer._buffer.clear()
    writer._blocks = number
    writer._block(state_format.CONTENTS, bytes(contents), "directory")
    data += writer._buffer
    data += state_format.footer_of(begin, len(data) + 32)
    directory = StateDirectory("/state", Disk(system))
    try:
        loaded = directory.load()
    except StateError:
        return
    assert loaded is not None
