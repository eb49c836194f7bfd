"""The query on pyarrow: its CSV or JSON reader, ``Table.group_by``, its CSV writer.  Reads the whole file first."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.json as ndjson
from query import Query

TYPES = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}

query = Query.from_argv()
if query.hops:
    raise SystemExit("pyarrow has no windows that overlap")
pa.set_cpu_count(query.threads)
threaded = query.threads > 1
wanted = [name for name in ("ts", "key", "value") if name in query.columns]
types = {name: TYPES[query.columns[name]] for name in wanted}

if query.format == "json":
    rows = ndjson.read_json(
        query.path,
        read_options=ndjson.ReadOptions(use_threads=threaded, block_size=4 << 20),
        parse_options=ndjson.ParseOptions(
            explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
        ),
    )
else:
    types["key"] = pa.dictionary(pa.int32(), pa.string())
    rows = csv.read_csv(
        query.path,
        read_options=csv.ReadOptions(
            use_threads=threaded,
            block_size=4 << 20,
            column_names=None if query.header else list(query.columns),
        ),
        parse_options=csv.ParseOptions(delimiter=query.delimiter, quote_char=query.quote or False),
        convert_options=csv.ConvertOptions(column_types=types, include_columns=wanted),
    ).unify_dictionaries()

keys = ["key"]
if query.window_ms is not None:
    start = pc.multiply(pc.divide(rows["ts"], query.window_ms), query.window_ms)
    rows = rows.append_column("window", start)
    keys = ["window", "key"]
grouped = rows.group_by(keys, use_threads=threaded).aggregate(
    [("value", function) for function in ("count", "sum", "min", "max", "mean")]
)
result = grouped.select(
    [*keys, *(f"value_{function}" for function in ("count", "sum", "min", "max", "mean"))]
).rename_columns([*keys, "n", "total", "low", "high", "average"])
position = result.column_names.index("key")
result = result.set_column(position, "key", result["key"].cast(pa.string()))
csv.write_csv(result, query.out)
