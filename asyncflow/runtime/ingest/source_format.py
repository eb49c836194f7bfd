"""The format of a source: its decoder's module and options, and both as plain values in the state of the source."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec

from asyncflow import formats
from asyncflow.formats.contract import DescribesRecords
from asyncflow.model.snapshot import Plain
from asyncflow.plan.tables import Component


def decoding(format_: Component, *, messages: bool) -> tuple[ModuleType, Any]:
    """The module of a format and its options, as they are for streams or for ``messages``."""
    module = formats.find_decoder(format_.type)
    options = format_.options if format_.options is not None else module.DecoderOptions()
    return module, options.for_messages() if messages and isinstance(options, DescribesRecords) else options


def plain_format(format_: Component | None) -> Plain:
    """Type and options."""
    if format_ is None:
        return None
    options: Plain = None if format_.options is None else msgspec.to_builtins(format_.options)
    return {"type": format_.type, "options": options}


def saved_format(saved: Plain) -> Component | None:
    """The format of :func:`plain_format`.  Raises ValueError."""
    match saved:
        case {"type": str(name), "options": options}:
            module = formats.find_decoder(name)
            return Component(
                name, None if options is None else msgspec.convert(options, module.DecoderOptions)
            )
        case None:
            return None
        case _:
            raise ValueError("format: a type and options are wanted")
