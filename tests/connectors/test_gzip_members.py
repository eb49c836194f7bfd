"""ISA-L and zlib read the same gzip files, refuse the same damage, and read what the other one wrote."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncflow.connectors import _compression, _gzip_members
from asyncflow.errors import ConnectorError

pytestmark = pytest.mark.skipif(not _gzip_members.HAS_ISAL, reason="zlib alone: nothing to compare")

TEXT = b"".join(b"%d,%d\n" % (row, row * row % 997) for row in range(60))
FILE = gzip.compress(TEXT, mtime=0) + gzip.compress(b"second\n", mtime=0)
FLAGS = 3
"""Where a header has its flags."""
RESERVED = 0xE0


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(_gzip_members, "HAS_ISAL", request.param == "isal")
    return request.param


def contents(path: Path, data: bytes) -> tuple[bytes, str]:
    """What a file of these bytes gives, and the error that ends it."""
    path.write_bytes(data)
    archive = _compression.Archive(io.FileIO(path, "rb"), "a.gz", ".gz")
    given = b""
    try:
        while block := archive.next_block():
            given += block
    except ConnectorError as error:
        return given, str(error).partition(" (")[0]
    finally:
        archive.close()
    return given, ""


def of_both(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, str]]:
    each = []
    for has_isal in (True, False):
        monkeypatch.setattr(_gzip_members, "HAS_ISAL", has_isal)
        each.append(contents(path, data))
    return each


def test_every_cut_gives_the_same_bytes_and_the_same_error(tmp_path, monkeypatch):
    for size in range(1, len(FILE)):
        isal, plain = of_both(tmp_path / "a.gz", FILE[:size], monkeypatch)
        assert isal == plain
        assert (TEXT + b"second\n").startswith(isal[0])


def test_every_flipped_bit_is_taken_or_refused_by_both(tmp_path, monkeypatch):
    second = len(gzip.compress(TEXT, mtime=0))
    for place in range(len(FILE)):
        for bit in (1 << number for number in range(8)):
            damaged = bytearray(FILE)
            damaged[place] ^= bit
            isal, plain = of_both(tmp_path / "a.gz", bytes(damaged), monkeypatch)
            if place in (FLAGS, second + FLAGS) and bit & RESERVED:
                assert isal == (TEXT + b"second\n", "")
                assert plain[1]
            else:
                assert bool(isal[1]) == bool(plain[1])
                assert isal[1] or isal == plain


@pytest.mark.parametrize("flags", [4, 8, 16, 4 | 8 | 16 | 1])
def test_headers_with_names_and_comments(tmp_path, library, flags):
    parts = {4: b"\3\0abc", 8: b"name\0", 16: b"comment\0"}
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(5) + b"\xff"
    head += b"".join(part for flag, part in parts.items() if flags & flag)
    assert contents(tmp_path / "a.gz", head + FILE[10:]) == (TEXT + b"second\n", "")


def test_the_checksum_of_a_header_counts(tmp_path, library):
    head = b"\x1f\x8b\x08\x02" + bytes(5) + b"\xff"
    right = (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little")
    assert contents(tmp_path / "a.gz", head + right + FILE[10:])[1] == ""
    assert "not valid gzip data" in contents(tmp_path / "a.gz", head + b"\0\0" + FILE[10:])[1]


@pytest.mark.parametrize("input_bytes", [1, 3, 100])
@pytest.mark.parametrize("block_bytes", [1, 5, 1000])
def test_input_and_blocks_of_any_size(tmp_path, library, monkeypatch, input_bytes, block_bytes):
    monkeypatch.setattr(_compression, "INPUT_BYTES", input_bytes)
    monkeypatch.setattr(_compression, "BLOCK_BYTES", block_bytes)
    assert contents(tmp_path / "a.gz", FILE + bytes(9) + FILE) == ((TEXT + b"second\n") * 2, "")


def test_what_is_written_can_be_read(library):
    random_bytes = random.Random(1).randbytes(300_000)
    writer = _compression.compressor(".gz")
    written = b"".join(writer.compress(part) for part in (TEXT * 1000, b"", random_bytes)) + writer.flush()
    assert gzip.decompress(written) == TEXT * 1000 + random_bytes
    assert len(written) < len(TEXT) * 100 + len(random_bytes)
