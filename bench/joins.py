"""The benchmark's cases of joins: two files in order of time are joined, and a small aggregate of the result is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from cases import Case, Floor, sink_text
from join_query import JoinQuery

PEERS = ("polars", "duckdb")
WINDOW_MS = 60_000
FLOORS = (Floor("best", 1, 1.0), Floor("best", 2, 1.0))


@dataclass(frozen=True)
class JoinCase(Case):
    """``dataset`` is joined with ``right`` on ``on``; ``value`` is summed up by ``key`` and minute of the later of the two times."""

    right: str = ""
    right_columns: dict[str, str] = field(default_factory=dict)
    on: str = "key"
    value: str = "value"
    within_ms: int | None = None  # None: as of

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset, self.right)

    def script(self, peer: str) -> str:
        return f"join_{peer}.py"

    def query(self, path: str, out: Path, threads: int) -> JoinQuery:  # type: ignore[override]
        left, right = map(str, self.files(Path(path)))
        columns = (self.columns, self.right_columns)
        return JoinQuery(
            left, right, str(out), *columns, self.on, self.value, WINDOW_MS, self.within_ms, threads
        )

    def pipeline(self, path: str, out: Path | None) -> str:
        sources = [
            f"""[sources.{name}]
type = "file"
path = {json.dumps(str(file))}
format = "csv"
schema = {{ {", ".join(f'{column} = "{kind}"' for column, kind in (columns | {"ts": "timestamp[ms]"}).items())} }}
time = "ts"
watermark_delay = "0s"
"""
            for name, file, columns in zip(
                ("left", "right"), self.files(Path(path)), (self.columns, self.right_columns), strict=True
            )
        ]
        how = 'as_of = "backward"' if self.within_ms is None else f'within = "{self.within_ms}ms"'
        return f"""name = "bench"

{"".join(sources)}
[stages.joined]
type = "join"
left = "left"
right = "right"
on = ["{self.on}"]
max_state = "4GiB"
{how}

[stages.result]
type = "window"
window = {{ tumbling = "{WINDOW_MS}ms" }}
by = ["key"]

[stages.result.aggregates]
n = "count(*)"
total = "sum({self.value})"
low = "min({self.value})"
high = "max({self.value})"
average = "mean({self.value})"

[sinks.out]
{sink_text(out)}
"""


JOINS = {
    case.name: case
    for case in (
        JoinCase(
            "interval-join",
            "orders and payments by number, at most 10 minutes apart",
            "orders",
            {"ts": "int64", "id": "int64", "key": "string", "value": "float64"},
            PEERS,
            floors=FLOORS,
            right="payments",
            right_columns={"ts": "int64", "id": "int64", "paid": "float64"},
            on="id",
            value="paid",
            within_ms=600_000,
        ),
        JoinCase(
            "as-of",
            "trades with the last quote of their symbol",
            "trades",
            {"ts": "int64", "key": "string", "value": "float64"},
            PEERS,
            floors=FLOORS,
            right="quotes",
            right_columns={"ts": "int64", "key": "string", "bid": "float64"},
            value="bid",
        ),
    )
}
