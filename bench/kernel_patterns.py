"""Cases for patterns: ``cases()`` gives (name, callable, rows).  ``python bench/kernels.py patterns`` times them.

``python bench/kernel_patterns.py`` sets each beside Python's ``re`` on the same texts and, where it is installed, DuckDB's RE2 (one
thread, with the scan of its table taken off).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np

from asyncflow.model.columns import StringColumn
from asyncflow.model.patterns import regexp

ROWS = 8192
_LOG = r'^(\S+) (\S+) (\S+) \[([^\]]+)\] "(\S+) (\S+) ([^"]*)" (\d+) (\d+)$'
_PATTERNS: list[tuple[str, str, int | None]] = [
    ("a number at the end", r"-9\d+$", None), ("one of three words, any case", r"(?i)(error|fail|timeout)", None),
    ("a word's bounds", r"\b5\d\d\b", None), ("a part in brackets", r"\[([^\]]+)\]", 1), ("the last path", r".*/(\w+)", 1),
    ("a whole log line", _LOG, 6),
]  # fmt: skip
"""What it is, the pattern, and the group to take out (None: only whether it is found)."""


def _lines(rows: int) -> list[str]:
    rng = np.random.default_rng(3)
    codes, sizes = rng.choice([200, 404, 500], rows), rng.integers(100, 99999, rows)
    return [
        f"10.{n % 256}.{n % 7}.{n % 11} - user{n % 100} [10/Oct/2023:13:{n % 60:02d}:{n % 60:02d} +0000] "
        f'"GET /index/{n}.html HTTP/1.1" {codes[n]} {sizes[n]}'
        for n in range(rows)
    ]


def _call(column: StringColumn, pattern: str, group: int | None) -> Callable[[], object]:
    compiled = regexp(pattern)
    views = (column.data, column.starts, column.lengths)
    return lambda: compiled.matches(*views) if group is None else compiled.spans(*views, [group])


def cases() -> list[tuple[str, Callable[[], object], int]]:
    column = StringColumn.from_values(_lines(ROWS))
    return [(f"patterns: {name}", _call(column, pattern, group), ROWS) for name, pattern, group in _PATTERNS]


def _least_ns(function: Callable[[], object], rows: int, samples: int = 5) -> float:
    taken = []
    for _ in range(samples):
        begin = time.process_time()
        function()
        taken.append(time.process_time() - begin)
    return min(taken) / rows * 1e9


def _beside() -> None:
    rows = 100_000
    lines = _lines(rows)
    column = StringColumn.from_values(lines)
    try:
        import duckdb
    except ImportError:
        duck = None
    else:
        duck = duckdb.connect(config={"threads": 1})
        duck.execute("CREATE TABLE lines AS SELECT unnest($1) AS line", [lines])
    scan = (
        _least_ns(lambda: duck.sql("SELECT sum(length(line)) FROM lines").fetchall(), rows) if duck else 0.0
    )
    print(f"{'ns a text':32} {'here':>8} {'re':>8} {'DuckDB':>8}")
    for name, pattern, group in _PATTERNS:
        search = re.compile(pattern).search
        shown = [
            _least_ns(_call(column, pattern, group), rows),
            _least_ns(lambda search=search: [search(line) for line in lines], rows, 2),
        ]
        if duck:
            what = f"regexp_extract(line, '{pattern}', {group})"
            what = f"regexp_matches(line, '{pattern}')::INT" if group is None else f"length({what})"
            query = f"SELECT sum({what}) FROM lines"
            shown.append(_least_ns(lambda query=query: duck.sql(query).fetchall(), rows, 3) - scan)
        print(f"{name:32} " + " ".join(f"{value:8.0f}" for value in shown))


if __name__ == "__main__":
    _beside()
