"""The benchmark's cases of the first rows of each key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cases import EVENTS, Case, sink_text
from top_query import TopQuery

PEERS = ("polars", "duckdb")


@dataclass(frozen=True)
class TopCase(Case):
    """The ``first`` rows of each key by value, or where ``last`` by time, the last first."""

    first: int = 1
    last: bool = False

    def script(self, peer: str) -> str:
        return f"top_{peer}.py"

    def query(self, path: str, out: Path, threads: int) -> TopQuery:  # type: ignore[override]
        return TopQuery(path, str(out), self.columns, self.first, self.last, threads)

    def pipeline(self, path: str, out: Path | None) -> str:
        order = ["ts DESC"] if self.last else ["value DESC", "ts"]
        return f"""name = "bench"

[sources.events]
type = "file"
path = {json.dumps(path)}
format = "csv"
schema = {{ {", ".join(f'{name} = "{kind}"' for name, kind in self.columns.items())} }}

[stages.first]
type = "top"
n = {self.first}
by = ["key"]
order = {json.dumps(order)}

[stages.result]
type = "derive"
columns = {{ window = "rank", n = "ts", low = "value" }}

[sinks.out]
{sink_text(out)}
"""


TOPS = {
    case.name: case
    for case in (
        TopCase("last", "CSV, last row of each of 58k keys", "bids", EVENTS, PEERS, last=True),
        TopCase("top-10", "CSV, first 10 rows of each of 58k keys", "bids", EVENTS, PEERS, first=10),
    )
}
