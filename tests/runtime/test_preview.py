"""The preview of a batch and of a flow: schema and first rows, escaped."""

from __future__ import annotations

import asyncflow as af


async def collected(count: int) -> af.Batch:
    rows = [{"ts": n, "who": "<b>\x1b[2J" if n else None, "v": n / 2} for n in range(count)]
    return await af.source(rows, schema={"ts": "timestamp[s]", "who": "string", "v": "float64"}).collect()


async def test_a_batch_shows_its_schema_and_first_rows() -> None:
    told = repr(await collected(2)).splitlines()
    assert told[0] == "<Batch of 2 rows: ts timestamp[s], who string, v float64>"
    assert told[1].split() == ["ts", "who", "v"]
    assert told[2].split() == ["1970-01-01", "00:00:00", "null", "0.0"]
    assert told[3].split() == ["1970-01-01", "00:00:01", r"<b>\x1b[2J", "0.5"]
    assert len(told) == 4
    assert repr(await collected(0)) == "<Batch of 0 rows: ts timestamp[s], who string, v float64>"
    assert repr(await collected(12)).splitlines()[-1] == "... and 2 more"


async def test_as_html_values_are_escaped() -> None:
    told = (await collected(12))._repr_html_()
    assert "<th>who string</th>" in told and "<td>&lt;b&gt;\\x1b[2J</td>" in told and "... and 2 more" in told
    assert told.count("<tr>") == 11 and "\x1b" not in told


def test_a_flow_shows_its_plan() -> None:
    flow = af.source([{"a": 1}], schema={"a": "int64"}, name="rows").filter("a < 2")
    assert "a &lt; 2" in flow._repr_html_() and "stage_1" in repr(flow)
