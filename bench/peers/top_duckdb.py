"""The first rows of each key in SQL on DuckDB: ``row_number`` with ``QUALIFY``, of which DuckDB makes its own plan."""

import duckdb
from top_query import TopQuery

TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR"}

query = TopQuery.from_argv()
typed = ", ".join(f"'{name}': '{TYPES[kind]}'" for name, kind in query.columns.items())
source = f"read_csv('{query.path}', delim=',', header=true, quote='\"', escape='\"', columns={{{typed}}}, auto_detect=false)"
order = "ts DESC" if query.last else "value DESC, ts"
statement = f"""
    SELECT row_number() OVER (PARTITION BY key ORDER BY {order}) AS "window", key, ts AS n, value AS low
    FROM {source} QUALIFY "window" <= {query.n}"""

connection = duckdb.connect(config={"threads": query.threads})
connection.execute("SET preserve_insertion_order = false")
connection.execute(f"COPY ({statement}) TO '{query.out}' (FORMAT csv, HEADER)")
