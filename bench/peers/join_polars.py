"""The join on Polars: lazy scans with the schemas given, ``join`` and a filter, or ``join_asof``."""

import os

from join_query import JoinQuery

query = JoinQuery.from_argv()
os.environ["POLARS_MAX_THREADS"] = str(query.threads)  # read once, when polars is imported

import polars as pl  # noqa: E402

TYPES = {"int64": pl.Int64, "float64": pl.Float64, "string": pl.String}


def rows(path: str, columns: dict[str, str], *wanted: str) -> pl.LazyFrame:
    schema = {name: TYPES[kind] for name, kind in columns.items()}
    return pl.scan_csv(path, schema=schema).select(*wanted)


left = rows(query.left, query.left_columns, *dict.fromkeys(("ts", query.on, "key")))
right = rows(query.right, query.right_columns, "ts", query.on, query.value)
if query.within_ms is None:
    joined = left.join_asof(right, on="ts", by=query.on, strategy="backward", check_sortedness=False)
    joined = joined.filter(pl.col(query.value).is_not_null()).with_columns(later=pl.col("ts"))
else:
    apart = (pl.col("ts") - pl.col("ts_right")).abs()
    later = pl.max_horizontal("ts", "ts_right")
    joined = left.join(right, on=query.on).filter(apart <= query.within_ms).with_columns(later=later)
value = pl.col(query.value)
result = (
    joined.with_columns((pl.col("later") // query.window_ms * query.window_ms).alias("window"))
    .group_by("window", "key")
    .agg(
        pl.len().alias("n"),
        value.sum().alias("total"),
        value.min().alias("low"),
        value.max().alias("high"),
        value.mean().alias("average"),
    )
)
result.sink_csv(query.out, engine="streaming")
