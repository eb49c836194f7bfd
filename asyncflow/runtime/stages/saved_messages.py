"""Messages that a table holds at a barrier, as plain fields and arrays."""

from __future__ import annotations

from collections.abc import Iterable

from asyncflow.model.batch import Batch
from asyncflow.model.messages import End, Message, Watermark
from asyncflow.model.saved_batches import frozen_batches, restored_batches
from asyncflow.model.snapshot import Copied, Frozen, Saved, nested


def freeze_messages(messages: Iterable[Message]) -> Frozen:
    """Batches, watermarks and ends, in order."""
    frozen = {str(number): _freeze(message) for number, message in enumerate(messages)}
    return nested({"count": len(frozen)}, frozen)


def saved_messages(saved: Saved) -> list[Message]:
    """The messages of :func:`freeze_messages`.  Raises ValueError."""
    return [_message(saved.within(str(number))) for number in range(saved.integer("count"))]


def _freeze(message: Message) -> Frozen:
    if isinstance(message, Batch):
        return nested({"kind": "rows"}, {"rows": frozen_batches([message])})
    if isinstance(message, Watermark):
        return Copied({"kind": "watermark", "time_ns": message.time_ns, "idle": message.idle})
    assert isinstance(message, End), "a barrier is never held"
    return Copied({"kind": "end"})


def _message(saved: Saved) -> Message:
    match saved.fields.get("kind"):
        case "rows":
            (batch,) = restored_batches(saved.within("rows"))
            return batch
        case "watermark":
            return Watermark(saved.integer("time_ns"), saved.flag("idle"))
        case "end":
            return End()
        case kind:
            raise ValueError(f"kind: no message is called {kind!r}")
