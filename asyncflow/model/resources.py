"""What a component takes of the outside while a run lasts: a file, an address to listen at, a standard stream.

The options of a connector may have a method ``resources() -> Iterable[Resource]``; ``plan.resources`` refuses a pipeline whose
components want the same thing and cannot share it.  It touches nothing outside, but may look at the file system.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Resource(Struct, frozen=True):
    """One thing, for ``option`` of the component's table, as ``text`` calls it.

    ``names``: what it is known by; two resources of one ``kind`` that have a name in common, or of which one ``matches`` a name of the
    other, are the same thing.  ``exclusive``: it cannot be shared, but with those that say the same ``sharing``: they take turns.  ``use``:
    what is done with it, as a participle.
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
