"""The operators of a plan's stages, without a run around them."""

from __future__ import annotations

from typing import Any

from asyncflow.model.schema import Schema
from asyncflow.plan.tables import Stage
from asyncflow.runtime.wiring.builders import builder_of


def operator_of(stage: Stage, *read: Schema, **settings: Any) -> Any:
    """The operator over rows of these schemas; ``settings``: as its builder has them."""
    return builder_of(stage.type).operator(stage, *read, **settings)
