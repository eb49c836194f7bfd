"""The keys that stand above all tables of a pipeline file, and those that every source and every sink has, with a line of doc each.

One struct gives the reading of the file, the hints at unknown keys, ``asyncflow list`` and the JSON Schema.  The keys of a stage stand with
its kind (``doors.stages``), those that a connector adds in the connector's own options struct.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from asyncflow.doors.words import Duration, FormatValue, Inputs, Size, TypeText


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
    checkpoint: Annotated[
        dict[str, Any] | None,
        Meta(
            description="A table of dir, interval and retain: the run takes checkpoints, and goes on from the newest."
        ),
    ] = None


class CheckpointTable(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Keys of ``[checkpoint]``."""

    dir: Annotated[
        str,
        Meta(
            description="The folder that keeps the checkpoints. A run that is started again goes on from the newest."
        ),
    ]
    interval: Annotated[
        Duration, Meta(description="From the end of one checkpoint to the start of the next, at least 100ms.")
    ] = "10s"
    retain: Annotated[int, Meta(description="How many checkpoints are kept, at least 2.")] = 3


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


LATER_KEYS = ("http",)
"""Tables at the top of a pipeline file that are not built yet."""
