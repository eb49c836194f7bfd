"""The benchmark's query of two files as each engine's script gets it: a JSON object as the only argument.

Join the rows of two CSV files, both in order of ``ts``, on one column: with ``within_ms`` every pair whose times lie at most that far
apart, without it each left row with the last right row that is not after it.  Then group the pairs by ``key`` and by the minute
(``window_ms``) of the later of the two times: count, sum, min, max and mean of ``value``.  The script writes a CSV file
``window,key,n,total,low,high,average``, rows in any order.  All time from the start of the process to its end counts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class JoinQuery:
    left: str
    right: str
    out: str
    left_columns: dict[str, str]
    right_columns: dict[str, str]
    on: str
    value: str
    window_ms: int
    within_ms: int | None
    threads: int

    @classmethod
    def from_argv(cls) -> JoinQuery:
        return cls(**json.loads(sys.argv[1]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))
