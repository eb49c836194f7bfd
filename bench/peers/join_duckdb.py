"""The join in SQL on DuckDB: a hash join with the times as a further condition, or its ``ASOF JOIN``."""

import duckdb
from join_query import JoinQuery

TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR"}

query = JoinQuery.from_argv()


def rows(path: str, columns: dict[str, str]) -> str:
    typed = ", ".join(f"'{name}': '{TYPES[kind]}'" for name, kind in columns.items())
    return f"read_csv('{path}', delim=',', header=true, quote='\"', escape='\"', columns={{{typed}}}, auto_detect=false)"


if query.within_ms is None:
    how, condition = "ASOF JOIN", "l.ts >= r.ts"
else:
    how, condition = "JOIN", f"r.ts BETWEEN l.ts - {query.within_ms} AND l.ts + {query.within_ms}"
statement = f"""
    SELECT greatest(l.ts, r.ts) // {query.window_ms} * {query.window_ms} AS "window", l.key AS key, count(*) n,
           sum({query.value}) total, min({query.value}) low, max({query.value}) high, avg({query.value}) average
    FROM {rows(query.left, query.left_columns)} l
    {how} {rows(query.right, query.right_columns)} r ON l.{query.on} = r.{query.on} AND {condition}
    GROUP BY 1, 2"""

connection = duckdb.connect(config={"threads": query.threads})
# Files give no estimate of their rows: it would take a join of millions for one of a few, and loop.
connection.execute("SET asof_loop_join_threshold = 0")
connection.execute("SET preserve_insertion_order = false")
connection.execute(f"COPY ({statement}) TO '{query.out}' (FORMAT csv, HEADER)")
