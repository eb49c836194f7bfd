"""What the sources and sinks of a plan can do, asked before anything is opened."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterator

from asyncflow.model.capabilities import (
    DescribesSink,
    DescribesSource,
    SinkCapabilities,
    SourceCapabilities,
)
from asyncflow.plan.tables import Component


def of_source(connector: Component) -> SourceCapabilities:
    """Of a source's connector; the defaults where the connector declares nothing."""
    made = connector.object
    said = connector.options if made is None else made
    if isinstance(said, DescribesSource):
        return said.capabilities()
    if made is None:
        return SourceCapabilities()
    rereadable = not isinstance(made, Iterator | AsyncIterator)
    return SourceCapabilities(
        bounded=None if isinstance(made, AsyncIterable) else True,
        rereadable=rereadable,
        guarantee="at-least-once" if rereadable else "none",
    )


def of_sink(connector: Component) -> SinkCapabilities:
    """Of a sink's connector; the defaults where the connector declares nothing."""
    said = connector.options if connector.object is None else connector.object
    return said.capabilities() if isinstance(said, DescribesSink) else SinkCapabilities()
