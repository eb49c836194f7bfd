"""Inferred schemas: of blank inputs, of concurrent streams, of streams that end or fail early."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncflow as af
from asyncflow.connectors.contract import ByteSource, ByteStream, Datagram, MessageSource
from asyncflow.errors import ConnectorError, DataError
from asyncflow.formats.contract import Block, Cut
from asyncflow.model.schema import DataType, Schema
from asyncflow.runtime import infer_schemas
from asyncflow.runtime.base.clock import Clock
from asyncflow.runtime.base.workers import Offload
from asyncflow.runtime.ingest import peek
from asyncflow.runtime.ingest.foreign_streams import Refused
from asyncflow.runtime.ingest.peek import PeekedStreams
from asyncflow.runtime.ingest.source import SourceStage
from asyncflow.runtime.wiring.inference import find_schema
from asyncflow.testing import ChunkSource, check_format, chunks
from tests.runtime.flows_runtime import collect

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
    assert await collect(af.source("file", path=str(path))) == [{"key": "a", "qty": 1}]
    path.write_bytes(b"\n" * 1_200_000 + b"key,qty\na,1\n")
    with pytest.raises(DataError, match="no end of the first record in"):
        await collect(af.source("file", path=str(path)))


async def test_a_wrong_header_of_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"kay,qty\na,1\n")
    with pytest.raises(
        DataError, match=r"^source_1: .*in\.csv: the header has no column 'key' \(nearest: 'kay'\)$"
    ):
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


def lines(head: Block, whole: bool) -> int:
    return head.tobytes().strip().count(b"\n") + 1 if head.tobytes().strip() else 0


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
    streams = PeekedStreams(Beside(held))
    looking = asyncio.create_task(streams.head(lines, 1 << 16, 1 << 20))
    held[first].open.set()
    head, whole, records = await looking
    assert (head.tobytes(), whole, records) == (texts[first], True, 10)
    for stream in held:
        stream.open.set()
    assert [await drained(stream) async for stream in streams] == texts


async def test_closed_while_it_looks_nothing_stays_open() -> None:
    held = [Held([b"a\n"]) for _ in range(3)]
    source = Beside(held, endless=True)
    streams = PeekedStreams(source)
    looking = asyncio.create_task(streams.head(lines, 10, 20))
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
    streams = PeekedStreams(source)
    held[1].open.set()
    with pytest.raises(ConnectorError) as caught:
        await streams.head(lines, 10, 20)
    assert caught.value is fault
    await streams.aclose()
    assert source.ended


async def test_where_none_says_anything_there_is_no_head_and_they_can_still_be_read() -> None:
    held = [Held([]), Held([b"\n"]), Held([b"\xef\xbb\xbf"])]
    for stream in held:
        stream.open.set()
    streams = PeekedStreams(Beside(held))
    head, whole, _ = await streams.head(lines, 10, 20)
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


# -- from too little ------------------------------------------------------------------------------------------------------------


class Slow(ChunkSource):
    """One stream whose pieces come a while after one another: longer than an input that pauses is waited for."""

    async def read_into(self, buffer: memoryview) -> int:
        await asyncio.sleep(1.3 * peek.PAUSE_SECONDS)
        return await super().read_into(buffer)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peek, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(peek, "FEW_SECONDS", 0.3)


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("format", ["csv", None])
@pytest.mark.parametrize(
    "pieces",
    [
        [b"k,v\n", b"a,9\na,10\n"],
        [b"k,", b"v\n", b"\n", b"a,9\n"],
        [b"\xef\xbb\xbf", b"\n", b"k,v", b"\na,", b"9\n"],
    ],
)
async def test_a_header_alone_decides_nothing(pieces: list[bytes], format: str | None) -> None:
    flow = af.source(Slow(pieces), **({"format": format} if format else {}))
    rows = await collect(flow)
    assert rows[0] == {"k": "a", "v": 9}


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    "pieces", [[b"{}\n", b'{"v":9}\n'], [b"\n\n", b'{"v"', b":9}\n"], [b"nonsense\n", b'{"v":9}\n']]
)
async def test_a_record_that_says_nothing_decides_nothing(pieces: list[bytes]) -> None:
    assert {"v": 9} in await collect(af.source(Slow(pieces), format="json"))


async def test_files_without_rows_are_passed_over(tmp_path: Path) -> None:
    for n in range(40):
        (tmp_path / f"a{n:02}.csv").write_bytes(b"k,v\n")
    (tmp_path / "b.csv").write_bytes(b"k,v\na,9\n")
    flow = af.source("file", path=str(tmp_path / "*.csv"))
    assert await collect(flow) == [{"k": "a", "v": 9}]
    (tmp_path / "b.csv").unlink()
    assert await collect(flow.window(n="count(*)")) == []
    assert await collect(flow.filter("k = v")) == []  # columns of nothing are text


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["007", "07", "7"], "string"),
        (["0", "-0", "+5", "12"], "int64"),
        (["9223372036854775807", "-9223372036854775808"], "int64"),
        (["9223372036854775808", "1"], "string"),
        (["1" * 400], "string"),
        (["123456789012345678901234567890", "1.5"], "string"),
        (["9007199254740993", "1.5"], "string"),
        (["9007199254740992", "1.5", "1e400", "nan", "inf"], "float64"),
        (["00.5", "1.5"], "string"),
        (["0.50", ".5", "5.", "1e5"], "float64"),
        (["1,000", "2"], "string"),
        (["1_000"], "string"),
        (["true", "FALSE"], "bool"),
        (["true", "1"], "string"),
        (["2024-01-01", "9999-12-31"], "string"),
        (["2024-02-30"], "string"),
        (["5012-34-78"], "string"),
        (["2024-01-01", "2024-01-01T24:00:00Z", "20240101T000000Z", "2016-12-31 23:59:60"], "timestamp"),
        (["20240101", "20240102"], "int64"),
        (["", ""], "string"),
    ],
)
async def test_what_would_lose_something_is_text(tmp_path: Path, values: list[str], kind: str) -> None:
    (tmp_path / "in.csv").write_text(
        "v,w\n" + "".join(f'"{value}",x\n' if value else ",x\n" for value in values)
    )
    flow = af.source("file", path=str(tmp_path / "in.csv"), name="rows")
    plan = flow.checked()
    assert str((await infer_schemas(plan))["rows"].fields[0].type_text) == kind
    assert len(await collect(flow)) == len(values)


@pytest.mark.parametrize("format", ["json", None])
@pytest.mark.parametrize(
    "data", [b'[{"a":1},{"a":2}]', b'[\n{"a":1},\n{"a":2}\n]\n', b"\n [ \n\n {}]", b"[[1,2]]", b"["]
)
async def test_an_array_of_objects_is_refused(tmp_path: Path, data: bytes, format: str | None) -> None:
    (tmp_path / "in").write_bytes(data)
    options = {"format": format} if format else {}
    with pytest.raises(DataError, match="one JSON array: write an object a line"):
        await collect(af.source("file", path=str(tmp_path / "in"), **options))


@pytest.mark.parametrize("data", [b'{\n  "a": 1\n}\n', b"{}\n{}\n", b'{"a":\n', b'{"a": 1\n{"a": 2\n'])
async def test_what_shows_no_column_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in").write_bytes(data)
    with pytest.raises(DataError, match="none of its first lines is an object with a field"):
        await collect(af.source("file", path=str(tmp_path / "in")))


# -- several peers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    "strange",
    [
        b"{}\n",
        b"\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\n\n",
        b'{"v":"z","w":1}\n',
        b"v,w\nz\n",
    ],
)
@pytest.mark.parametrize("format", ["json", "csv", None])
@pytest.mark.parametrize("stays", [True, False])
async def test_one_strange_peer_decides_nothing_for_the_rest(
    strange: bytes, format: str | None, stays: bool
) -> None:
    good = b"v\n" + b"5\n" * 20 if format == "csv" else b'{"v":5}\n' * 20
    if format is None and strange.startswith(b"v,w"):
        return  # a peer that speaks CSV among those that speak JSON is one of them
    first, second = Held([strange]), Held([good])
    first.open.set()
    asyncio.get_running_loop().call_later(0.1, second.open.set)
    flow = af.source(
        Beside([first, second], endless=stays), name="rows", **({"format": format} if format else {})
    )
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            async for batch in flow:
                rows += [row for row in batch.to_pylist() if row.get("v") == 5]
                if len(rows) == 20:
                    break
    assert len(rows) == 20


# -- messages --------------------------------------------------------------------------------------------------------------------------


class Messages(MessageSource):
    """Gives the messages, in groups; then it waits until it is stopped, or ends."""

    bounded = False

    def __init__(self, groups: Sequence[Sequence[bytes]], ends: bool) -> None:
        self._groups = [[Datagram(data, n) for n, data in enumerate(group)] for group in groups]
        self._ends = ends

    async def receive(self) -> Sequence[Datagram]:
        if not self._groups and not self._ends:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return self._groups.pop(0) if self._groups else []

    async def aclose(self) -> None:
        pass


async def first(
    groups: Sequence[Sequence[bytes]], ends: bool = True, **source: Any
) -> tuple[str, Schema | None]:
    plan = af.source("udp", listen="127.0.0.1:0", name="rows", **source).checked()
    stage = SourceStage(plan.sources[0], Messages(groups, ends), Clock(), Offload(1))
    await find_schema(stage)
    assert sum(len(group) for group in groups) >= len(stage._messages)
    return stage.format.type if stage.format else "", stage.schema


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    "strange",
    [
        b"7\n",
        b"x" * 9000,
        b'{"zz":1}\n',
        b'{"a":{"b":1}}\n',
        b'{"a":null}',
        b"{",
        b"\x16\x03\x01\n",
        b"a,b\n",
    ],
)
async def test_one_strange_message_decides_nothing(strange: bytes, ends: bool) -> None:
    usual = [b'{"a":%d,"t":"2024-01-01T00:00:00Z"}' % n for n in range(3)]
    format, schema = await first([[strange], usual[:1], usual[1:]], ends)
    assert (format, str(schema)) == (
        "json",
        str(Schema.of([("a", DataType.INT64), ("t", DataType.TIMESTAMP)])),
    )


@pytest.mark.usefixtures("short_pauses")
async def test_messages_of_one_shape_are_looked_at_together() -> None:
    assert (await first([[b"1,2\n", b"1.5,x"], [b"\n"]]))[1] == Schema.of(
        [("c0", DataType.FLOAT64), ("c1", DataType.STRING)]
    )
    headed = {"format": {"type": "csv", "header": True}}
    assert (await first([[b"k,v\na,1\n"], [b"k,v\nb,2\n"] * 5], **headed))[1] == Schema.of(
        [("k", DataType.STRING), ("v", DataType.INT64)]
    )
    assert await first([[b"\n"], []]) == ("", None)
