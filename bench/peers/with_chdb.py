"""The query in SQL on chdb (ClickHouse in the process): ``file()`` with the types given, the result into a CSV file."""

import chdb
from query import Query

TYPES = {"int64": "Int64", "float64": "Float64", "string": "String"}

query = Query.from_argv()
wanted = ("ts", "key", "value") if query.format == "json" else tuple(query.columns)
columns = ", ".join(f"{name} {TYPES[query.columns[name]]}" for name in wanted)
kind = "JSONEachRow" if query.format == "json" else "CSVWithNames" if query.header else "CSV"
rows = f"file('{query.path}', '{kind}', '{columns}')"

aggregates = "count() AS n, sum(value) AS total, min(value) AS low, max(value) AS high, avg(value) AS average"
if query.window_ms is None:
    statement = f"SELECT key, {aggregates} FROM {rows} GROUP BY key"
elif not query.hops:
    start = f"intDiv(ts, {query.window_ms}) * {query.window_ms}"
    statement = f"SELECT {start} AS window, key, {aggregates} FROM {rows} GROUP BY window, key"
else:
    panes = query.window_ms // query.every_ms
    statement = f"""
        SELECT (pane - back) * {query.every_ms} AS window, key,
               sum(p_n) AS n, sum(p_total) AS total, min(p_low) AS low, max(p_high) AS high, total / n AS average
        FROM (SELECT intDiv(ts, {query.every_ms}) AS pane, key,
                     count() AS p_n, sum(value) AS p_total, min(value) AS p_low, max(value) AS p_high
              FROM {rows} GROUP BY pane, key)
        ARRAY JOIN range({panes}) AS back GROUP BY window, key"""
settings = f"max_threads = {query.threads}, input_format_skip_unknown_fields = 1, format_csv_delimiter = '{query.delimiter}'"
chdb.query(f"{statement} INTO OUTFILE '{query.out}' TRUNCATE FORMAT CSVWithNames SETTINGS {settings}")
