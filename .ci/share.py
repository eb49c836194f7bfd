"""A pytest plugin: a share of the tests, a different one in each run.

``-p share --share=50 --share-seed=7`` keeps about 50 of 100 tests, chosen by their names and the seed; the same seed chooses the same
tests again.
"""

from __future__ import annotations

from zlib import crc32

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", type=int, default=100, help="how many of 100 tests run")
    parser.addoption("--share-seed", default="0", help="which ones")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share, seed = config.getoption("--share"), config.getoption("--share-seed")
    kept = [item for item in items if crc32(f"{seed} {item.nodeid}".encode()) % 100 < share]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept
