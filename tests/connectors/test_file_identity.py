"""A file that was read to a position is known again, and one that has changed before the position is not taken for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from asyncflow.connectors import file
from asyncflow.connectors._file_identity import check_identity, identity_of
from asyncflow.errors import ConnectorError

DATA = os.urandom(20_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "in").write_bytes(DATA)
    return tmp_path / "in"


@pytest.mark.parametrize("offset", [0, 1, 100, 4096, 5000, 20_000])
def test_the_same_file(path: Path, offset: int) -> None:
    said = identity_of(str(path), offset)
    check_identity(str(path), offset, said)
    with path.open("ab") as more:
        more.write(b"more")
    check_identity(str(path), offset, said)
    copied = path.with_name("copied")
    copied.write_bytes(path.read_bytes())
    check_identity(str(copied), offset, said)


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (100, b"x" + DATA[1:]),
        (20_000, DATA[:-1]),
        (20_000, DATA[:-1] + bytes([DATA[-1] ^ 1])),
        (10_000, DATA[:9_000] + os.urandom(11_000)),
        (0, b""),
    ],
)
def test_another_file(path: Path, offset: int, data: bytes) -> None:
    said = identity_of(str(path), offset)
    path.write_bytes(data)
    with pytest.raises(ConnectorError, match=f"is not the file any more that was read up to byte {offset}"):
        check_identity(str(path), offset, said)


def test_a_file_that_is_gone(path: Path) -> None:
    said = identity_of(str(path), 10)
    path.unlink()
    with pytest.raises(ConnectorError, match="no such file"):
        check_identity(str(path), 10, said)
    with pytest.raises(ConnectorError, match="no such file"):
        identity_of(str(path), 10)


@pytest.mark.parametrize(
    "said", [None, {}, 7, {"head_bytes": 10**9, "head": 1, "before": 1}, {"head_bytes": "1"}]
)
def test_what_says_nothing(path: Path, said: Any) -> None:
    with pytest.raises(ConnectorError, match="does not say which file was read"):
        check_identity(str(path), 10, said)


async def test_files_that_match_later_are_not_read(tmp_path: Path) -> None:
    for name in ("b", "d"):
        (tmp_path / name).write_bytes(name.encode())
    options = file.SourceOptions(path=str(tmp_path / "*"))
    position = file.open_source(options).position(0, 1)
    for name in ("a", "c", "e"):
        (tmp_path / name).write_bytes(name.encode())
    again = file.open_source(options)
    again.go_on(position, 0, 1)
    names = []
    async for stream in again.streams():
        names.append(Path(stream.name).name)
        await stream.aclose()
    assert names == ["b", "d"]
    with pytest.raises(ConnectorError, match="does not say which files were read"):
        file.open_source(options).go_on(None, 0, 0)
