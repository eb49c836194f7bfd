"""Builds sequences: a channel each for the past and for the live side, which waits in it until the past has ended."""

from __future__ import annotations

from asyncflow.plan.stages.sequence import Sequence
from asyncflow.runtime.stages.sequence import LIVE_BUFFER_BYTES, PastThenLive, SequenceStage
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring import wires
from asyncflow.runtime.wiring.site import Site


def build(table: Sequence, site: Site) -> Stage:
    columns = [wires.taken(name, site.read[0], site.flowing) for name in table.inputs]
    past, live = site.wires.channels_apart(table, (wires.CHANNEL_BYTES, LIVE_BUFFER_BYTES), columns)
    reader = PastThenLive(past, live, live_first=bool(table.unique))
    stage = SequenceStage(table, reader, site.read[0], **site.of_run)
    site.wires.reads(table, [past, live], stage)
    return stage
