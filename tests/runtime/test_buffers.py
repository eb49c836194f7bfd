"""Blocks of input memory are reused once no column views them, and never before."""

from __future__ import annotations

import numpy as np

from asyncflow.runtime.ingest.buffers import PAGE, BlockPool


def address(data: np.ndarray) -> int:
    return int(data.__array_interface__["data"][0])


def test_a_block_is_used_again_once_nothing_looks_at_it() -> None:
    pool = BlockPool(4096, 100)
    first = pool.take().filled(10)
    where = address(first)
    second = pool.take().filled(10)
    assert address(second) != where
    view = first[2:5]
    del first
    third = pool.take().filled(10)
    assert address(third) not in (where, address(second))
    del view
    assert address(pool.take().filled(10)) == where


def test_new_bytes_come_to_a_page_and_follow_the_rest() -> None:
    pool = BlockPool(4096, 100)
    block = pool.take()
    block.carry(np.frombuffer(b"unfinished", np.uint8))
    block.space[:4] = b" end"
    data = block.filled(4)
    assert data.tobytes() == b"unfinished end"
    assert (address(data) + len(b"unfinished")) % PAGE == 0
