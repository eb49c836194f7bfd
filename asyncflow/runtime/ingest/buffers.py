"""Blocks of memory that input is read into, used again as soon as nothing looks at them any more.

A block is ``[front | chunk | pad]``.  New bytes are always read at the same page-aligned place (a read into an unaligned destination is
several times slower); the unfinished record of the block before is copied to just *before* it, so every record is contiguous.  String
columns are views into blocks, so a block is free when the pool holds the only reference to it.
"""

from __future__ import annotations

import sys

import numpy as np

from asyncflow.formats.contract import Block
from asyncflow.runtime.base.memory import Account

PAGE = 4096
PAD = 64


class BlockPool:
    """Blocks for one source.  ``chunk_bytes``: most that one read takes; ``front_bytes``: room for an unfinished record; ``account``: has
    the chunks of the blocks that are kept (a front is no memory before a record fills it)."""

    def __init__(
        self, chunk_bytes: int, front_bytes: int, keep: int = 8, account: Account | None = None
    ) -> None:
        self.chunk_bytes = chunk_bytes
        self.front_bytes = -(-front_bytes // PAGE) * PAGE
        self._keep = keep
        self._account = account
        self._blocks: list[Block] = []

    def take(self) -> InputBlock:
        """A block that nothing looks at: one used before, or a new one."""
        for position in range(len(self._blocks)):
            # The list and the call's argument are two references; a column's view, or a reader's, would be another.
            if sys.getrefcount(self._blocks[position]) == 2:
                memory = self._blocks.pop(position)
                self._blocks.insert(0, memory)  # the one used last is the one still in the processor's cache
                return InputBlock(memory, self.front_bytes, self.chunk_bytes)
        memory = np.empty(self.front_bytes + self.chunk_bytes + PAD + PAGE, np.uint8)
        if len(self._blocks) < self._keep:
            self._blocks.append(memory)
            if self._account is not None:
                self._account.reserve(self.chunk_bytes)
        return InputBlock(memory, self.front_bytes, self.chunk_bytes)


class InputBlock:
    """One block while it is being filled.  ``carry`` first, then ``space`` is read into, then ``filled`` gives all there is."""

    def __init__(self, memory: Block, front_bytes: int, chunk_bytes: int) -> None:
        address = memory.ctypes.data
        self._memory = memory
        self._base = front_bytes + (-(address + front_bytes)) % PAGE
        self._chunk_bytes = chunk_bytes
        self._start = self._base

    def carry(self, rest: Block) -> None:
        """Puts an unfinished record in front.  ValueError when it is larger than the front (a decoder must not let it grow so far)."""
        if len(rest) > self._base:
            raise ValueError(f"an unfinished record of {len(rest)} bytes exceeds the front of {self._base}")
        self._start = self._base - len(rest)
        self._memory[self._start : self._base] = rest

    @property
    def space(self) -> memoryview:
        return self._memory[self._base : self._base + self._chunk_bytes].data

    def filled(self, count: int) -> Block:
        """Carry and the ``count`` bytes that were read into ``space``, as one block."""
        return self._memory[self._start : self._base + count]
