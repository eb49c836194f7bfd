"""What the pipeline did not say: the format and the schema of a source, told from the head of its input."""

from __future__ import annotations

from asyncflow import connectors, formats
from asyncflow.connectors.contract import BatchSource
from asyncflow.errors import AsyncflowError, DataError
from asyncflow.formats.contract import Block
from asyncflow.model.schema import Schema
from asyncflow.plan.tables import Component
from asyncflow.runtime.primed import content
from asyncflow.runtime.python_source import ObjectSource, infer_schema
from asyncflow.runtime.source import SourceStage

HEAD_BYTES = 1 << 16


async def find_schema(stage: SourceStage) -> None:
    """Fills in the stage's ``format`` and ``schema`` where the plan leaves them out; reads the head of the input only then.

    The schema stays None where the input is empty, or has blank lines only.
    """
    try:
        await _find(stage)
    except AsyncflowError as error:
        error.table = error.table or stage.source.name
        raise


async def _find(stage: SourceStage) -> None:
    connector, source = stage.connector, stage.source
    if isinstance(connector, ObjectSource):
        if stage.schema is None:
            objects = await connector.head()
            stage.schema = infer_schema(objects[0]) if objects else None
        return
    if isinstance(connector, BatchSource):
        if stage.schema is None:
            module = connectors.find_source(source.connector.type)
            stage.schema = module.source_schema(source.connector.options or module.SourceOptions())
        return
    if stage.format is not None and stage.schema is not None:
        return
    head, final = await stage.read_head(HEAD_BYTES)
    if stage.schema is None and len(head) == 0:
        return
    if stage.format is None:
        stage.format = Component(guess_format(head))
    if stage.schema is None:
        module = formats.find_decoder(stage.format.type)
        options = stage.format.options if stage.format.options is not None else module.DecoderOptions()
        inferred = module.infer(options, head, final)
        if not isinstance(inferred, Schema):
            raise DataError("no schema can be told from this input: write one")
        stage.schema = inferred


def guess_format(head: Block) -> str:
    """``json`` where the first byte that is no white space opens an object, else ``csv``."""
    return "json" if content(head[:4096].tobytes()).startswith(b"{") else "csv"
