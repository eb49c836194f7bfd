"""The query on Polars' streaming engine: lazy scan with the schema given, sink to CSV."""

import os

from query import Query

query = Query.from_argv()
os.environ["POLARS_MAX_THREADS"] = str(query.threads)  # read once, when polars is imported

import polars as pl  # noqa: E402

TYPES = {"int64": pl.Int64, "float64": pl.Float64, "string": pl.String}

schema = {name: TYPES[kind] for name, kind in query.columns.items()}
wanted = [name for name in ("ts", "key", "value") if name in schema]
if query.format == "json":
    rows = pl.scan_ndjson(query.path, schema={name: schema[name] for name in wanted})
else:
    rows = pl.scan_csv(
        query.path,
        separator=query.delimiter,
        has_header=query.header,
        quote_char=query.quote or None,
        schema=schema,
    )
rows = rows.select(wanted)

value = pl.col("value")
aggregates = (
    pl.len().alias("n"),
    value.sum().alias("total"),
    value.min().alias("low"),
    value.max().alias("high"),
    value.mean().alias("average"),
)
if query.window_ms is None:
    result = rows.group_by("key").agg(*aggregates)
elif not query.hops:
    window = (pl.col("ts") // query.window_ms * query.window_ms).alias("window")
    result = rows.with_columns(window).group_by("window", "key").agg(*aggregates)
else:
    panes = (
        rows.with_columns((pl.col("ts") // query.every_ms).alias("pane"))
        .group_by("pane", "key")
        .agg(*aggregates)
    )
    hops = pl.LazyFrame({"back": range(query.window_ms // query.every_ms)})
    window = ((pl.col("pane") - pl.col("back")) * query.every_ms).alias("window")
    result = (
        panes.join(hops, how="cross")
        .with_columns(window)
        .group_by("window", "key")
        .agg(pl.col("n").sum(), pl.col("total").sum(), pl.col("low").min(), pl.col("high").max())
        .with_columns((pl.col("total") / pl.col("n")).alias("average"))
    )
result.sink_csv(query.out, engine="streaming")
