"""One zstd frame, expanded block by block.

zstandard's decompressor expands all its input at once, and does not say whether a frame was complete.  So the frame is cut at its block
bounds here and handed over one block at a time: a block never expands to more than 128 KiB (RFC 8878, section 3.1.1.2).

    frame      magic 28 B5 2F FD, header, blocks, [checksum: 4 bytes]
    header     descriptor (1), [window (1) unless single segment], [dictionary id (0 1 2 4)], [content size (0 1 2 4 8)]
    block      3 bytes little endian: last (1 bit), type (2 bits: raw, run, compressed, reserved), size (21 bits); then its bytes
    skippable  magic 5X 2A 4D 18, size (4), then so many bytes
"""

from __future__ import annotations

import zstandard

_MAGIC = b"\x28\xb5\x2f\xfd"
_RUN, _RESERVED = 1, 3


class ZstdFrame:
    """A member of a ``.zst`` file (see ``_compression.Member``).  ValueError or ZstdError where the data are no zstd frame."""

    def __init__(self) -> None:
        self.eof = False
        self.needs_input = True
        self._held = bytearray()
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._has_checksum = False
        self._last_block_seen = False
        self._skip_bytes = 0

    @property
    def unused_data(self) -> bytes:
        return bytes(self._held) if self.eof else b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Expands blocks until ``max_length`` is reached (the last one may go beyond) or input lacks."""
        self._held += data
        parts: list[bytes] = []
        room = max_length
        self._skip()
        self.needs_input = bool(self._skip_bytes)
        while room > 0 and not self.eof and not self.needs_input:
            size = self._next_size()
            if size is None or len(self._held) < size:
                self.needs_input = True
                break
            part = self._take(size)
            parts.append(part)
            room -= len(part)
        return b"".join(parts)

    def _next_size(self) -> int | None:
        """How many bytes the next piece has: header, block or checksum; None when that cannot be told yet."""
        held = self._held
        if self._frame is None:
            return self._header_size()
        if self._last_block_seen:
            return 4
        if len(held) < 3:
            return None
        head = int.from_bytes(held[:3], "little")
        kind, size = head >> 1 & 3, head >> 3
        if kind == _RESERVED:
            raise ValueError("a block of a reserved type")
        return 3 + (1 if kind == _RUN else size)

    def _header_size(self) -> int | None:
        held = self._held
        if len(held) < 5:
            return None
        if held[1:4] == b"\x2a\x4d\x18" and held[0] >> 4 == 5:
            return 8
        if held[:4] != _MAGIC:
            raise ValueError("no zstd frame begins here")
        descriptor = held[4]
        single_segment = descriptor >> 5 & 1
        content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
        return 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size

    def _take(self, size: int) -> bytes:
        piece = bytes(self._held[:size])
        del self._held[:size]
        if self._frame is None:
            if piece[:4] != _MAGIC:
                self._skip_bytes = int.from_bytes(piece[4:], "little")
                self.eof = not self._skip_bytes
                self._skip()
                self.needs_input = bool(self._skip_bytes)
                return b""
            self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._has_checksum = bool(piece[4] >> 2 & 1)
        elif self._last_block_seen:
            self.eof = True
        elif piece[0] & 1:
            self._last_block_seen = True
            self.eof = not self._has_checksum
        return self._frame.decompress(piece)

    def _skip(self) -> None:
        if self._skip_bytes:
            passed = min(self._skip_bytes, len(self._held))
            del self._held[:passed]
            self._skip_bytes -= passed
            self.eof = not self._skip_bytes
