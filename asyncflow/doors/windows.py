"""Window shapes as written: ``{ tumbling = "1m" }`` in a file, ``af.tumbling("1m")`` in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncflow.doors.components import Problems
from asyncflow.errors import PipelineError, Problem
from asyncflow.model.durations import parse_duration
from asyncflow.plan.names import nearest
from asyncflow.plan.windows import (
    AllRows,
    Count,
    Cumulate,
    Hopping,
    PerMessage,
    Session,
    TimeWindow,
    Tumbling,
    WindowShape,
)

_KEYS = {
    "tumbling": ("tumbling", "offset"),
    "hopping": ("hopping", "every", "offset"),
    "cumulate": ("cumulate", "every", "offset"),
    "session": ("session",),
    "count": ("count",),
}
_UPDATES_NS = 1_000_000_000
_WORDS: dict[str, WindowShape] = {"all": AllRows(), "message": PerMessage()}


def window_shape(written: Any, path: str, problems: Problems) -> WindowShape:
    """The shape as written; :class:`AllRows`, with a problem added, where the shape cannot be read."""
    if isinstance(written, WindowShape):
        return written
    if isinstance(written, str):
        if written in _WORDS:
            return _WORDS[written]
        problems.add(path, f"unknown window {written!r}", nearest(written, _WORDS) or _FORMS)
        return AllRows()
    if not isinstance(written, Mapping):
        problems.add(path, "a window is a table or a word", _FORMS)
        return AllRows()
    kinds = [kind for kind in _KEYS if kind in written]
    if not kinds:
        first = next(iter(written), "")
        problems.add(f"{path}.{first}" if first else path, f"unknown window {first!r}", nearest(first, _KEYS))
        return AllRows()
    if len(kinds) > 1:
        problems.add(path, f"a window is either {' or '.join(kinds)}", _FORMS)
        return AllRows()
    known = len(problems.found)
    for key in written:
        if key not in _KEYS[kinds[0]]:
            problems.add(f"{path}.{key}", f"unknown key {key!r}", nearest(key, _KEYS[kinds[0]]))
    lengths = {
        key: (_rows if key == "count" else _duration)(written[key], f"{path}.{key}", problems)
        for key in _KEYS[kinds[0]]
        if key in written
    }
    if "every" in _KEYS[kinds[0]] and "every" not in written:
        apart = "start" if kinds[0] == "hopping" else "end"
        problems.add(f"{path}.every", "'every' is missing", f"how far apart the windows {apart}")
    if len(problems.found) > known:
        return AllRows()
    match kinds[0]:
        case "session":
            return Session(lengths["session"])
        case "count":
            return Count(lengths["count"])
        case "cumulate":
            return Cumulate(lengths["cumulate"], lengths["every"], lengths.get("offset", 0))
        case "hopping":
            return Hopping(lengths["hopping"], lengths["every"], lengths.get("offset", 0))
        case _:
            return Tumbling(lengths["tumbling"], lengths.get("offset", 0))


_FORMS = (
    '{ tumbling = "1m" }, { hopping = "5m", every = "1m" }, { cumulate = "1d", every = "1h" }, { session = "30s" }, '
    '{ count = 100 }, "all" or "message"'
)


def emit_every(written: Any, shape: WindowShape, path: str, problems: Problems) -> int | None:
    """The interval, in ns, at which windows of this shape are sent before they end; None for ``"final"``.

    ``"updates"``: every second, or at every end of a window where windows end more often.
    """
    if written == "final":
        return None
    if written == "updates":
        if not isinstance(shape, TimeWindow):
            return _UPDATES_NS
        return max(1, min(_UPDATES_NS, shape.size_ns if isinstance(shape, Tumbling) else shape.every_ns))
    if isinstance(written, Mapping):
        for key in written:
            if key != "every":
                problems.add(f"{path}.{key}", f"unknown key {key!r}", nearest(key, ("every",)))
        if "every" in written:
            return _duration(written["every"], f"{path}.every", problems)
        if not written:
            problems.add(f"{path}.every", "'every' is missing", "how often windows are sent, in event time")
        return None
    hint = '"final", "updates" or { every = "5s" }'
    near = nearest(written, ("final", "updates")) if isinstance(written, str) else ""
    problems.add(path, f"windows are not sent {written!r}", near if near.startswith("did") else hint)
    return None


def _duration(value: object, path: str, problems: Problems) -> int:
    try:
        return parse_duration(value) if isinstance(value, str) else parse_duration(repr(value))
    except ValueError as error:
        problems.add(path, str(error))
        return 1


def _rows(value: object, path: str, problems: Problems) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value < 2**63:
        return value
    problems.add(path, f"{value!r} is not a number of rows", "a whole number: { count = 100 }")
    return 1


def tumbling(size: str, offset: str = "0s") -> WindowShape:
    """Windows of ``size`` (``"1m"``) one after the other, aligned to the Unix epoch in UTC plus ``offset``."""
    return _made({"tumbling": size, "offset": offset})


def hopping(size: str, every: str, offset: str = "0s") -> WindowShape:
    """Windows of ``size``, of which one starts at each multiple of ``every`` (at most ``size``, so that windows overlap)."""
    return _made({"hopping": size, "every": every, "offset": offset})


def session(gap: str) -> WindowShape:
    """Sessions of each key: rows at most ``gap`` (``"30s"``) apart share a session, which ends ``gap`` after its last row."""
    return _made({"session": gap})


def count(rows: int) -> WindowShape:
    """Windows of ``rows`` rows of each key, by arrival; at the end of the input also the rows that are left."""
    return _made({"count": rows})


def cumulate(size: str, every: str, offset: str = "0s") -> WindowShape:
    """Windows that grow within each ``size``: at each ``every`` a window ends that holds the rows since the last multiple of ``size``."""
    return _made({"cumulate": size, "every": every, "offset": offset})


def all_rows() -> WindowShape:
    """One window over everything, closed at the end of the input."""
    return AllRows()


def per_message() -> WindowShape:
    """One window per message of a source that has messages (a datagram), closed at once."""
    return PerMessage()


def _made(written: Mapping[str, str | int]) -> WindowShape:
    problems = Problems()
    shape = window_shape(written, "window", problems)
    if problems.found:
        raise PipelineError([Problem(p.path, p.message, p.hint) for p in problems.found])
    return shape
