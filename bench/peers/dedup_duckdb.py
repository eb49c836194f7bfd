"""The first row of each key in SQL on DuckDB: ``arg_min`` by time, which takes less than ``DISTINCT ON`` with an order."""

import duckdb
from dedup_query import DedupQuery

TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR"}

query = DedupQuery.from_argv()
typed = ", ".join(f"'{name}': '{TYPES[kind]}'" for name, kind in query.columns.items())
source = f"read_csv('{query.path}', delim=',', header=true, quote='\"', escape='\"', columns={{{typed}}}, auto_detect=false)"
statement = f"SELECT key, min(ts) AS n, arg_min(value, ts) AS low FROM {source} GROUP BY key"

connection = duckdb.connect(config={"threads": query.threads})
connection.execute("SET preserve_insertion_order = false")
connection.execute(f"COPY ({statement}) TO '{query.out}' (FORMAT csv, HEADER)")
