"""udp in whole runs: datagrams as messages, datagrams that are too large, replies, stopping."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncflow as af
from asyncflow.connectors._udp_sinks import split_at_lines
from asyncflow.connectors._udp_source import MAX_DATAGRAM_BYTES
from asyncflow.errors import ConnectorError, PipelineError
from asyncflow.runtime import Run
from tests.connectors.peers import CSV, SCHEMA, Running, place


def receiving(**options: Any) -> af.Flow:
    return af.source(
        "udp", name="rows", **{"listen": "127.0.0.1:0", "format": CSV, "schema": SCHEMA, **options}
    )


def kept(flow: af.Flow) -> af.Flow:
    out = flow.to("null", name="out", format="json")
    return out["rows.rejected"].to("null", name="rejected", format="json")


def caller(address: str) -> socket.socket:
    """A socket that sends there and hears what comes back."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.connect(place(address))
    return opened


async def heard(opened: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(opened, 1 << 16)


def answering(shape: str = "message") -> af.Flow:
    """To each datagram the sum of its rows, as its sender's answer."""
    summed = receiving().window(shape, n="count(*)", total="sum(qty)")
    return summed.to("udp", name="answers", reply="rows", format="json")


# -- messages ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_each_datagram_is_a_message_of_one_or_more_records(run, workers: int) -> None:
    datagrams = [b"a,1", b"b,2\n", b"c,3\nc,4\nc,5", b"d,6\n\nd,7\n"]

    async def main() -> None:
        flow = kept(receiving().window("message", by=["key"], n="count(*)", total="sum(qty)"))
        async with Running(flow, workers=workers) as running:
            with caller(await running.address()) as peer:
                for datagram in datagrams:
                    peer.send(datagram)
                await running.taken(7)
            counted = await running.stop()
            assert [(row["key"], row["n"], row["total"]) for row in running.records()] == [
                ("a", 1, 1),
                ("b", 1, 2),
                ("c", 3, 12),
                ("d", 2, 13),
            ]
            source = counted["sources"]["rows"]
            assert (source["rows"], source["rejected"]) == (7, 0)
            assert source["bytes"] == sum(map(len, datagrams)) == running.run.position_bytes

    run(main())


def test_a_record_that_cannot_be_read_is_one_rejection_and_its_message_goes_on(run) -> None:
    async def main() -> None:
        async with Running(kept(receiving(max_record_bytes="20B"))) as running:
            with caller(await running.address()) as peer:
                host, port = peer.getsockname()
                peer.send(b"a,1\nb,two\nc,3\n")
                peer.send(b"x" * 30 + b",1\ne,5")
                peer.send(b"f,\xff\ng,7")
                await running.taken(7)
            await running.stop()
            assert [row["key"] for row in running.records()] == ["a", "c", "e", "g"]
            found = [(row["reason"], row["position"]) for row in running.records("rejected")]
            assert found == [
                ("qty: not an int64: 'two'", f"{host}:{port}:2 (byte 4)"),
                ("longer than 20 bytes", f"{host}:{port}:1 (byte 0)"),
                (found[2][0], f"{host}:{port}:1 (byte 0)"),
            ]

    run(main())


@pytest.mark.parametrize("schema", [SCHEMA, None])
def test_each_datagram_has_a_header_of_its_own_where_that_is_said(run, schema: dict[str, str] | None) -> None:
    async def main() -> None:
        flow = kept(receiving(format={"type": "csv", "header": True}, schema=schema))
        async with Running(flow) as running:
            with caller(await running.address()) as peer:
                peer.send(b"qty,key\n1,a\n2,b")
                await running.taken(2)
                peer.send(b"\xef\xbb\xbfkey,other,qty\nc,x,3\n")
                peer.send(b"kay,qty\nd,4\ne,5\n")
                peer.send(b"key,qty\nf,six\ng,7\n")
                await running.taken(6)
            await running.stop()
            rows = sorted((row["key"], row["qty"]) for row in running.records())
            assert rows == [("a", 1), ("b", 2), ("c", 3), ("g", 7)]
            found = [
                (row["reason"], row["position"].partition(" ")[0].rpartition(":")[2])
                for row in running.records("rejected")
            ]
            assert found == [
                ("the header has no column 'key' (nearest: 'kay')" if schema else found[0][0], "1"),
                ("qty: not an int64: 'six'", "2"),
            ]

    run(main())


@pytest.mark.parametrize(("schema", "names"), [(SCHEMA, ["key", "qty"]), (None, ["c0", "c1"])])
def test_datagrams_have_no_header_where_none_is_spoken_of(
    run, schema: dict[str, str] | None, names: list[str]
) -> None:
    async def main() -> None:
        flow = kept(receiving(format="csv", schema=schema))
        async with Running(flow) as running:
            with caller(await running.address()) as peer:
                peer.send(b"a,1\nb,2\n")
                peer.send(b"c,3")
                await running.taken(3)
            await running.stop()
            assert [[row[name] for name in names] for row in running.records()] == [
                ["a", 1],
                ["b", 2],
                ["c", 3],
            ]

    run(main())


def test_the_largest_datagram_arrives_whole(run) -> None:
    async def main() -> None:
        async with Running(kept(receiving())) as running:
            with caller(await running.address()) as peer:
                line = b"k,1\n"
                whole = line * (MAX_DATAGRAM_BYTES // len(line)) + b"end"[: MAX_DATAGRAM_BYTES % len(line)]
                assert peer.send(whole) == MAX_DATAGRAM_BYTES
                await running.taken(MAX_DATAGRAM_BYTES // len(line) + 1)
            counted = await running.stop()
            assert counted["sources"]["rows"]["rows_out"] == MAX_DATAGRAM_BYTES // len(line)
            assert counted["sources"]["rows"]["rejected"] == 1  # "end" is no record
            assert counted["sources"]["rows"]["bytes"] == MAX_DATAGRAM_BYTES

    run(main())


@pytest.mark.parametrize("schema", [SCHEMA, None])
def test_empty_datagrams_say_nothing(run, schema: dict[str, str] | None) -> None:
    """Neither at first, when the schema is still to be told from what comes, nor later."""

    async def main() -> None:
        flow = kept(receiving(format="json", schema=schema))
        async with Running(flow) as running:
            await running.until(lambda: running.run.wiring.sources)
            address = (await running.run.wiring.sources[0].connector.started())[0]  # type: ignore[attr-defined]
            with caller(address) as peer:
                peer.send(b"")
                await asyncio.sleep(0.05)
                for number in range(3):
                    peer.send(b'{"key":"a","qty":%d}' % number)
                    peer.send(b"")
                await running.taken(3)
                peer.send(b"")
            counted = await running.stop()
            assert [row["qty"] for row in running.records()] == [0, 1, 2]
            assert counted["sources"]["rows"]["rejected"] == 0

    run(main())


def test_a_flow_that_is_busy_takes_no_more_than_the_queue_holds(run) -> None:
    """What is beyond stays with the system; as much as it held comes once the flow goes on."""
    gate = asyncio.Event()
    started: list[int] = []

    async def wait(batch: af.Batch) -> af.Batch:
        started.append(batch.num_rows)
        await gate.wait()
        return batch

    async def main() -> None:
        flow = kept(receiving(queue="64KiB").map(wait))
        async with Running(flow) as running:
            with caller(await running.address()) as peer:
                for _ in range(300):
                    peer.send(b"k,1\n" * 500)
                    await asyncio.sleep(0)
                await running.until(lambda: started)
                gate.set()
                connector = running.run.wiring.sources[0].connector
                dropped = connector.dropped  # type: ignore[attr-defined]
                await running.taken(500 * (300 - dropped))
            counted = await running.stop()
            assert counted["sinks"]["out"]["rows"] == 500 * (300 - dropped)

    run(main())


@pytest.mark.parametrize("queue", ["64KiB", "8MiB"])
def test_what_the_system_drops_is_in_the_ledger_and_what_it_holds_at_the_stop_is_read(
    run, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("asyncflow.connectors._udp_source.KERNEL_BUFFER_BYTES", 1 << 19)
    sent = 20_000

    async def main() -> None:
        async with Running(kept(receiving(queue=queue))) as running:
            with caller(await running.address()) as peer:
                for _ in range(sent):  # without a turn of the loop
                    peer.send(b"k,1")
            counted = (await running.stop())["sources"]["rows"]
            assert 0 < counted["dropped"] < sent
            assert counted["rows"] + counted["dropped"] == sent
            said = [record.getMessage() for record in caplog.records]
            assert any(f"{counted['dropped']:,} datagrams so far were dropped" in line for line in said)

    with caplog.at_level(logging.WARNING):
        run(main())


# -- replies -----------------------------------------------------------------------------------------------------------------


def test_each_sender_gets_the_answers_to_its_own_messages(run) -> None:
    async def main() -> None:
        async with Running(answering()) as running:
            address = await running.address()
            callers = [caller(address) for _ in range(20)]
            for turn in range(5):
                for number, peer in enumerate(callers):
                    peer.send(b"a,%d\nb,%d" % (number, turn))
                for number, peer in enumerate(callers):
                    assert await heard(peer) == b'{"n":2,"total":%d}\n' % (number + turn)
            await running.stop()
            for peer in callers:
                peer.close()

    run(main())


def test_what_was_asked_before_the_stop_is_answered(run) -> None:
    """Also where the answers take longer than the source: the socket that they leave by stays open for them."""

    async def ponder(batch: af.Batch) -> af.Batch:
        await asyncio.sleep(0.001)
        return batch

    async def main() -> None:
        summed = receiving().map(ponder, schema=SCHEMA).window("message", n="count(*)", total="sum(qty)")
        async with Running(summed.to("udp", name="answers", reply="rows", format="json")) as running:
            with caller(await running.address()) as peer:
                for number in range(50):
                    peer.send(b"a,%d" % number)
                counted = await running.stop()  # nobody has read one of them yet
                answers = [json.loads(await heard(peer))["total"] for _ in range(50)]
            assert answers == list(range(50))
            assert counted["sinks"]["answers"]["rows"] == 50

    run(main())


def test_several_sinks_answer_through_one_socket(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no room all of them wait, and none is forgotten when there is some."""
    full = itertools.cycle([True, False])
    real = socket.socket

    class Tight(real):  # type: ignore[misc, valid-type]
        def sendto(self, *arguments: Any) -> int:
            if self.getsockname()[1] and next(full):
                raise BlockingIOError
            return super().sendto(*arguments)

    async def main() -> None:
        flow = answering()
        flow = flow["rows"].to("udp", name="echo", reply="rows", format="json")
        monkeypatch.setattr(socket, "socket", Tight)
        async with Running(flow) as running:
            address = await running.address()
            monkeypatch.setattr(socket, "socket", real)
            with caller(address) as peer:
                for number in range(40):
                    peer.send(b"a,%d" % number)
                answers = [json.loads(await heard(peer)) for _ in range(80)]
            counted = (await running.stop())["sinks"]
            assert sorted(row["total"] for row in answers if "total" in row) == list(range(40))
            assert sorted(row["qty"] for row in answers if "qty" in row) == list(range(40))
            assert counted["echo"]["undelivered"] == counted["answers"]["undelivered"] == 0

    run(main())


def test_an_asker_that_is_gone_stops_nobody(run) -> None:
    async def main() -> None:
        async with Running(answering()) as running:
            address = await running.address()
            for _ in range(3):
                with caller(address) as gone:
                    gone.send(b"a,1")
            with caller(address) as peer:
                for number in range(3):
                    peer.send(b"a,%d" % number)
                    assert json.loads(await heard(peer)) == {"n": 1, "total": number}
            counted = await running.stop()
            assert counted["sources"]["rows"]["rows"] == 6

    run(main())


def test_rows_of_no_single_message_cannot_be_answered(run) -> None:
    async def main() -> None:
        async with Running(answering("all")) as running:
            with caller(await running.address()) as peer:
                peer.send(b"a,1")
                await running.taken(1)
            with pytest.raises(ConnectorError, match=r"^answers: .*nobody to reply to"):
                await running.stop()

    run(main())


def test_a_reply_needs_a_udp_source(run, tmp_path: Path) -> None:
    async def main() -> None:
        flow = af.source([{"key": "a"}], name="rows").to("udp", reply="rows", format="json")
        with pytest.raises(
            PipelineError, match=r"sink_1\.reply: the source 'rows' has no messages to reply to"
        ):
            await Run(flow.checked()).execute()

    run(main())


# -- sending -----------------------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_in_datagrams_of_whole_lines(run) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.setblocking(False)
            there.bind(("127.0.0.1", 0))
            rows = [{"key": "k" * (n % 90), "qty": n} for n in range(400)]
            flow = af.source(rows, name="rows").to(
                "udp", name="out", to=f"127.0.0.1:{there.getsockname()[1]}", max_datagram="256B", format="csv"
            )
            async with Running(flow) as running:
                data = b""
                while len(data) < 1 << 16 and b",399\n" not in data:
                    datagram = await heard(there)
                    assert len(datagram) <= 256
                    assert datagram.endswith(b"\n")
                    data += datagram
                await running.end()
            assert data == b"key,qty\n" + b"".join(
                (b"%b,%d\n" % ((b"k" * (n % 90)) or b'""', n)) for n in range(400)
            )

    run(main())


def test_a_record_too_large_for_any_datagram_is_a_clear_error(run) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{there.getsockname()[1]}"
            flow = af.source([{"key": "x" * 70_000}]).to("udp", name="out", to=where, format="json")
            with pytest.raises(ConnectorError, match=rf"^out: {where}: a record of 70011 bytes does not fit"):
                await Run(flow.checked()).execute()

    run(main())


def test_sending_to_nobody_is_what_udp_does(run) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{gone.getsockname()[1]}"
        rows = [{"key": "a"}] * 100
        ledger = (
            await af.source(rows).to("udp", name="out", to=where, max_datagram="12B", format="json").run()
        )
        assert ledger.to_dict()["sinks"]["out"]["rows"] == 100

    run(main())


@given(data=st.lists(st.binary(max_size=30), max_size=30).map(b"\n".join), most=st.integers(1, 40))
def test_pieces_are_the_data_cut_only_at_line_ends(data: bytes, most: int) -> None:
    pieces = [bytes(piece) for piece in split_at_lines(memoryview(data), most)]
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    for piece in pieces:
        assert piece
        assert len(piece) <= most or b"\n" not in piece[:-1]
    for left, right in itertools.pairwise(pieces):  # none is smaller than it must be
        assert len(left) + len(right.split(b"\n")[0]) + (b"\n" in right) > most


# -- the whole command -------------------------------------------------------------------------------------------------------


def test_an_address_in_use_ends_the_command_with_1(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{other.getsockname()[1]}"
        (tmp_path / "pipeline.toml").write_text(
            f'[sources.rows]\ntype = "udp"\nlisten = "{where}"\nformat = "lines"\n'
            'schema = { line = "string" }\n[sinks.out]\ntype = "stdout"\n'
        )
        done = subprocess.run(
            [sys.executable, "-m", "asyncflow", "run", "pipeline.toml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: rows: {where}: cannot listen there: address already in use\n"
