"""Connector ``generate``: made-up rows of sensors, for demos, tests and benchmarks.

Row i is a function of ``seed`` and i alone (a counter is hashed, no generator is stepped), so the same seed gives the same rows
however they are cut into batches:

    key    sensor-000 ..., each equally likely            value   the key's own level, a slow wave, and noise
    ts     start + i / rate, minus up to ``disorder`` for one row in ten

With a rate, rows come when their moment has come by the monotonic clock, many at once when they are many; without, as fast as they
are taken, one millisecond of event time apart.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from asyncflow.connectors.contract import BatchSource
from asyncflow.errors import ConnectorError
from asyncflow.model.batch import Batch
from asyncflow.model.capabilities import DescribesSource, SourceCapabilities
from asyncflow.model.columns import ByteArray, FixedColumn, Int64Array, StringColumn
from asyncflow.model.durations import parse_duration
from asyncflow.model.schema import DataType, Schema
from asyncflow.model.snapshot import Plain

BATCH_ROWS = 32_768
TICK_SECONDS = 0.01
WAVE_ROWS = 10_000
DEFAULT_SPACING_NS = 1_000_000
SCHEMA = Schema.of([("ts", DataType.TIMESTAMP), ("key", DataType.STRING), ("value", DataType.FLOAT64)])

UInt64Array = NDArray[np.uint64]


class SourceOptions(msgspec.Struct, DescribesSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows, how fast, and which."""

    rows: Annotated[int, msgspec.Meta(ge=0, description="How many rows; 0: without end.")] = 0
    rate: Annotated[
        float, msgspec.Meta(ge=0, description="Rows per second; 0: as fast as they are taken.")
    ] = 0.0
    seed: Annotated[int, msgspec.Meta(description="The same seed and start give the same rows.")] = 1
    keys: Annotated[int, msgspec.Meta(ge=1, le=10_000_000, description="How many different keys.")] = 10
    start: Annotated[str, msgspec.Meta(description="Event time of the first row: ISO-8601, or now.")] = "now"
    disorder: Annotated[
        str, msgspec.Meta(description="How much later than its event time a row may come.")
    ] = "500ms"

    guarantee_text: ClassVar[str] = 'at-least-once; none with start = "now"'

    def __post_init__(self) -> None:
        if not (self.rate >= 0 and self.rate < float("inf")):
            raise ValueError("rate must be 0 or more")
        if parse_duration(self.disorder) < 0:
            raise ValueError("disorder must be 0s or more")
        if self.start != "now":
            parse_instant(self.start)

    def capabilities(self) -> SourceCapabilities:
        return SourceCapabilities(
            bounded=bool(self.rows),
            rereadable=True,
            resumable=True,
            guarantee="none" if self.start == "now" else "at-least-once",
            schema=SCHEMA,
        )


class GenerateSource(BatchSource):
    """Batches of ``SCHEMA``; ``time`` is left to the runtime."""

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._stopped = asyncio.Event()
        self.bounded = bool(options.rows)
        self._sent = 0
        self._start_ns: int | None = None if options.start == "now" else parse_instant(options.start)
        self._begun: float | None = None
        """When row 0 was due, by the monotonic clock."""

    def position(self, stream: int, offset: int) -> Plain:
        if self._start_ns is None:
            self._start_ns = time.time_ns()
        return {"start_ns": self._start_ns}

    def go_on(self, position: Plain, stream: int, offset: int) -> None:
        match position:
            case {"start_ns": int(start_ns)}:
                self._start_ns, self._sent, self.begins_at = start_ns, offset, offset
            case _:
                raise ConnectorError("the checkpoint does not say when the first row was due")

    @property
    def left_unread(self) -> bool:
        return self._stopped.is_set() and self._sent < (self._options.rows or 0)

    async def batches(self) -> AsyncIterator[Batch]:
        options = self._options
        if self._start_ns is None:
            self._start_ns = time.time_ns()
        if self._begun is None:  # so that the next row is due now
            self._begun = time.monotonic() - (self._sent / options.rate if options.rate else 0)
        rows = Rows(options, self._start_ns)
        last = options.rows or 2**62
        while self._sent < last and not self._stopped.is_set():
            due = last
            if options.rate:
                due = min(last, 1 + int((time.monotonic() - self._begun) * options.rate))
                if due <= self._sent:
                    until_next = self._begun + self._sent / options.rate - time.monotonic()
                    await self._pause(max(TICK_SECONDS, until_next))
                    continue
            await asyncio.sleep(0)
            count = min(due - self._sent, BATCH_ROWS)
            yield rows.batch(self._sent, count)
            self._sent += count

    async def stop(self) -> None:
        self._stopped.set()

    async def aclose(self) -> None:
        self._stopped.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass


class Rows:
    """The rows of one seed, by number."""

    def __init__(self, options: SourceOptions, start_ns: int) -> None:
        self._start_ns = start_ns
        self._seed = np.uint64(options.seed % 2**64)
        self._keys = options.keys
        self._spacing_ns = 1e9 / options.rate if options.rate else DEFAULT_SPACING_NS
        self._disorder_ns = parse_duration(options.disorder)
        self._key_text, self._key_starts, self._key_lengths = _key_table(options.keys)
        self._levels = 10.0 + 80.0 * _unit(_hash(np.arange(options.keys, dtype=np.uint64), self._seed, 4))

    def batch(self, first: int, count: int) -> Batch:
        """Rows ``first`` to ``first + count``."""
        numbers = np.arange(first, first + count, dtype=np.uint64)
        key = (_hash(numbers, self._seed, 0) % np.uint64(self._keys)).astype(np.int64)
        columns = (
            FixedColumn(self._times(numbers)),
            StringColumn(self._key_text, self._key_starts[key], self._key_lengths[key]),
            FixedColumn(self._values(numbers, key)),
        )
        return Batch(SCHEMA, columns, count)

    def _times(self, numbers: UInt64Array) -> Int64Array:
        regular = (numbers.astype(np.float64) * self._spacing_ns).astype(np.int64) + self._start_ns
        chance = _unit(_hash(numbers, self._seed, 1))
        # One row in ten is behind; how far comes from the same draw, spread over the whole of the disorder.
        behind = np.where(chance < 0.1, chance * (10 * self._disorder_ns), 0.0)
        return regular - behind.astype(np.int64)

    def _values(self, numbers: UInt64Array, key: Int64Array) -> NDArray[np.float64]:
        wave = 1.0 - np.abs((numbers % np.uint64(WAVE_ROWS)).astype(np.float64) * (4.0 / WAVE_ROWS) - 2.0)
        noise = _unit(_hash(numbers, self._seed, 2)) + _unit(_hash(numbers, self._seed, 3)) - 1.0
        return np.round(self._levels[key] + 5.0 * wave + 2.0 * noise, 3)


def _key_table(keys: int) -> tuple[ByteArray, NDArray[np.int32], NDArray[np.int32]]:
    """All key texts side by side; every row's key is a view into them."""
    width = max(3, len(str(keys - 1)))
    text = "".join(f"sensor-{number:0{width}d}" for number in range(keys)).encode()
    length = len("sensor-") + width
    starts = np.arange(keys, dtype=np.int32) * np.int32(length)
    return np.frombuffer(text, np.uint8), starts, np.full(keys, length, np.int32)


def _hash(numbers: UInt64Array, seed: np.uint64, stream: int) -> UInt64Array:
    """64 well-mixed bits per number (the finaliser of SplitMix64: Steele, Lea and Flood, 2014); each ``stream`` is another draw."""
    with np.errstate(over="ignore"):
        mixed = (numbers * np.uint64(8) + np.uint64(stream + 1)) * np.uint64(
            0x9E3779B97F4A7C15
        ) + seed * np.uint64(0xD1342543DE82EF95)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def _unit(bits: UInt64Array) -> NDArray[np.float64]:
    """Bits to floats in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def parse_instant(text: str) -> int:
    """ISO-8601 to ns since the epoch; no offset means UTC.  Raises ValueError."""
    try:
        instant = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'not a time: {text!r} (write it like "2024-01-01T00:00:00Z", or "now")') from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=datetime.UTC)
    since = instant - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def open_source(options: SourceOptions) -> GenerateSource:
    return GenerateSource(options)
