"""The asyncio engine: turns a plan into coroutines and runs them.

``run.Run`` builds one coroutine per table and wires them with byte-bounded channels; ``source`` reads, decodes and times rows, ``stage``
drives an operator, ``sink`` encodes and writes.
"""

from asyncflow.runtime.ledger import Ledger
from asyncflow.runtime.run import Run, infer_schemas, iterate

__all__ = ["Ledger", "Run", "infer_schemas", "iterate"]
