"""The benchmark's cases: data, query, peers, and the floor (asyncflow's least speed beside a peer) of each case."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH / "peers"))

from query import Query  # noqa: E402

EVENTS = {"ts": "int64", "key": "string", "value": "float64"}
WIDE = {"id": "int64", "ts": "int64", "host": "string", "status": "int64", "key": "string", "url": "string"}
WIDE |= {"value": "float64", "latency": "int64", "flag": "string", "comment": "string"}
URLS = {"ts": "int64", "url": "string", "value": "float64"}
KEYS_OF_URLS = {
    "parts": "split_part(url, '/', 3) || split_part(url, '/', 4) || split_part(url, '/', 5)",
    "host": "regexp_extract(lower(url), '^https?://([^/]+)/', 1)",
}
FLAT = EVENTS | {"extra": "string"}

OURS = "asyncflow"
FILE_PEERS = ("polars", "duckdb", "chdb", "pyarrow")
WINDOW_PEERS = ("polars", "duckdb")
LIVE_PEERS = ("bytewax", "streamz")
LIVE_PEER_ROWS = 100_000  # they take rows one at a time; compared by rate


@dataclass(frozen=True)
class Floor:
    """At least ``ratio`` times the rate of ``peer`` (``best``: the fastest of all) on that many threads."""

    peer: str
    threads: int
    ratio: float


def both(ratio: float) -> tuple[Floor, ...]:
    """That ratio to the fastest of all with one thread and with two."""
    return Floor("best", 1, ratio), Floor("best", 2, ratio)


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    dataset: str
    columns: dict[str, str]
    peers: tuple[str, ...] = FILE_PEERS
    input: str = "file"  # or "pipe", "tcp"
    threads: tuple[int, ...] = (1, 2)
    format: str = "csv"
    delimiter: str = ","
    header: bool = True
    quote: str = '"'
    window_ms: int | None = 60_000
    every_ms: int | None = 60_000
    gap_ms: int | None = None
    tail: float | None = None
    url: str | None = None
    floors: tuple[Floor, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that it reads, of as many rows each."""
        return (self.dataset,)

    def files(self, data: Path) -> tuple[Path, ...]:
        """The files of all data sets where ``data`` is that of the first."""
        first, *others = self.datasets
        return data, *(data.with_name(data.name.replace(first, other, 1)) for other in others)

    def script(self, peer: str) -> str:
        return f"with_{peer}.py"

    def pipeline(self, path: str, out: Path | None) -> str:
        return pipeline(self, path, out)

    def query(self, path: str, out: Path, threads: int) -> Query:
        return Query(
            path=path,
            out=str(out),
            format=self.format,
            columns=self.columns,
            threads=threads,
            delimiter=self.delimiter,
            header=self.header,
            quote=self.quote,
            window_ms=self.window_ms,
            every_ms=self.every_ms,
            gap_ms=self.gap_ms,
            tail=self.tail,
            url=self.url,
        )


CASES = {
    case.name: case
    for case in (
        Case(
            "csv-10k",
            "CSV, 10k keys",
            "csv-10k",
            EVENTS,
            floors=(Floor("polars", 1, 4.0), Floor("duckdb", 1, 4.5), Floor("best", 2, 3.5)),
        ),
        Case("csv-100", "CSV, 100 keys", "csv-100", EVENTS),
        Case(
            "csv-1m", "CSV, 1M keys", "csv-1m", EVENTS, floors=(Floor("best", 1, 1.0), Floor("best", 2, 1.0))
        ),
        Case("wide", "CSV, 3 of 10 columns", "wide", WIDE, floors=(Floor("best", 1, 2.5),)),
        Case(
            "ndjson", "NDJSON, one layout", "ndjson", FLAT, format="json", floors=(Floor("duckdb", 1, 4.5),)
        ),
        Case(
            "ndjson-mixed",
            "NDJSON, mixed and nested",
            "ndjson-mixed",
            FLAT,
            format="json",
            floors=(Floor("duckdb", 1, 2.0),),
        ),
        Case(
            "1brc",
            "1BRC format",
            "1brc",
            {"key": "string", "value": "float64"},
            delimiter=";",
            header=False,
            quote="",
            window_ms=None,
            every_ms=None,
            floors=(Floor("best", 1, 3.0), Floor("best", 2, 3.0)),
        ),
        Case(
            "gzip",
            "CSV in gzip, 10k keys",
            "gzip",
            EVENTS,
            floors=(Floor("polars", 1, 1.8), Floor("polars", 2, 1.4)),
        ),
        Case(
            "hopping",
            "CSV, 60 windows of 60 s a row",
            "csv-100",
            EVENTS,
            ("polars", "duckdb", "chdb"),
            every_ms=1000,
        ),
        Case(
            "hopping-300",
            "CSV, 300 windows of 300 s a row",
            "csv-100",
            EVENTS,
            WINDOW_PEERS,
            window_ms=300_000,
            every_ms=1000,
            floors=both(2.0),
        ),
        # A key has a row every 2.25 s, at random: a session holds about 35.
        Case(
            "session",
            "CSV, sessions 8 s apart, 10k keys",
            "csv-10k",
            EVENTS,
            WINDOW_PEERS,
            gap_ms=8_000,
            floors=both(3.0),
        ),
        Case(
            "quantile",
            "CSV, quantiles of 27 values, 10k keys",
            "csv-10k",
            EVENTS,
            WINDOW_PEERS,
            tail=0.99,
            floors=both(1.5),
        ),
        Case(
            "quantile-100",
            "CSV, quantiles of 2,700 values, 100 keys",
            "csv-100",
            EVENTS,
            WINDOW_PEERS,
            tail=0.99,
            floors=both(1.5),
        ),
        Case(
            "url-parts",
            "CSV, three split_part of a URL",
            "urls",
            URLS,
            WINDOW_PEERS,
            url="parts",
            floors=(Floor("duckdb", 1, 1.0), Floor("duckdb", 2, 1.0)),
        ),
        Case(
            "url-host",
            "CSV, lower and regexp_extract of a URL",
            "urls",
            URLS,
            WINDOW_PEERS,
            url="host",
            floors=(Floor("duckdb", 1, 1.0), Floor("duckdb", 2, 1.0)),
        ),
        Case("pipe", "CSV on a pipe, 10k keys", "csv-10k", EVENTS, ("duckdb", *LIVE_PEERS), "pipe", (1,)),
        Case("tcp", "CSV over TCP, 10k keys", "csv-10k", EVENTS, LIVE_PEERS, "tcp", (1,)),
    )
}


AGGREGATES = {"total": "sum", "low": "min", "high": "max", "average": "mean"}


def sink_text(out: Path | None) -> str:
    """Where results go, in a pipeline file: to ``out``, or nowhere."""
    if out is None:
        return 'type = "null"'
    return f"""type = "file"
path = {json.dumps(str(out))}
mode = "replace"
format = {{ type = "csv", timestamps = "ms" }}"""


def pipeline(case: Case, path: str, out: Path | None, emit: str | None = None) -> str:
    """The case as an asyncflow pipeline file; ``path`` as in a query; ``out`` None counts the rows and drops them."""
    if path == "-":
        source = 'type = "stdin"'
    elif path.startswith("tcp:"):
        source = f'type = "tcp"\nconnect = "127.0.0.1:{path[4:]}"'
    else:
        source = f'type = "file"\npath = {json.dumps(path)}'
    options = [f'type = "{case.format}"']
    if case.format == "csv":
        options += [f'delimiter = "{case.delimiter}"', f"header = {str(case.header).lower()}"]
    types = {name: "timestamp[ms]" if name == "ts" else kind for name, kind in case.columns.items()}
    schema = ", ".join(f'{name} = "{kind}"' for name, kind in types.items())
    aggregates = {name: f"{function}(value)" for name, function in AGGREGATES.items()}
    if case.tail is not None:
        aggregates = {"median": "median(value)", "high_tail": f"quantile(value, {case.tail})"}
    computed = "\n".join(f'{name} = "{text}"' for name, text in aggregates.items())
    if case.window_ms is None:
        time, window = "", '"all"'
    else:
        time = 'time = "ts"\nwatermark_delay = "5s"'
        window = f'{{ tumbling = "{case.window_ms}ms" }}'
        if case.every_ms != case.window_ms:
            window = f'{{ hopping = "{case.window_ms}ms", every = "{case.every_ms}ms" }}'
        if case.gap_ms is not None:
            window = f'{{ session = "{case.gap_ms}ms" }}'
    keyed = ""
    if case.url is not None:
        keyed = f"""
[stages.keyed]
type = "derive"
columns = {{ key = {json.dumps(KEYS_OF_URLS[case.url])} }}
"""
    emitting = "" if emit is None else f'emit = "{emit}"\n'
    return f"""name = "bench"

[sources.events]
{source}
format = {{ {", ".join(options)} }}
schema = {{ {schema} }}
{time}
{keyed}
[stages.result]
type = "window"
window = {window}
by = ["key"]
{emitting}
[stages.result.aggregates]
n = "count(*)"
{computed}

[sinks.out]
{sink_text(out)}
"""
