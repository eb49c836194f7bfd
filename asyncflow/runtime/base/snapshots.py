"""How the parts of a run hand in their states at a barrier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from asyncflow.model.snapshot import Frozen

Collect: TypeAlias = Callable[[str, int | None, Frozen], None]
"""Takes the name of a source, stage or sink, the epoch, and the state; epoch None: the part has ended, and its state is the last one."""
