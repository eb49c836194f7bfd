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
if query.url == "parts":
    parts = pl.col("url").str.splitn("/", 6).struct
    rows = rows.with_columns(key=parts.field("field_2") + parts.field("field_3") + parts.field("field_4"))
elif query.url == "host":
    rows = rows.with_columns(key=pl.col("url").str.to_lowercase().str.extract("^https?://([^/]+)/", 1))
rows = rows.select(wanted if query.url is None else ["ts", "key", "value"])

value = pl.col("value")
aggregates = (
    pl.len().alias("n"),
    value.sum().alias("total"),
    value.min().alias("low"),
    value.max().alias("high"),
    value.mean().alias("average"),
)
window = (pl.col("ts") // query.window_ms * query.window_ms).alias("window") if query.window_ms else None
if query.tail is not None:
    quantiles = (value.median().alias("median"), value.quantile(query.tail, "linear").alias("high_tail"))
    result = rows.with_columns(window).group_by("window", "key").agg(pl.len().alias("n"), *quantiles)
elif query.gap_ms is not None:
    # In the order of time alone: sorting by key and time takes longer than telling the keys apart afterwards.
    fresh = pl.col("ts").diff().fill_null(query.gap_ms + 1) > query.gap_ms
    result = (
        rows.sort("ts")
        .with_columns(fresh.cum_sum().over("key").alias("session"))
        .group_by("key", "session")
        .agg(pl.col("ts").min().alias("window"), pl.col("ts").max().alias("window_end"), *aggregates)
        .with_columns(pl.col("window_end") + query.gap_ms)
    )
elif query.window_ms is None:
    result = rows.group_by("key").agg(*aggregates)
elif not query.hops:
    result = rows.with_columns(window).group_by("window", "key").agg(*aggregates)
else:
    # Panes side by side for every key, the latest first, then a frame over them: far less than each pane once for each of its windows.
    size = query.window_ms // query.every_ms
    panes = (
        rows.with_columns((pl.col("ts") // query.every_ms).alias("pane"))
        .group_by("pane", "key")
        .agg(*aggregates)
        .collect(engine="streaming")
    )
    ahead = range(panes["pane"].max(), panes["pane"].min() - size, -1)
    grid = pl.DataFrame({"pane": pl.Series(ahead, dtype=pl.Int64)}).join(
        panes.select("key").unique(), how="cross"
    )
    result = (
        grid.join(panes, on=["pane", "key"], how="left", maintain_order="left")
        .lazy()
        .select(
            (pl.col("pane") * query.every_ms).alias("window"),
            "key",
            pl.col("n").cast(pl.Int64).rolling_sum(size, min_samples=1).over("key"),
            pl.col("total").rolling_sum(size, min_samples=1).over("key"),
            pl.col("low").rolling_min(size, min_samples=1).over("key"),
            pl.col("high").rolling_max(size, min_samples=1).over("key"),
        )
        .filter(pl.col("n") > 0)
        .with_columns((pl.col("total") / pl.col("n")).alias("average"))
    )
result.sink_csv(query.out, engine="streaming")
