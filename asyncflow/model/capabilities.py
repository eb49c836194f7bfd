"""What a connector says of itself before anything is opened.

The options of a connector inherit :class:`DescribesSource` or :class:`DescribesSink` and give their capabilities; a connector made in
Python gives its own.  Doors, plan and engine ask ``plan.capabilities`` and never the name of a connector or of an option.  The defaults
promise nothing: they hold for a connector that declares nothing.  ``plan.resources`` refuses a plan of which two components want one
resource that cannot be shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias

from msgspec import Struct

from asyncflow.model.schema import Schema

Guarantee: TypeAlias = Literal["exactly-once", "at-least-once", "none"]
"""What happens to a row when the run is killed and the same pipeline is started again: every row once; every row, some perhaps twice; or
some rows may be lost."""


class Resource(Struct, frozen=True):
    """A file, an address to listen at or a standard stream, taken from the outside while a run lasts.

    ``text``: the resource as ``option`` of the component's table names it.  ``names``: its identities; two resources of one ``kind`` are
    the same thing where they have a name in common, or one ``matches`` a name of the other.  ``exclusive``: the resource is not shared,
    except among those with the same ``sharing``, which take turns.  ``use``: what is done with the resource, as a participle.
    """

    kind: str
    names: frozenset[str]
    text: str
    option: str
    use: str
    exclusive: bool = True
    sharing: str = ""
    matches: Callable[[str], bool] | None = None

    def clashes(self, other: Resource) -> bool:
        if self.kind != other.kind or not (self.exclusive or other.exclusive):
            return False
        if self.sharing and self.sharing == other.sharing:
            return False
        return bool(self.names & other.names) or self._covers(other) or other._covers(self)

    def _covers(self, other: Resource) -> bool:
        return self.matches is not None and any(map(self.matches, other.names))


class SourceCapabilities(Struct, frozen=True, kw_only=True):
    """Of a source with given options."""

    bounded: bool | None = None
    """Whether the source ends by itself.  None: it may; only reading tells (a pipe)."""
    rereadable: bool = False
    """Opened again, the source gives its records from the start again."""
    messages: bool = False
    """A record never spans two messages; a message has a sender, who may be replied to."""
    resumable: bool = False
    """The source can go on from a position that it gave."""
    guarantee: Guarantee = "none"
    schema: Schema | None = None
    """The columns, where the source gives rows and there is nothing to decode."""
    resources: tuple[Resource, ...] = ()


class SinkCapabilities(Struct, frozen=True, kw_only=True):
    """Of a sink with given options."""

    takes_bytes: bool = True
    """False: the sink takes rows, so it needs no format."""
    may_wait: bool = False
    """The sink may wait for ever for a peer to come or to read.  After a stop such a sink ends once its rows are delivered and nothing
    moves any more; all others are waited for until they end or ``stop_timeout`` has passed."""
    replies_to: str | None = None
    """The source to whose senders the sink replies."""
    guarantee: Guarantee = "none"
    resources: tuple[Resource, ...] = ()


class DescribesSource:
    """Base of the options of a source, and of a source made in Python."""

    __slots__ = ()
    guarantee_text: ClassVar[str] = "none"
    """The guarantee for ``asyncflow list``, with the options that change it."""

    def capabilities(self) -> SourceCapabilities:
        """From the options alone.  It may look at the file system; it opens, reads and binds nothing."""
        return SourceCapabilities()


class DescribesSink:
    """Base of the options of a sink, and of a sink made in Python."""

    __slots__ = ()
    guarantee_text: ClassVar[str] = "none"
    """The guarantee for ``asyncflow list``, with the options that change it."""

    def capabilities(self) -> SinkCapabilities:
        """From the options alone.  It may look at the file system; it opens, writes and binds nothing."""
        return SinkCapabilities()
