"""JSON on the way out: one object a line, members in schema order, no blanks.

Text is UTF-8 and escaped only where JSON requires it.  NaN and the infinities are strings (``"NaN"``, ``"Infinity"``, ``"-Infinity"``),
which the decoder reads back as floats.
"""

from __future__ import annotations

import json

import msgspec

from asyncflow._kernels import encode as _encode
from asyncflow.formats._cells import Timestamps, batch_cells, tick_ns
from asyncflow.formats.contract import Encoder
from asyncflow.model.batch import Batch
from asyncflow.model.schema import Schema


class EncoderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are written as JSON."""

    timestamps: Timestamps = "iso"


class JsonEncoder(Encoder):
    """Rows to newline-delimited JSON; keeps no state."""

    def __init__(self, options: EncoderOptions, schema: Schema) -> None:
        self._tick_ns = tick_ns(options.timestamps)
        self._keys = [json.dumps(name, ensure_ascii=False).encode() + b":" for name in schema.names]

    def encode(self, batch: Batch) -> bytes | memoryview:
        return _encode.json_rows(batch.num_rows, batch_cells(batch), self._keys, self._tick_ns)


def encoder(options: EncoderOptions, schema: Schema) -> JsonEncoder:
    """An encoder for batches of ``schema``."""
    return JsonEncoder(options, schema)
