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

KEYS = {
    "parts": "split_part(url, '/', 3) || split_part(url, '/', 4) || split_part(url, '/', 5)",
    "host": "regexp_extract(lower(url), '^https?://([^/]+)/', 1)",
}
if query.url is not None:
    rows = f"(SELECT ts, {KEYS[query.url]} AS key, value FROM {rows})"

aggregates = "count(*) n, sum(value) total, min(value) low, max(value) high, avg(value) average"
if query.tail is not None:
    # Exact.  Its sketch, approx_quantile, takes longer on these inputs, and does not say how near it comes.
    statement = f"""
        SELECT start AS window, key, n, quantiles[1] AS median, quantiles[2] AS high_tail
        FROM (SELECT ts // {query.window_ms} * {query.window_ms} AS start, key, count(*) n,
                     quantile_cont(value, [0.5, {query.tail}]) AS quantiles FROM {rows} GROUP BY ALL)"""
elif query.gap_ms is not None:
    statement = f"""
        SELECT min(ts) AS window, max(ts) + {query.gap_ms} AS window_end, key, {aggregates}
        FROM (SELECT *, count(fresh) OVER (PARTITION BY key ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session
              FROM (SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY key ORDER BY ts) <= {query.gap_ms} THEN NULL ELSE 1 END AS fresh
                    FROM {rows}))
        GROUP BY key, session"""
elif query.window_ms is None:
    statement = f"SELECT key, {aggregates} FROM {rows} GROUP BY key"
elif not query.hops:
    statement = f"SELECT ts // {query.window_ms} * {query.window_ms} AS window, key, {aggregates} FROM {rows} GROUP BY ALL"
else:
    # Panes side by side for every key, then a frame over them: far less than each pane once for each of its windows.
    reach = query.window_ms // query.every_ms - 1
    statement = f"""
        WITH pane AS MATERIALIZED (SELECT ts // {query.every_ms} AS pane, key, {aggregates} FROM {rows} GROUP BY ALL),
             bounds AS (SELECT min(pane) - {reach} AS first, max(pane) AS last FROM pane),
             grid AS (SELECT unnest(range(first, last + 1)) AS pane, key FROM bounds, (SELECT DISTINCT key FROM pane)),
             hop AS (SELECT grid.pane, grid.key, sum(n) OVER ahead AS n, sum(total) OVER ahead AS total,
                            min(low) OVER ahead AS low, max(high) OVER ahead AS high
                     FROM grid LEFT JOIN pane USING (pane, key)
                     WINDOW ahead AS (PARTITION BY grid.key ORDER BY grid.pane ROWS BETWEEN CURRENT ROW AND {reach} FOLLOWING))
        SELECT pane * {query.every_ms} AS window, key, n::BIGINT AS n, total, low, high, total / n AS average
        FROM hop WHERE n IS NOT NULL"""

connection = duckdb.connect(config={"threads": query.threads})
connection.execute("SET preserve_insertion_order = false")
connection.execute(f"COPY ({statement}) TO '{query.out}' (FORMAT csv, HEADER)")
