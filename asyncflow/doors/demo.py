"""The pipeline of ``asyncflow demo``: made-up live data into one-second windows, as a table."""

from __future__ import annotations

PIPELINE = """
name = "demo"

[sources.requests]
type = "generate"
"""
