"""Blocks of whole records from streams that end by themselves and from streams that are broken off, however the bytes are cut."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncflow as af
from asyncflow import formats
from asyncflow.connectors.contract import ByteStream
from asyncflow.errors import ConnectorError, DataError
from asyncflow.formats.contract import Decoder, DecodeRequest
from asyncflow.model.schema import DataType, Schema
from asyncflow.runtime import Run
from asyncflow.runtime.ingest.buffers import BlockPool
from asyncflow.runtime.ingest.positions import Dropped, Records
from asyncflow.runtime.ingest.streams import blocks
from asyncflow.testing import ChunkSource, chunks

SCHEMA = Schema.of([("key", DataType.STRING), ("qty", DataType.INT64)])
FORMATS: dict[str, dict[str, Any]] = {
    "csv": {},
    "csv without a header": {"header": False},
    "json": {},
    "lines": {},
    "raw": {"dtype": [["key", "S4"], ["qty", "<i8"]]},
}
WHOLE = {
    "csv": b'qty,key\n1,a\n2,"b\nb"\n1234,c\n',
    "csv without a header": b'a,1\n"b\nb",2\nc,1234\n',
    "json": b'{"key":"a","qty":1}\n{"key":"b","qty":2}\n{"qty":1234}\n',
    "lines": b"a 1\nb 2\nc 1234\n",
    "raw": b"aaaa\1\0\0\0\0\0\0\0bbbb\2\0\0\0\0\0\0\0",
}
RECORDS = {"csv": [8, 12, 20, 27], "csv without a header": [4, 12, 19], "raw": [12, 24]}
"""Where records (and the header) end; the others are lines."""


class BrokenStream(ChunkSource):
    """Ends as if a peer had reset the connection, or by an exception."""

    def __init__(self, pieces: Sequence[bytes], error: str, fault: Exception | None = None) -> None:
        super().__init__(pieces)
        self._why, self._fault = error, fault

    async def read_into(self, buffer: memoryview) -> int:
        count = await super().read_into(buffer)
        if count == 0:
            self.error = self._why
            if self._fault is not None:
                raise self._fault
        return count


def decoder(name: str) -> Decoder:
    module = formats.find_decoder(name.split()[0])
    schema = Schema.of([("line", DataType.STRING)]) if name == "lines" else SCHEMA
    options = {
        key: tuple(map(tuple, value)) if key == "dtype" else value for key, value in FORMATS[name].items()
    }
    made = module.decoder(
        module.DecoderOptions(**options), DecodeRequest(schema, schema.names, keep_rejects=True)
    )
    assert isinstance(made, Decoder)
    return made


async def read(stream: ByteStream, name: str) -> tuple[int, list[tuple[str, int, bytes]], int]:
    """Rows, rejects as (reason, offset in the stream, record), and bytes accounted for."""
    rows, rejects, total = 0, [], 0
    reader = decoder(name)
    async for item in blocks(stream, reader, BlockPool(1 << 12, 1 << 13)):
        found, size = (
            (item.cut.rejects, item.cut.resume - item.cut.end) if isinstance(item, Dropped) else ((), 0)
        )
        if not isinstance(item, Dropped):
            result = reader.decode(item.data)
            rows, found, size = rows + result.num_rows, result.rejects, len(item.data)
        assert item.offset == total
        total += size
        rejects += [(r.reason, item.offset + r.offset, r.record) for r in found]
    return rows, rejects, total


def ends(name: str) -> list[int]:
    data = WHOLE[name]
    return RECORDS.get(name) or [at + 1 for at, byte in enumerate(data) if byte == 10]


@pytest.mark.parametrize("name", FORMATS)
async def test_broken_off_anywhere_only_whole_records_are_read(name: str) -> None:
    data, header = WHOLE[name], int(name == "csv")
    for size in range(len(data) + 1):
        whole = [0, *(end for end in ends(name) if end <= size)]
        for at_most in (1, 5, 100):
            stream = BrokenStream(chunks(data[:size], size, at_most), "Connection reset by peer")
            rows, rejects, total = await read(stream, name)
            expected = [("cut short: Connection reset by peer", whole[-1], data[whole[-1] : size])]
            assert rejects == (expected if size > whole[-1] else []), size
            assert rows == max(len(whole) - 1 - header, 0), size
            assert total == size


@pytest.mark.parametrize("name", ["csv", "csv without a header", "json", "lines"])
async def test_a_last_record_without_its_newline_is_whole_where_the_stream_ended_by_itself(name: str) -> None:
    data, header = WHOLE[name], int(name == "csv")
    rows, rejects, total = await read(ChunkSource(chunks(data[:-1], 3, 5)), name)
    assert (rows, rejects, total) == (len(ends(name)) - header, [], len(data) - 1)


async def test_an_unfinished_quote_is_one_record_also_over_several_lines() -> None:
    tail = b'"not\n2,closed\n3,here'
    stream = BrokenStream([b"a,1\n", tail], "stopped")
    assert await read(stream, "csv without a header") == (1, [("cut short: stopped", 4, tail)], 4 + len(tail))


async def test_a_line_too_long_is_rejected_once_also_where_its_end_never_came() -> None:
    data = b"x" * ((1 << 20) + 10)
    pool = BlockPool(1 << 16, (1 << 20) + (1 << 16))
    items = [
        item async for item in blocks(BrokenStream(chunks(data, 1, 1 << 16), "gone"), decoder("lines"), pool)
    ]
    assert all(isinstance(item, Dropped) for item in items)
    reasons = [reject.reason for item in items if isinstance(item, Dropped) for reject in item.cut.rejects]
    assert reasons == ["longer than 1048576 bytes"]


async def test_what_is_kept_of_a_record_is_bounded() -> None:
    data = b"a,1\n" + b"y" * 7000
    _, [(reason, offset, record)], total = await read(BrokenStream([data], "gone"), "csv without a header")
    assert (reason, offset, record, total) == ("cut short: gone", 4, b"y" * 4096, len(data))


async def test_a_stream_that_fails_is_cut_short_and_then_fails() -> None:
    stream = BrokenStream([b"a,1\nb,12"], "", ConnectorError("disk: input/output error"))
    items = blocks(stream, decoder("csv without a header"), BlockPool(64, 64))
    assert isinstance(await anext(items), Records)
    cut = await anext(items)
    assert isinstance(cut, Dropped)
    assert (cut.offset, cut.cut.rejects[0].reason) == (4, "cut short: disk: input/output error")
    with pytest.raises(ConnectorError, match=r"^disk: input/output error$"):
        await anext(items)


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.tuples(st.sampled_from(["a", "", 'q"', "x\ny", "né"]), st.integers(-9, 99_999)), max_size=12
    ),
    seed=st.integers(0, 9),
    broken=st.booleans(),
    data=st.data(),
)
async def test_rows_are_those_that_ended_before_the_break(
    table: list[tuple[str, int]], seed: int, broken: bool, data: st.DataObject
) -> None:
    lines = [json.dumps({"key": key, "qty": qty}).encode() + b"\n" for key, qty in table]
    size = data.draw(st.integers(0, sum(map(len, lines))))
    kept = b"".join(lines)[:size]
    stream = BrokenStream(chunks(kept, seed, 9), "gone" if broken else "")
    rows, rejects, total = await read(stream, "json")
    assert total == size
    tail = kept[kept.rfind(b"\n") + 1 :]
    if broken:
        assert rows == kept.count(b"\n")
        assert [record for _, _, record in rejects] == ([tail] if tail else [])
    else:
        assert rows == kept.count(b"\n") + (tail.endswith(b"}") and tail + b"\n" in lines)


# -- through a run -------------------------------------------------------------------------------------------------------


def cut_archive(path: Path) -> Path:
    """A gzip file whose last bytes are missing; what it still holds ends inside a record."""
    text = b"key,qty\n" + b"".join(b"k%d,%d\n" % (n % 7, n * 7919) for n in range(20_000))
    whole = gzip.compress(text)
    path.write_bytes(whole[: len(whole) // 2])
    return path


@pytest.mark.parametrize("workers", [1, 3])
async def test_an_archive_cut_short_counts_its_last_record_and_fails_the_run(
    tmp_path: Path, workers: int
) -> None:
    path = cut_archive(tmp_path / "a.csv.gz")
    flow = af.source(
        "file", path=str(path), format="csv", schema={"key": "string", "qty": "int64"}, name="rows"
    )
    run = Run(flow.to("null", format="csv").checked(), workers=workers)
    with pytest.raises(ConnectorError, match=r"a\.csv\.gz: the gzip data ends too early"):
        await run.execute()
    counted = run.ledger.to_dict()["sources"]["rows"]
    assert counted["rejected"] == 1
    assert counted["rows"] == counted["rows_out"] + 1 > 1
    [reason] = run.warnings
    assert f"{path}:{counted['rows'] + 1} (byte " in reason
    assert "): cut short: " in reason
    assert "gzip data ends too early" in reason


async def test_on_error_fail_names_the_record_that_was_cut(tmp_path: Path) -> None:
    path = cut_archive(tmp_path / "a.csv.gz")
    schema = {"key": "string", "qty": "int64"}
    flow = af.source("file", path=str(path), format="csv", schema=schema, on_error="fail")
    with pytest.raises(DataError, match=r"\(byte \d+\): cut short: .*ends too early"):
        await Run(flow.to("null", format="csv").checked()).execute()
