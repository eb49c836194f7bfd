"""Small pieces for tests of whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncflow as af


async def collect(flow: af.Flow) -> list[dict[str, Any]]:
    """All rows of a flow."""
    return [row async for batch in flow for row in batch.to_pylist()]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
