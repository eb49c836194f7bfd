"""The bytes of a checkpoint file: a header, blocks of data, the contents, a footer.

A *part* is an array of one dimension with a name.  Its bytes stand in blocks of at most 8 MiB, in order; blocks of several parts may
alternate.  The *contents*, written last, say what the file holds: the plain fields of each state, and the name, dtype and number of rows of
each of its parts.  All integers are little-endian.

::

    header   64 bytes   0 magic | 8 u16 major, u16 minor | 12 u32 kind | 16 u64 epoch | 24 run, 16 bytes | 40 pipeline, 16 bytes
                        56 u32 0 | 60 u32 CRC of bytes 0 to 60
    block    24 bytes   0 u32 length | 4 u32 part | 8 u64 number of the block in the file
                        16 u32 CRC of bytes 0 to 16 and of the payload | 20 u32 0, then the payload, and zeros to a multiple of 8
    footer   32 bytes   0 u64 offset of the contents | 8 u64 length of the file | 16 u32 CRC of bytes 0 to 16 | 20 u32 0 | 24 magic

Every byte of a file is checked when the file is read.  A file that lost, gained or changed a byte is refused, and the error names the
place.  A file of another major version is refused; fields that a later minor version adds to the contents are ignored.  The checks find
damage, not malice: only its owner can write in the directory.

A part leads to its rows by a *chain* of links, each to a part of a file (epoch and run): first a whole part, then *tails*, whose rows
follow.  So rows that have not changed are not written again.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow.errors import StateError
from asyncflow.model.snapshot import Array, Piece, Plain
from asyncflow.state.disk import Buffer, DiskFile

try:  # the same sum, three times as fast
    from isal.isal_zlib import crc32 as _crc32
except ImportError:
    _crc32 = zlib.crc32

MAJOR, MINOR = 1, 0
CHECKPOINT, SAVEPOINT = 1, 2
BLOCK_BYTES = 8 << 20
CONTENTS = 0xFFFFFFFF
"""The number that blocks of the contents bear in the place of a part's."""
MAGIC, END_MAGIC = b"\x89AFS\r\n\x1a\n", b"AFSEND\r\n"
_HEADER = struct.Struct("<8sHHIQ16s16sII")
_BLOCK = struct.Struct("<IIQII")
_FOOTER = struct.Struct("<QQII8s")
_BUFFER_BYTES = 1 << 20
_PLAIN_DTYPE = re.compile(r"[<|][biufSV][1-9][0-9]{0,5}")
_DEEPEST_DTYPE = 8

Status: TypeAlias = Literal["running", "stopped", "drained", "finished"]
Bytes: TypeAlias = NDArray[np.uint8]


class Identity(Struct, frozen=True):
    """Whose file it is.  ``kind``: :data:`CHECKPOINT` or :data:`SAVEPOINT`; ``run``, ``pipeline``: 16 bytes each."""

    kind: int
    epoch: int
    run: bytes
    pipeline: bytes


class Link(Struct, frozen=True):
    """Where rows of a part stand: in the file of ``epoch`` that ``run`` wrote, as its part ``part``.  ``crc``: over the sums of the part's
    blocks there."""

    epoch: int
    run: bytes
    part: int
    kind: Literal["full", "tail"]
    rows: int
    crc: int


class Part(Struct, frozen=True):
    """A part of a state; ``dtype``: see :func:`described`."""

    name: str
    dtype: Any
    chain: list[Link]


class State(Struct, frozen=True):
    """The state of one source, stage or sink."""

    fields: dict[str, Any]
    parts: list[Part]


class About(Struct, frozen=True, kw_only=True):
    """What a checkpoint says of its run.  Times in ns since 1970: ``created_ns`` when it was made, ``clock_ns`` by the clock of the run."""

    asyncflow: str
    created_ns: int
    clock_ns: int
    previous: int | None = None
    status: Status = "running"
    plan: dict[str, Any] = {}
    ledger: dict[str, Any] = {}


class Contents(Struct, frozen=True):
    """All that a file holds but the rows."""

    about: About
    states: dict[str, State]


# -- dtypes --------------------------------------------------------------------------------------------------------------------------


def described(dtype: np.dtype[Any]) -> Plain:
    """A dtype as plain values: numbers, truth values and bytes by their code, a record by its size and its fields.

    ValueError for any other dtype (objects, times)."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"of": described(base), "shape": list(shape)}
    if dtype.names is not None and dtype.fields is not None:
        fields: list[Plain] = [
            [name, described(dtype.fields[name][0]), dtype.fields[name][1]] for name in dtype.names
        ]
        return {"size": dtype.itemsize, "fields": fields}
    code = dtype.newbyteorder("<").str
    if not _PLAIN_DTYPE.fullmatch(code):
        raise ValueError(f"an array of {dtype} is not saved")
    return code


def dtype_of(described: object, depth: int = 0) -> np.dtype[Any]:
    """The dtype of :func:`described`, little-endian.  ValueError where there is none."""
    if isinstance(described, str) and _PLAIN_DTYPE.fullmatch(described):
        try:
            return np.dtype(described)
        except TypeError as error:
            raise ValueError(f"{described} is no dtype") from error
    if not isinstance(described, dict) or depth == _DEEPEST_DTYPE:
        raise ValueError(f"{described!r} is no dtype")
    match described:
        case {"of": base, "shape": [*shape]} if shape and all(
            type(size) is int and 0 < size < 2**16 for size in shape
        ):
            return np.dtype((dtype_of(base, depth + 1), tuple(shape)))
        case {"size": int(size), "fields": [*fields]} if 0 < size < 2**20:
            columns = [_field(field, depth) for field in fields]
            names = [name for name, _, _ in columns]
            if names and len(set(names)) == len(names):
                with contextlib.suppress(ValueError):  # a field that reaches beyond the record
                    return np.dtype(
                        {
                            "names": names,
                            "formats": [kind for _, kind, _ in columns],
                            "offsets": [offset for _, _, offset in columns],
                            "itemsize": size,
                        }
                    )
    raise ValueError(f"{described!r} is no dtype")


def _field(field: object, depth: int) -> tuple[str, np.dtype[Any], int]:
    match field:
        case [str(name), kind, int(offset)] if name and 0 <= offset < 2**20:
            return name, dtype_of(kind, depth + 1), offset
    raise ValueError(f"{field!r} is no field of a record")


# -- writing -------------------------------------------------------------------------------------------------------------------------


class Writer:
    """Writes one checkpoint file.  ``step``: what its steps are called (``publish`` gives ``publish.block``, ...)."""

    def __init__(self, file: DiskFile, identity: Identity, step: str) -> None:
        self._file, self._identity, self._step = file, identity, step
        self._buffer = bytearray(header_of(identity))
        self._blocks = 0
        self._parts: dict[tuple[str, str], tuple[int, np.dtype[Any]]] = {}
        self._rows: list[int] = []
        self._sums: list[int] = []
        self._before: dict[tuple[str, str], Part] = {}

    def keep(self, owner: str, part: Part) -> None:
        """The rows of a part of an earlier checkpoint stand as they are.  Rows that are added to the part follow them."""
        self._before[owner, part.name] = part

    def add(self, owner: str, piece: Piece) -> None:
        """Writes rows of a part of the state of ``owner``: the first ones, or those that follow.  ValueError: its dtype cannot be saved."""
        dtype = piece.data.dtype
        key = owner, piece.part
        if key not in self._parts:
            described(dtype)
            self._parts[key] = len(self._parts), dtype
            self._rows.append(0)
            self._sums.append(0)
        number, first = self._parts[key]
        if dtype != first or piece.data.ndim != 1:
            raise ValueError(f"{owner}: {piece.part}: rows of {dtype} after rows of {first}")
        data = _bytes_of(piece.data).data
        for begin in range(0, len(data), BLOCK_BYTES):
            crc = self._block(number, data[begin : begin + BLOCK_BYTES], "block")
            self._sums[number] = _crc32(crc.to_bytes(4, "little"), self._sums[number])
        self._rows[number] += len(piece.data)

    def finish(self, about: About, fields: Mapping[str, Mapping[str, Plain]]) -> Contents:
        """Writes the contents and the footer.  ``fields``: the plain fields of each state; all owners of parts are among them.  A plain
        value that cannot be written raises TypeError or ValueError."""
        parts: dict[str, list[Part]] = {owner: [] for owner in fields}
        for key in dict.fromkeys((*self._before, *self._parts)):
            parts[key[0]].append(self._part(key))
        contents = Contents(about, {owner: State(dict(fields[owner]), parts[owner]) for owner in fields})
        encoded = memoryview(msgspec.msgpack.encode(contents))
        begin = self._file.size + len(self._buffer)
        for offset in range(0, len(encoded), BLOCK_BYTES):
            self._block(CONTENTS, encoded[offset : offset + BLOCK_BYTES], "directory")
        length = self._file.size + len(self._buffer) + _FOOTER.size
        self._buffer += footer_of(begin, length)
        self._flush("footer")
        return contents

    def _part(self, key: tuple[str, str]) -> Part:
        """A part with all of its links."""
        before = self._before.get(key)
        if key not in self._parts:
            assert before is not None
            return before
        number, dtype = self._parts[key]
        if before is not None and dtype_of(before.dtype) != dtype.newbyteorder("<"):
            raise ValueError(f"{key}: rows of {dtype} after rows of {before.dtype}")
        epoch, run, rows, crc = (
            self._identity.epoch,
            self._identity.run,
            self._rows[number],
            self._sums[number],
        )
        link = Link(epoch, run, number, "full" if before is None else "tail", rows, crc)
        chain = [] if before is None else before.chain
        return Part(key[1], described(dtype), [*chain, link])

    def _block(self, part: int, payload: Buffer, step: str) -> int:
        """Writes a block and gives its sum."""
        length = len(payload)
        head = _BLOCK.pack(length, part, self._blocks, 0, 0)[:16]
        crc = _crc32(payload, _crc32(head))
        self._blocks += 1
        self._buffer += head + crc.to_bytes(8, "little")
        if length < _BUFFER_BYTES:
            self._buffer += payload
        else:  # not copied
            self._flush(step)
            self._file.write(f"{self._step}.{step}", payload)
        self._buffer += bytes(-length % 8)
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush(step)
        return crc

    def _flush(self, step: str) -> None:
        if self._buffer:
            self._file.write(f"{self._step}.{step}", self._buffer)
            self._buffer.clear()


def header_of(identity: Identity) -> bytes:
    """The header of a file."""
    head = _HEADER.pack(
        MAGIC, MAJOR, MINOR, identity.kind, identity.epoch, identity.run, identity.pipeline, 0, 0
    )[:60]
    return head + _crc32(head).to_bytes(4, "little")


def footer_of(contents: int, length: int) -> bytes:
    """The footer of a file."""
    crc = _crc32(_FOOTER.pack(contents, length, 0, 0, b"")[:16])
    return _FOOTER.pack(contents, length, crc, 0, END_MAGIC)


def _bytes_of(data: Array) -> Bytes:
    data = np.ascontiguousarray(data.astype(data.dtype.newbyteorder("<"), copy=False))
    return data.view(np.uint8) if len(data) else np.empty(0, np.uint8)


# -- reading -------------------------------------------------------------------------------------------------------------------------


class Block(Struct, frozen=True, eq=False):
    """A block that was read and checked."""

    offset: int
    part: int
    crc: int
    payload: memoryview


class Reader:
    """Reads one checkpoint file and checks every byte that it gives.  StateError names the file, and the byte where the file is not as it
    was written."""

    def __init__(self, file: DiskFile) -> None:
        self._file = file
        self.path = file.path
        self.identity = self._header()
        self._contents_at = self._footer()
        self.contents = self._read_contents()

    def parts(self) -> dict[int, Bytes]:
        """The bytes of each part, by number.  Reads the file from its first byte to its last."""
        sizes = self._sizes()
        found = {number: np.empty(size, np.uint8) for number, (size, _) in sizes.items()}
        self._read_blocks(sizes, found)
        return found

    def check(self) -> None:
        """Reads all of the file and checks it, keeping nothing."""
        self._read_blocks(self._sizes(), {})

    def own_links(self) -> Iterator[tuple[np.dtype[Any], Link]]:
        """The links that lead into this file, with the dtype of their part."""
        for state in self.contents.states.values():
            for part in state.parts:
                for link in part.chain:
                    if (link.epoch, link.run) == (self.identity.epoch, self.identity.run):
                        yield dtype_of(part.dtype), link

    def damaged(self, offset: int, what: str) -> StateError:
        """The error for a file that is not as it was written."""
        return StateError(f"{self.path}: damaged at byte {offset}: {what}")

    def _read_blocks(self, sizes: Mapping[int, tuple[int, int]], kept: Mapping[int, Bytes]) -> None:
        """Reads and checks the blocks of all parts, and fills in those that are kept."""
        filled = dict.fromkeys(sizes, 0)
        sums = dict.fromkeys(sizes, 0)
        for block in self._blocks(_HEADER.size, self._contents_at, 0):
            if block.part not in sizes or filled[block.part] + len(block.payload) > sizes[block.part][0]:
                raise self.damaged(block.offset, f"more of part {block.part} than the contents name")
            begin = filled[block.part]
            filled[block.part] += len(block.payload)
            if block.part in kept:
                kept[block.part][begin : filled[block.part]] = np.frombuffer(block.payload, np.uint8)
            sums[block.part] = _crc32(block.crc.to_bytes(4, "little"), sums[block.part])
        for number, (size, crc) in sizes.items():
            if filled[number] != size or sums[number] != crc:
                raise self.damaged(self._contents_at, f"part {number} is not the one that the contents name")

    def _sizes(self) -> dict[int, tuple[int, int]]:
        """By the number of each part: its bytes, and the sum over its blocks."""
        sizes: dict[int, tuple[int, int]] = {}
        for dtype, link in self.own_links():
            if link.part in sizes or not 0 <= link.rows <= self._file.size:
                raise self.damaged(
                    self._contents_at, f"part {link.part} is named twice, or has too many rows"
                )
            sizes[link.part] = link.rows * dtype.itemsize, link.crc
        if sum(size for size, _ in sizes.values()) > self._file.size:
            raise self.damaged(self._contents_at, "the parts have more bytes than the file")
        return sizes

    def _header(self) -> Identity:
        head = self._file.read(0, _HEADER.size)
        if len(head) < _HEADER.size or head[:8] != MAGIC:
            raise StateError(f"{self.path}: not a checkpoint of asyncflow")
        _, major, _, kind, epoch, run, pipeline, zero, crc = _HEADER.unpack(head)
        if _crc32(head[:60]) != crc or zero or kind not in (CHECKPOINT, SAVEPOINT):
            raise self.damaged(0, "the header does not match its checksum")
        if major != MAJOR:
            raise StateError(
                f"{self.path}: written in format {major} by another version of asyncflow; this version reads format {MAJOR}"
            )
        return Identity(kind, epoch, run, pipeline)

    def _footer(self) -> int:
        size = self._file.size
        at = size - _FOOTER.size
        foot = self._file.read(at, _FOOTER.size) if at >= _HEADER.size else b""
        if len(foot) < _FOOTER.size or foot[24:] != END_MAGIC:
            raise self.damaged(size, "the end of the file is missing")
        contents, length, crc, zero, _ = _FOOTER.unpack(foot)
        if (
            _crc32(foot[:16]) != crc
            or zero
            or length != size
            or not _HEADER.size <= contents <= at
            or contents % 8
        ):
            raise self.damaged(at, "the footer does not match the file")
        return int(contents)

    def _read_contents(self) -> Contents:
        blocks = list(self._blocks(self._contents_at, self._file.size - _FOOTER.size, None))
        if any(block.part != CONTENTS for block in blocks):
            raise self.damaged(self._contents_at, "other blocks among those of the contents")
        encoded = b"".join(block.payload for block in blocks)
        try:
            contents = msgspec.msgpack.decode(encoded, type=Contents)
            for state in contents.states.values():
                for part in state.parts:
                    dtype_of(part.dtype)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise self.damaged(self._contents_at, f"the contents cannot be read: {error}") from error
        return contents

    def _blocks(self, begin: int, end: int, number: int | None) -> Iterator[Block]:
        """The blocks from ``begin`` to ``end``; the first has this number, where that is known."""
        while begin < end:
            head = self._file.read(begin, _BLOCK.size)
            if len(head) < _BLOCK.size or begin + _BLOCK.size > end:
                raise self.damaged(begin, "a block is cut short")
            length, part, own, crc, zero = _BLOCK.unpack(head)
            padded = length + -length % 8
            if length > BLOCK_BYTES or begin + _BLOCK.size + padded > end:
                raise self.damaged(begin, "a block reaches beyond what follows it")
            data = memoryview(self._file.read(begin + _BLOCK.size, padded))
            if len(data) < padded:
                raise self.damaged(begin, "a block is cut short")
            payload = data[:length]
            if _crc32(payload, _crc32(head[:16])) != crc or zero or any(data[length:]):
                raise self.damaged(begin, "a block does not match its checksum")
            if number is not None and own != number:
                raise self.damaged(begin, f"block {own} in the place of block {number}")
            yield Block(begin, part, crc, payload)
            number = own + 1
            begin += _BLOCK.size + padded
