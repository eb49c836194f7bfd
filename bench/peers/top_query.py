"""The benchmark's query of the first rows of each key as each engine's script gets it: a JSON object as the only argument.

Of a CSV file ``ts,key,value``, in which no two rows of a key have one ``ts``, find the ``n`` first rows of each key: by ``value``, the
greatest first, then by ``ts``; or, where ``last``, by ``ts``, the greatest first.  The script writes a CSV file ``window,key,n,low``, rows
in any order: the place among the rows of the key from 1, the key, ``ts`` and ``value``.  All time from the start of the process to its
end counts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TopQuery:
    path: str
    out: str
    columns: dict[str, str]
    n: int
    last: bool
    threads: int

    @classmethod
    def from_argv(cls) -> TopQuery:
        return cls(**json.loads(sys.argv[1]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))
