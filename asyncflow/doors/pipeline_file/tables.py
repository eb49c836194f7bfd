"""The keys of each kind of table in a pipeline file, with types, defaults and a line of doc each.

One struct per kind gives the reading of the file, the hints at unknown keys, ``asyncflow list`` and the JSON Schema.  What a connector adds
to ``[sources.NAME]`` and ``[sinks.NAME]`` stands in the connector's own options struct.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

_DURATION = r"^-?(\d+(\.\d+)?(ns|us|ms|s|m|h|d))+$"
_SIZE = r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$"

Duration = Annotated[
    str, Meta(extra_json_schema={"pattern": _DURATION, "examples": ["250ms", "5s", "1m30s", "1d"]})
]
Size = Annotated[int | str, Meta(extra_json_schema={"examples": ["64KiB", "16MiB"]})]
ExpressionText = Annotated[str, Meta(extra_json_schema={"examples": ["qty > 0 AND store IS NOT NULL"]})]
AggregateText = Annotated[str, Meta(extra_json_schema={"examples": ["count(*)", "sum(price * qty)"]})]
Key = Annotated[
    list[str] | dict[str, ExpressionText],
    Meta(description="The key: a list of columns, or names with expressions."),
]
TypeText = Annotated[
    str, Meta(extra_json_schema={"pattern": r"^(bool|int64|float64|string|timestamp(\[(s|ms|us|ns)\])?)$"})
]
FormatValue = Annotated[
    str | dict[str, Any], Meta(description="A format's name, or a table of its type and options.")
]
Inputs = Annotated[
    list[str],
    Meta(
        description="The tables or side outputs (NAME.rejected) to read; several are a union. Left out: the table before."
    ),
]


class PipelineTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keys that stand above all tables."""

    name: Annotated[str | None, Meta(description="The pipeline's name. Left out: the file's.")] = None
    stop_timeout: Annotated[
        Duration, Meta(description="How long what was read may flow out after the first signal.")
    ] = "30s"
    memory: Annotated[
        Size | None,
        Meta(
            description="What a run may hold: input that is read, state, joins, results. At the bound inputs are held back, then the run "
            "fails and names the table that grew. Left out: 80 % of what the process may have."
        ),
    ] = None


class SourceTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keys that every source has."""

    type: Annotated[str, Meta(description="The connector.")]
    format: FormatValue | None = None
    schema: Annotated[
        dict[str, TypeText] | None,
        Meta(description="Columns and their types. Left out: inferred from the head of the input."),
    ] = None
    time: Annotated[str | None, Meta(description="The event-time column. Left out: arrival time.")] = None
    watermark_delay: Annotated[
        Duration,
        Meta(
            description="How far behind the greatest event time the watermark stays: how late rows may come."
        ),
    ] = "0s"
    max_future: Annotated[
        Duration,
        Meta(
            description="Rows whose time is further than this beyond the wall clock go to NAME.future. "
            "Of several peers, nearer ones move the watermark beyond the clock only as far as all of them have come."
        ),
    ] = "1d"
    on_error: Annotated[
        Literal["reject", "fail"],
        Meta(
            description="What a record that cannot be read does: it goes to NAME.rejected, or stops the run."
        ),
    ] = "reject"
    max_record_bytes: Annotated[Size, Meta(description="Longer records are rejected.")] = "1MiB"
    idle_timeout: Annotated[
        Duration | None,
        Meta(description="A source with nothing to read for this long no longer holds the watermark back."),
    ] = None


class SinkTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keys that every sink has."""

    type: Annotated[str, Meta(description="The connector.")]
    inputs: Inputs | None = None
    format: FormatValue | None = None


class FilterTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keeps the rows for which the condition is true."""

    type: Literal["filter"]
    inputs: Inputs | None = None
    where: Annotated[
        ExpressionText, Meta(description="The condition. Rows for which it is false or null are taken out.")
    ]


class DeriveTable(msgspec.Struct, kw_only=True, frozen=True):
    """Adds columns, or replaces those of the same name; to replace the time column gives rows another time (null: NAME.rejected)."""

    type: Literal["derive"]
    inputs: Inputs | None = None
    columns: Annotated[
        dict[str, ExpressionText],
        Meta(description="New columns and their expressions over the input's columns."),
    ]


class WindowTable(msgspec.Struct, kw_only=True, frozen=True):
    """Groups rows by window and key and aggregates each group."""

    type: Literal["window"]
    inputs: Inputs | None = None
    window: Annotated[
        dict[str, Any] | str,
        Meta(
            description='{ tumbling = "1m" }, { hopping = "5m", every = "1m" }, { cumulate = "1d", every = "1h" }, '
            '{ session = "30s" }, { count = 100 }, "all" or "message"; offset = "15m" moves the bounds of the first three.',
            extra_json_schema={
                "examples": [
                    {"tumbling": "1m"},
                    {"hopping": "5m", "every": "1m"},
                    {"cumulate": "1d", "every": "1h"},
                    {"session": "30s"},
                    {"count": 100},
                    "all",
                    "message",
                ]
            },
        ),
    ] = "all"
    by: Key = []
    aggregates: Annotated[
        dict[str, AggregateText], Meta(description="New columns and their aggregate expressions.")
    ] = {}
    allowed_lateness: Annotated[
        Duration,
        Meta(
            description="For how long after its end late rows still change a window: its row is sent again, with the next revision."
        ),
    ] = "0s"
    emit: Annotated[
        str | dict[str, Any],
        Meta(
            description='When windows are sent: "final" (at their end); "updates" or { every = "5s" }: also before, as they change.',
            extra_json_schema={"examples": ["final", "updates", {"every": "5s"}]},
        ),
    ] = "final"


class DedupTable(msgspec.Struct, kw_only=True, frozen=True):
    """Lets the first row of each key pass, by arrival; the others go to NAME.duplicate."""

    type: Literal["dedup"]
    inputs: Inputs | None = None
    by: Key
    within: Annotated[
        Duration,
        Meta(
            description="Rows of a key at most this far, in event time, from one that passed are its duplicates."
        ),
    ]


class TopTable(msgspec.Struct, kw_only=True, frozen=True):
    """Keeps the first rows of each window and key, with their rank."""

    type: Literal["top"]
    inputs: Inputs | None = None
    n: Annotated[int, Meta(description="How many rows of each window and key.", ge=1)]
    order: Annotated[
        list[ExpressionText],
        Meta(
            description="What goes first: expressions, each with ASC or DESC and NULLS FIRST or NULLS LAST. Ties go by arrival.",
            extra_json_schema={"examples": [["revenue DESC", "store"]]},
        ),
    ]
    by: Key = []
    window: Annotated[
        dict[str, Any] | str | None,
        Meta(
            description='{ tumbling = "1m" }, { hopping = "5m", every = "1m" } or "all". Left out: the windows the input comes from.',
            extra_json_schema={"examples": [{"tumbling": "1m"}, {"hopping": "5m", "every": "1m"}, "all"]},
        ),
    ] = None


class SequenceTable(msgspec.Struct, kw_only=True, frozen=True):
    """Reads two sources one after the other as one table: the past, then what is live."""

    type: Literal["sequence"]
    of: Annotated[
        list[str],
        Meta(description="The two sources. The second is opened first and kept until the first has ended."),
    ]
    unique: Annotated[
        list[str],
        Meta(
            description="Columns that tell which live rows the past had; it is read once live has sent a row. Left out: told by event time."
        ),
    ] = []


class JoinTable(msgspec.Struct, kw_only=True, frozen=True):
    """Puts rows of two tables together: by time (within, window or as_of), or each left row with its matches in a bounded right table."""

    type: Literal["join"]
    left: Annotated[str, Meta(description="The left table.")]
    right: Annotated[
        str,
        Meta(
            description="The right table. Without within, window or as_of it must end: it is read whole first."
        ),
    ]
    on: Annotated[
        list[str] | dict[str, str],
        Meta(
            description="Columns that must be equal: a list, or left columns with their right ones. []: every pair."
        ),
    ]
    kind: Annotated[
        Literal["inner", "left", "right", "full", "semi", "anti"],
        Meta(
            description="Which rows without a partner come out too; semi and anti: left rows with and without one."
        ),
    ] = "inner"
    within: Annotated[
        Duration | list[Duration] | None,
        Meta(
            description='How far apart in time: "10m", or ["-1m", "10m"] for right time - left time.',
            extra_json_schema={"examples": ["10m", ["-1m", "10m"]]},
        ),
    ] = None
    window: Annotated[
        dict[str, Any] | str | None,
        Meta(
            description="Both in the same window.",
            extra_json_schema={"examples": [{"tumbling": "1m"}, {"hopping": "5m", "every": "1m"}]},
        ),
    ] = None
    as_of: Annotated[
        Literal["backward", "forward", "nearest"] | None,
        Meta(description="Each left row with the one right row that is nearest in time."),
    ] = None
    tolerance: Annotated[
        Duration | None, Meta(description="How far apart the two of an as-of join may be.")
    ] = None
    refresh: Annotated[
        Duration | None,
        Meta(
            description="A right table that is read whole is read again so long after its last reading; the new one takes the old one's "
            "place once it is whole. Where the left table may never end."
        ),
    ] = None
    suffix: Annotated[
        str, Meta(description="What is added to the name of a right column that the left side has too.")
    ] = "_right"
    max_state: Annotated[
        Size,
        Meta(
            description="The run fails when the rows held take more; with refresh the old and the new table count, and "
            "only that reading fails."
        ),
    ] = "1GiB"


STAGES: dict[str, type[msgspec.Struct]] = {
    "filter": FilterTable,
    "derive": DeriveTable,
    "window": WindowTable,
    "join": JoinTable,
    "dedup": DedupTable,
    "top": TopTable,
}
SEQUENCE = "sequence"
"""The type of a source that is a sequence of others."""
LATER_STAGES = frozenset({"pattern"})
LATER_KEYS = ("checkpoint", "http")
"""Tables at the top of a pipeline file that are not built yet."""
