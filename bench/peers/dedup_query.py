"""The benchmark's query of the first row of each key as each engine's script gets it: a JSON object as the only argument.

Of a CSV file ``ts,key,value`` in order of ``ts``, in which no two rows of a key have one ``ts``, find the first row of each key.  The
script writes a CSV file ``key,n,low``, rows in any order: the key, ``ts`` and ``value``.  All time from the start of the process to its
end counts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class DedupQuery:
    path: str
    out: str
    columns: dict[str, str]
    threads: int

    @classmethod
    def from_argv(cls) -> DedupQuery:
        return cls(**json.loads(sys.argv[1]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))
