"""Ledger law: at every table and on every run, rows in equal rows out plus every counted loss."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncflow.errors import InternalError
from asyncflow.runtime.base.ledger import Ledger, SourceCounts, StageCounts
from tests.laws.flows import STAGES, csv_bytes, outcome, pipeline, rows

Table = list[tuple[int, str, float | None, int | None]]


@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=rows, broken=st.integers(0, 5))
def test_every_row_is_accounted_for(stage: str, table: Table, broken: int) -> None:
    data = csv_bytes(table) + b"1,too,few\n" * broken
    sinks, ledger = outcome(pipeline(stage), [data])
    source = ledger["sources"]["rows"]
    assert source["rows"] == len(table) + broken
    assert source["rows"] == source["rows_out"] + source["rejected"] + source["future"]
    assert source["rejected"] == broken == len(sinks["rejected"].splitlines())
    assert source["bytes"] == len(data)
    given_rows = source["rows_out"]
    for name, counts in ledger["stages"].items():
        assert counts["rows_in"] == given_rows
        if "filtered" in counts:
            assert counts["rows_in"] == counts["filtered"] + counts["rows_out"]
        if "late" in counts:
            assert counts["rows_in"] == counts["aggregated"] + counts["late"]
            assert name != "w" or counts["late"] == len(sinks["late"].splitlines())
            assert counts["windows_opened"] == counts["windows_closed"]
        given_rows = counts["rows_out"]
    assert ledger["sinks"]["out"]["rows"] == given_rows == len(sinks["out"].splitlines())
    assert ledger["sinks"]["out"]["bytes"] == len(sinks["out"])
    for line in sinks["rejected"].splitlines():
        assert json.loads(line).keys() == {"record", "reason", "position"}


def test_a_ledger_that_does_not_add_up_is_an_error() -> None:
    ledger = Ledger("wrong")
    ledger.sources["s"] = SourceCounts(rows=10, rows_out=9)
    with pytest.raises(InternalError, match="s: 10 rows in, 9 accounted for"):
        ledger.check()
    ledger.sources["s"].rejected = 1
    ledger.check()
    ledger.stages["f"] = StageCounts(rows_in=8, rows_out=8)
    ledger.wire("f", ("s",))
    with pytest.raises(InternalError, match="f: its inputs gave 9 rows, it took 8"):
        ledger.check()
