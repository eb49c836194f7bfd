"""The asyncio engine: turns a plan into coroutines and runs them.

``wiring`` makes one coroutine per table and joins them with byte-bounded channels, ``run.Run`` runs them; ``source`` reads, decodes and
times rows, ``stage`` drives an operator, ``sink`` encodes and writes; ``why`` says what a run waits for.
"""

from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.run.run import Run, infer_schemas, iterate

__all__ = ["Ledger", "Run", "infer_schemas", "iterate"]
