"""The schema that nobody wrote: from inputs that are blank, from streams side by side, from those that end or fail early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from flows_runtime import collect
from hypothesis import given
from hypothesis import strategies as st

import asyncflow as af
from asyncflow.connectors.contract import ByteSource, ByteStream
from asyncflow.errors import ConnectorError, DataError
from asyncflow.formats.contract import Cut
from asyncflow.runtime.primed import PrimedStreams
from asyncflow.runtime.refused import Refused
from asyncflow.testing import ChunkSource, check_format, chunks

BLANK = [b"", b"\xef\xbb\xbf", b"\n", b"\r\n\n\r\n", b"\xef\xbb\xbf\n\n", b"  \n\t\n", b"\n" * 5000]


@pytest.mark.parametrize("format", ["csv", "json", None])
@pytest.mark.parametrize("data", BLANK)
async def test_blank_input_is_empty(tmp_path: Path, data: bytes, format: str | None) -> None:
    path = tmp_path / "in"
    path.write_bytes(data)
    flow = af.source("file", path=str(path), name="rows", **({"format": format} if format else {}))
    assert await collect(flow.filter("qty > 0").window(by=["key"], n="count(*)")) == []
    counted = (await flow.to("null", format="json").run()).to_dict()["sources"]["rows"]
    assert (counted["rows"], counted["rejected"], counted["bytes"]) == (0, 0, len(data))


@pytest.mark.parametrize("data", BLANK)
async def test_blank_files_before_others_do_not_hide_their_schema(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    (tmp_path / "b.json").write_bytes(data)
    (tmp_path / "c.json").write_bytes(b'{"a": 1}\n')
    flow = af.source("file", path=str(tmp_path / "*.json"), name="rows")
    assert await collect(flow) == [{"a": 1}]
    counted = (await flow.to("null", format="json").run()).to_dict()["sources"]["rows"]
    assert (counted["rows"], counted["bytes"]) == (1, 2 * len(data) + 9)


async def test_more_blank_lines_than_are_looked_at_are_no_empty_input(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"\n" * 70_000 + b"key,qty\na,1\n")
    with pytest.raises(DataError, match="no end of the first record in"):
        await collect(af.source("file", path=str(path)))


async def test_a_wrong_header_of_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"kay,qty\na,1\n")
    with pytest.raises(DataError, match=r"^source_1: the header has no column 'key' \(nearest: 'kay'\)$"):
        await collect(af.source("file", path=str(path), schema={"key": "string", "qty": "int64"}))


# -- streams side by side ------------------------------------------------------------------------------------------------------


class Held(ChunkSource):
    """One stream whose bytes come when ``open`` is set; fails with ``fault`` instead, where that is given."""

    def __init__(self, pieces: Sequence[bytes], fault: Exception | None = None) -> None:
        super().__init__(pieces)
        self.open = asyncio.Event()
        self._fault = fault

    async def read_into(self, buffer: memoryview) -> int:
        await self.open.wait()
        if self._fault is not None:
            raise self._fault
        return await super().read_into(buffer)


class Beside(ByteSource):
    """The given streams at once; then, if ``endless``, it waits for more."""

    concurrent = True

    def __init__(self, streams: Sequence[ByteStream], *, endless: bool = False) -> None:
        self.ended = False
        self._given, self._endless = streams, endless

    async def streams(self) -> AsyncIterator[ByteStream]:
        try:
            for stream in self._given:
                yield stream
            if self._endless:
                await asyncio.Event().wait()
        finally:
            self.ended = True

    async def aclose(self) -> None:
        pass


async def drained(stream: ByteStream) -> bytes:
    buffer, data = memoryview(bytearray(7)), bytearray()
    while count := await stream.read_into(buffer):
        data += buffer[:count]
    await stream.aclose()
    return bytes(data)


@given(first=st.integers(0, 3), seed=st.integers(0, 9))
async def test_whoever_speaks_first_shows_the_head_and_all_are_read_in_order(first: int, seed: int) -> None:
    texts = [b"k,%d\n%d,2\n" % (n, n) * 5 for n in range(4)]
    held = [Held(chunks(text, seed, 9)) for text in texts]
    streams = PrimedStreams(Beside(held))
    looking = asyncio.create_task(streams.head(1 << 16))
    held[first].open.set()
    head, whole = await looking
    assert (head.tobytes(), whole) == (texts[first], True)
    for stream in held:
        stream.open.set()
    assert [await drained(stream) async for stream in streams] == texts


async def test_closed_while_it_looks_nothing_stays_open() -> None:
    held = [Held([b"a\n"]) for _ in range(3)]
    source = Beside(held, endless=True)
    streams = PrimedStreams(source)
    looking = asyncio.create_task(streams.head(10))
    for _ in range(20):
        await asyncio.sleep(0)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await streams.aclose()
    await streams.aclose()
    assert source.ended
    assert [stream.closed for stream in held] == [True] * 3


async def test_a_stream_that_fails_while_it_is_looked_at_is_that_failure() -> None:
    fault = ConnectorError("disk: input/output error")
    held = [Held([b"a\n"]), Held([], fault)]
    source = Beside(held, endless=True)
    streams = PrimedStreams(source)
    held[1].open.set()
    with pytest.raises(ConnectorError) as caught:
        await streams.head(10)
    assert caught.value is fault
    await streams.aclose()
    assert source.ended


async def test_where_none_says_anything_there_is_no_head_and_they_can_still_be_read() -> None:
    held = [Held([]), Held([b"\n"]), Held([b"\xef\xbb\xbf"])]
    for stream in held:
        stream.open.set()
    streams = PrimedStreams(Beside(held))
    head, whole = await streams.head(10)
    assert (len(head), whole) == (0, True)
    assert [await drained(stream) async for stream in streams] == [b"\n", b"\xef\xbb\xbf"]
    assert held[0].closed


# -- streams that are refused --------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=60) | st.text("\n\r \ufeffab", max_size=60).map(str.encode))
def test_a_refused_stream_is_one_reject_however_it_comes(data: bytes) -> None:
    check_format(lambda: Refused("why"), data)


def test_a_refused_stream_keeps_its_first_line_and_accounts_for_the_rest() -> None:
    decoder, data = Refused("why"), np.frombuffer(b"\n first\r\nsecond\n", np.uint8)
    blank = decoder.cut(data, False)
    assert blank == Cut(0, 2, (), 1)
    told = decoder.cut(data[2:], False)
    assert (told.resume, told.lines, [r.record for r in told.rejects]) == (14, 2, [b"first"])
    assert decoder.cut(data, True) == Cut(0, len(data), (), 3)
