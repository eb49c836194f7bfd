"""Infers the format and the schema of a source from the head of its input, where the pipeline does not say them."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from asyncflow.connectors.contract import BatchSource, ByteSource, MessageSource
from asyncflow.errors import AsyncflowError, DataError
from asyncflow.formats.contract import Block, DescribesRecords
from asyncflow.model.schema import Schema
from asyncflow.plan import capabilities
from asyncflow.plan.tables import Component
from asyncflow.runtime.ingest.peek import content
from asyncflow.runtime.ingest.source import SourceStage
from asyncflow.runtime.ingest.source_format import decoding

if TYPE_CHECKING:
    from asyncflow.runtime.ingest.python.sources import ObjectSource

HEAD_BYTES = 1 << 16
ENOUGH = 1000
"""The count of records of a format whose columns do not depend on the data."""
_ANOTHER_PROTOCOL = rb"[A-Z]+ [^\n]* HTTP/\d|SSH-\d|[^\n]*[\x00-\x08\x0b\x0c\x0e-\x1f]"
"""A probe's first line: HTTP, SSH, or no text (TLS)."""
MOST_OBJECTS = 100_000
"""How many objects without a column are kept while one with columns is waited for."""


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
    if isinstance(connector, BatchSource):
        if stage.schema is None:
            stage.schema = capabilities.of_source(source.connector).schema
        return
    if not isinstance(connector, ByteSource | MessageSource):
        from asyncflow.runtime.ingest.python.sources import ObjectSource

        if isinstance(connector, ObjectSource):
            if stage.schema is None:
                stage.schema = await _shown(connector)
            return
    if stage.format is not None and stage.schema is not None:
        return
    head = await stage.read_head(partial(_count_records, stage), partial(_shape, stage), HEAD_BYTES)
    if stage.schema is None and len(head.data) == 0:
        return
    if stage.format is None:
        stage.format = Component(guess_format(head.data))
    if stage.schema is None:
        module, options = _decoding(stage.format, stage)
        inferred = module.infer(options, head.data, head.whole)
        if not isinstance(inferred, Schema):
            raise DataError("no schema can be told from this input: write one")
        if not inferred.names and content(head.data.tobytes()):
            wanted = options.with_columns if isinstance(options, DescribesRecords) else ""
            hint = f": none of its first lines is {wanted}" if wanted else ""
            raise DataError(f"no columns can be told from this input{hint}")
        stage.schema = inferred


def _count_records(stage: SourceStage, head: Block, whole: bool) -> int:
    """The data records in the head of a stream.  None where one of several peers speaks something else: it decides nothing."""
    if stage.several_peers and re.match(_ANOTHER_PROTOCOL, head[:4096].tobytes()):
        return 0
    module, options = _decoding(stage.format or Component(guess_format(head)), stage)
    try:
        fixed = isinstance(options, DescribesRecords) and options.fixed_schema() is not None
        count = ENOUGH if fixed else module.count_records(options, head, whole)
    except DataError:
        count = 0 if stage.several_peers else 1  # ``infer`` tells it
    return int(count) if stage.schema is None else ENOUGH


def _shape(stage: SourceStage, message: Block) -> tuple[Hashable, bool]:
    """The format and the columns of a message.  Several are read as one where none has a header of its own."""
    format_ = stage.format or Component(guess_format(message))
    module, options = _decoding(format_, stage)
    joined = not (isinstance(options, DescribesRecords) and options.has_header)
    try:
        inferred = module.infer(options, message, True) if stage.schema is None else None
    except DataError:
        inferred = None
    return (format_.type, inferred.names if isinstance(inferred, Schema) else None), joined


def _decoding(format_: Component, stage: SourceStage) -> tuple[ModuleType, Any]:
    return decoding(format_, messages=isinstance(stage.connector, MessageSource))


async def _shown(connector: ObjectSource) -> Schema | None:
    """The schema of the first objects that show one, waited for; None where there are none at all."""
    from asyncflow.runtime.ingest.python.objects import infer_schema

    count = 0
    while len(objects := await connector.head()) > count:
        count = len(objects)
        if (schema := infer_schema(objects)) is not None:
            return schema
        if count > MOST_OBJECTS:
            break
    if count:
        raise DataError(
            f"none of its first {count} objects shows columns (a {type(objects[0]).__name__} came first)"
        )
    return None


def guess_format(head: Block) -> str:
    """``json`` where the first line that is not blank opens an object or an array, else ``csv``."""
    text = content(head[:4096].tobytes())
    if text.startswith(b"{"):
        return "json"
    line = text.partition(b"\n")[0].rstrip()
    return (
        "json"
        if line.startswith(b"[") and (line[1:].lstrip()[:1] in (b"", b"{", b"[") or _is_json(line))
        else "csv"
    )


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
