"""The direction of one part of an order."""

from __future__ import annotations

from msgspec import Struct


class Direction(Struct, frozen=True):
    """Of one part of an order.  Nulls come last in either direction unless ``nulls_first``."""

    descending: bool = False
    nulls_first: bool = False
