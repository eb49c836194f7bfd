"""The first rows of each key on Polars: a lazy scan with the schema given, and the first of each group by ``bottom_k_by``."""

import os

from top_query import TopQuery

query = TopQuery.from_argv()
os.environ["POLARS_MAX_THREADS"] = str(query.threads)  # read once, when polars is imported

import polars as pl  # noqa: E402

TYPES = {"int64": pl.Int64, "float64": pl.Float64, "string": pl.String}

rows = pl.scan_csv(query.path, schema={name: TYPES[kind] for name, kind in query.columns.items()})
by, falling = (["ts"], [True]) if query.last else (["value", "ts"], [True, False])
first = rows.group_by("key").agg(pl.col("ts", "value").bottom_k_by(by, query.n, reverse=falling))
ranked = first.with_columns(window=pl.int_ranges(1, pl.col("ts").list.len() + 1)).explode(
    "ts", "value", "window"
)
ranked.select("window", "key", n="ts", low="value").sink_csv(query.out, engine="streaming")
