"""The benchmark's cases of the first row of each key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cases import EVENTS, Case, sink_text
from dedup_query import DedupQuery

PEERS = ("polars", "duckdb")


@dataclass(frozen=True)
class DedupCase(Case):
    """The first row of each key, in a file in order of time."""

    def script(self, peer: str) -> str:
        return f"dedup_{peer}.py"

    def query(self, path: str, out: Path, threads: int) -> DedupQuery:  # type: ignore[override]
        return DedupQuery(path, str(out), self.columns, threads)

    def pipeline(self, path: str, out: Path | None) -> str:
        types = self.columns | {"ts": "timestamp[ms]"}
        return f"""name = "bench"

[sources.events]
type = "file"
path = {json.dumps(path)}
format = "csv"
schema = {{ {", ".join(f'{name} = "{kind}"' for name, kind in types.items())} }}
time = "ts"
watermark_delay = "0s"

[stages.once]
type = "dedup"
by = ["key"]
within = "10d"

[stages.result]
type = "derive"
columns = {{ n = "ts", low = "value" }}

[sinks.out]
{sink_text(out)}
"""


DEDUPS = {
    case.name: case
    for case in (
        DedupCase("dedup", "CSV, first row of each of 58k keys", "bids", EVENTS, PEERS),
        DedupCase("dedup-1m", "CSV, first row of each of 1M keys", "visits", EVENTS, PEERS),
    )
}
