"""The query in SQL on DuckDB: ``read_csv`` or ``read_json`` with the types given, the result by ``COPY``."""

import duckdb
from query import Query

TYPES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR"}

query = Query.from_argv()
path = "/dev/stdin" if query.path == "-" else query.path
columns = ", ".join(f"'{name}': '{TYPES[kind]}'" for name, kind in query.columns.items())
if query.format == "json":
    wanted = ", ".join(f"'{name}': '{TYPES[query.columns[name]]}'" for name in ("ts", "key", "value"))
    rows = f"read_json('{path}', format='newline_delimited', columns={{{wanted}}})"
else:
    header = str(query.header).lower()
    rows = f"""read_csv('{path}', delim='{query.delimiter}', header={header}, quote='{query.quote}', escape='{query.quote}',
                        columns={{{columns}}}, auto_detect=false)"""

aggregates = "count(*) n, sum(value) total, min(value) low, max(value) high, avg(value) average"
if query.window_ms is None:
    statement = f"SELECT key, {aggregates} FROM {rows} GROUP BY key"
elif not query.hops:
    statement = f"SELECT ts // {query.window_ms} * {query.window_ms} AS window, key, {aggregates} FROM {rows} GROUP BY ALL"
else:
    panes = query.window_ms // query.every_ms
    statement = f"""
        WITH pane AS (SELECT ts // {query.every_ms} AS pane, key, {aggregates} FROM {rows} GROUP BY ALL)
        SELECT (pane - back) * {query.every_ms} AS window, key,
               sum(n)::BIGINT AS n, sum(total) AS total, min(low) AS low, max(high) AS high, sum(total) / sum(n) AS average
        FROM pane, range({panes}) AS hop(back) GROUP BY ALL"""

connection = duckdb.connect(config={"threads": query.threads})
connection.execute("SET preserve_insertion_order = false")
connection.execute(f"COPY ({statement}) TO '{query.out}' (FORMAT csv, HEADER)")
