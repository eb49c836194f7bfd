"""The pipeline of ``asyncflow demo``: made-up live rows of sensors into one-second windows, as a table."""

from __future__ import annotations

PIPELINE = """
name = "demo"

[sources.sensors]
type = "generate"
rate = 5000
keys = 5
time = "ts"
watermark_delay = "500ms"

[stages.plausible]
type = "filter"
where = "value BETWEEN 0 AND 200"

[stages.per_second]
type = "window"
window = { tumbling = "1s" }
by = { sensor = "key" }
aggregates = { rows = "count(*)", lowest = "min(value)", mean = "round(mean(value), 2)", highest = "max(value)" }

[sinks.screen]
type = "stdout"
format = "table"
"""
