"""Builds stages of the user's own functions, called one after another or several at once."""

from __future__ import annotations

from functools import partial

from asyncflow.plan import times
from asyncflow.plan.stages.map import MapBatches
from asyncflow.plan.tables import WINDOW_TIMES
from asyncflow.runtime.stages.map import MapOperator
from asyncflow.runtime.stages.map_concurrent import MapStage
from asyncflow.runtime.stages.stage import Stage
from asyncflow.runtime.wiring.site import Site


def build(table: MapBatches, site: Site) -> Stage:
    retiming = site.retiming(ordered=table.ordered or table.concurrency == 1)
    named = retiming is not None and retiming.columns != WINDOW_TIMES
    by_time = named and times.goes_by_time(site.plan, table.name)
    make = partial(MapOperator, table, retiming, by_time)
    if table.concurrency == 1:
        return site.one_input(make, retiming=retiming)
    reader, read = site.reader(), site.read[0]
    return MapStage(table, reader, make, read, table.ways, retiming=retiming, **site.of_run)
