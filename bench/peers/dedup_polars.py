"""The first row of each key on Polars' streaming engine: ``unique`` over a lazy scan with the schema given."""

import os

from dedup_query import DedupQuery

query = DedupQuery.from_argv()
os.environ["POLARS_MAX_THREADS"] = str(query.threads)  # read once, when polars is imported

import polars as pl  # noqa: E402

TYPES = {"int64": pl.Int64, "float64": pl.Float64, "string": pl.String}

rows = pl.scan_csv(query.path, schema={name: TYPES[kind] for name, kind in query.columns.items()})
first = rows.unique("key", keep="first")
first.select("key", n="ts", low="value").sink_csv(query.out, engine="streaming")
