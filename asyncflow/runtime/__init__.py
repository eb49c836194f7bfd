"""The asyncio engine: turns a plan into coroutines and runs them.

``wiring`` makes one coroutine for each table and lays channels, bounded in bytes, between them (``edges``); ``run`` runs the coroutines.
``ingest`` reads, decodes and times rows; ``stages`` drives operators, encodes and writes; ``inspect`` says what a run waits for.
"""

from asyncflow.runtime.base.ledger import Ledger
from asyncflow.runtime.run.run import Run, infer_schemas, iterate

__all__ = ["Ledger", "Run", "infer_schemas", "iterate"]
