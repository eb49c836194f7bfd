r"""Parses a regular expression in RE2's syntax to a tree.

One pass with a stack of open groups: nested groups do not nest calls.  A pattern that RE2 refuses is refused here; look-around and
back-references are refused with the reason, that they cannot be matched in linear time.  Flags: ``i`` ignores case, ``m`` lets ``^`` and
``$`` stand at lines, ``s`` lets ``.`` be a line end, ``U`` swaps ``*`` and ``*?``.  ``\C`` (a byte) is refused: a text is characters.
"""

from __future__ import annotations

import re
from typing import NoReturn

from msgspec import Struct

from asyncflow.model.patterns import charsets
from asyncflow.model.patterns.charsets import Charset

MOST_REPEATS = 1000
MOST_LEVELS = 400
MOST_GROUPS = 500
MOST_SHOWN = 40

BEGIN_LINE, END_LINE, BEGIN_TEXT, END_TEXT, WORD, NOT_WORD = 1, 2, 4, 8, 16, 32
"""Conditions of an assertion, one bit each; the kernel has the same numbers."""


class Node(Struct, frozen=True):
    """A part of a pattern.

    ``kind``: "chars" (one character of ``chars``), "assert" (``number``: which), "group" (``number``: its own), "repeat"
    (``least`` to ``most`` times, None: without end), "concat", "either".  ``parts``: what it is made of.  ``empty``: can
    match the empty text.  ``levels``: its height.  ``repeats``: the greatest product of nested counts.
    """

    kind: str
    parts: tuple[Node, ...] = ()
    chars: Charset = ()
    number: int = 0
    least: int = 0
    most: int | None = None
    greedy: bool = True
    empty: bool = False
    levels: int = 1
    repeats: int = 1


class Tree(Struct, frozen=True):
    """A parsed pattern.  ``groups``: how many capture; ``names``: the number of each group that has a name, in order."""

    root: Node
    groups: int
    names: dict[str, int]


def chars(members: Charset) -> Node:
    return Node("chars", chars=members)


def assertion(number: int) -> Node:
    return Node("assert", number=number, empty=True)


def concat(parts: list[Node]) -> Node:
    """The parts one after another; of one part that part itself."""
    return parts[0] if len(parts) == 1 else _above("concat", parts, all(part.empty for part in parts))


def either(parts: list[Node]) -> Node:
    """One of the parts, the first that leads to a match."""
    return parts[0] if len(parts) == 1 else _above("either", parts, any(part.empty for part in parts))


def repeat(part: Node, least: int, most: int | None, greedy: bool) -> Node:
    count = (least if most is None else most) or 1
    return Node(
        "repeat", (part,), least=least, most=most, greedy=greedy, empty=part.empty or least == 0,
        levels=part.levels + 1, repeats=part.repeats * count,
    )  # fmt: skip


def _above(kind: str, parts: list[Node], empty: bool, number: int = 0) -> Node:
    levels = 1 + max((part.levels for part in parts), default=0)
    repeats = max((part.repeats for part in parts), default=1)
    return Node(kind, tuple(parts), number=number, empty=empty, levels=levels, repeats=repeats)


_COUNTS = re.compile(r"\{(0|[1-9][0-9]{0,8})(,(0|[1-9][0-9]{0,8})?)?\}")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAME = re.compile(r"\(\?P?<([^>]*)>")
_HEX = re.compile(r"\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})")
_OCTAL = re.compile(r"\\(0[0-7]{0,2}|[1-7][0-7]{1,2})")
_PROPERTY = re.compile(r"\\[pP](?:\{(\^?)([^}]*)\}|([^{]))")
_POSIX = re.compile(r"\[:(\^?)([^:\]]*):\]")
_CONTROL = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_PLACES = {"A": BEGIN_TEXT, "z": END_TEXT, "b": WORD, "B": NOT_WORD}
_AROUND = re.compile(r"\(\?<?[=!]")
_INSTEAD = {
    "(?>": "atomic groups are not supported (write (?:...): nothing backtracks here)",
    "(?#": "comments are not supported (leave the comment out)",
}


class _Open:
    """A group whose end has not been read, with its parts so far."""

    def __init__(self, flags: str, group: int | None) -> None:
        self.flags = flags  # those in force after the group
        self.group = group
        self.choices: list[Node] = []
        self.parts: list[Node] = []

    def closed(self) -> Node:
        node = either([*self.choices, concat(self.parts)])
        return node if self.group is None else _above("group", [node], node.empty, self.group)


def parse(pattern: str) -> Tree:
    """The tree of a pattern; ValueError says what is wrong, and where."""
    return _Parser(pattern).parse()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.flags = ""
        self.groups = 0
        self.names: dict[str, int] = {}
        self.open = [_Open("", None)]
        self.repeated = -1
        """Position after the last repetition: another repetition must not follow there."""

    def parse(self) -> Tree:
        pattern = self.pattern
        while self.at < len(pattern):
            char = pattern[self.at]
            match char:
                case "\\":
                    self.escape()
                case "[":
                    self.add(chars(self.bracket()))
                case "(":
                    self.group()
                case ")":
                    self.close()
                case "|":
                    group = self.open[-1]
                    group.choices.append(concat(group.parts))
                    group.parts = []
                    self.at += 1
                case "*" | "+" | "?":
                    self.repetition(int(char == "+"), 1 if char == "?" else None, self.at + 1)
                case "{" if counts := _COUNTS.match(pattern, self.at):
                    least = int(counts[1])
                    most = least if counts[2] is None else None if counts[3] is None else int(counts[3])
                    self.repetition(least, most, counts.end())
                case "^":
                    self.simple(assertion(BEGIN_LINE if "m" in self.flags else BEGIN_TEXT))
                case "$":
                    self.simple(assertion(END_LINE if "m" in self.flags else END_TEXT))
                case ".":
                    self.simple(chars(charsets.ANY if "s" in self.flags else charsets.NOT_A_LINE_END))
                case _:
                    self.simple(self.literal(ord(char)))
        if len(self.open) > 1:
            self.fail("missing )", 0)
        return Tree(self.open[0].closed(), self.groups, self.names)

    def fail(self, what: str, begin: int | None = None, end: int | None = None) -> NoReturn:
        """Raises ValueError with the reason and the piece of the pattern."""
        piece = self.pattern[self.at if begin is None else begin : end]
        piece = piece if len(piece) <= MOST_SHOWN else f"{piece[:MOST_SHOWN]}..."
        raise ValueError(f"{what}: {piece}" if piece else what)

    def add(self, node: Node) -> None:
        if node.levels > MOST_LEVELS:
            self.fail(f"nested in more than {MOST_LEVELS} levels", 0, 20)
        self.open[-1].parts.append(node)

    def simple(self, node: Node) -> None:
        """A node of one character of the pattern."""
        self.add(node)
        self.at += 1

    def literal(self, code: int) -> Node:
        one = ((code, code),)
        return chars(charsets.folded(one) if "i" in self.flags else one)

    # -- groups and repetitions ------------------------------------------------------------------------------------

    def group(self) -> None:
        pattern, at = self.pattern, self.at
        if self.groups == MOST_GROUPS:
            self.fail(f"more than {MOST_GROUPS} groups (write (?:...) where no text is taken out)")
        if not pattern.startswith("(?", at):
            self.groups += 1
            self.open.append(_Open(self.flags, self.groups))
            self.at += 1
        elif _AROUND.match(pattern, at):
            self.fail(
                "look-around is not supported (match the text around it too, with a group for the part wanted, "
                "or test with a second pattern: regexp_matches(x, ...) AND NOT regexp_matches(x, ...))"
            )
        elif named := _NAME.match(pattern, at):
            name = named[1]
            if not name or not all(char == "_" or char.isalnum() for char in name):
                self.fail("bad name of a group", end=named.end())
            if name in self.names:
                self.fail("two groups of one name", end=named.end())
            self.groups += 1
            self.names[name] = self.groups
            self.open.append(_Open(self.flags, self.groups))
            self.at = named.end()
        elif flags := _FLAGS.match(pattern, at):
            before = self.flags
            self.flags = "".join(sorted((set(before) | set(flags[1])) - set(flags[2] or "")))
            if flags[3] == ":":
                self.open.append(_Open(before, None))
            self.at = flags.end()
        elif pattern.startswith("(?P=", at):
            self.fail(_BACK_REFERENCE)
        else:
            self.fail(_INSTEAD.get(pattern[at : at + 3], "no such group or flags"), end=at + 4)

    def close(self) -> None:
        if len(self.open) == 1:
            self.fail("unexpected )")
        group = self.open.pop()
        self.flags = group.flags
        self.add(group.closed())
        self.at += 1

    def repetition(self, least: int, most: int | None, end: int) -> None:
        begin, parts = self.at, self.open[-1].parts
        lazy = self.pattern.startswith("?", end)
        end += lazy
        if not parts:
            self.fail("nothing to repeat", end=end)
        if begin == self.repeated:
            self.fail("one repetition after another (write (?:...) around the first)", end=end)
        if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
            self.fail(f"a count is at most {MOST_REPEATS}, the second not below the first", end=end)
        node = repeat(parts.pop(), least, most, lazy == ("U" in self.flags))
        if node.repeats > MOST_REPEATS:
            self.fail(f"nested counts multiply to more than {MOST_REPEATS}", end=end)
        self.add(node)
        self.at = self.repeated = end

    # -- escapes and sets ------------------------------------------------------------------------------------------

    def escape(self) -> None:
        """An escape outside a set."""
        pattern, after = self.pattern, self.pattern[self.at + 1 : self.at + 2]
        if after == "Q":
            end = pattern.find("\\E", self.at)
            quoted = pattern[self.at + 2 : end if end >= 0 else None]
            for char in quoted:
                self.add(self.literal(ord(char)))
            self.at = end + 2 if end >= 0 else len(pattern)
        elif after in _PLACES and after:
            self.add(assertion(_PLACES[after]))
            self.at += 2
        elif after == "C":
            self.fail(
                r"\C is not supported (a text is characters: write (?s:.) for any one)", end=self.at + 2
            )
        elif (members := self.named_set()) is not None:
            self.add(chars(members))
        else:
            self.add(self.literal(self.escaped()))

    def escaped(self) -> int:
        """The code point of an escape that stands for one character."""
        pattern, at = self.pattern, self.at
        after = pattern[at + 1 : at + 2]
        if code := _HEX.match(pattern, at):
            value = int(code[1] or code[2], 16)
            if value > charsets.GREATEST:
                self.fail("there is no such character", end=code.end())
            self.at = code.end()
            return value
        if code := _OCTAL.match(pattern, at):
            self.at = code.end()
            return int(code[1], 8)
        self.at += 2
        if after in _CONTROL and after:
            return _CONTROL[after]
        if after and after.isascii() and not after.isalnum():
            return ord(after)
        self.at = at
        if not after:
            self.fail("a \\ ends the pattern")
        if after in "123456789" or after in "gk":
            self.fail(_BACK_REFERENCE, end=at + 2)
        hint = {"Z": r" (write \z)", "h": r" (write [ \t])", "R": r" (write \r?\n)"}.get(after, "")
        self.fail(f"no such escape{hint}", end=at + 2)

    def named_set(self) -> Charset | None:
        r"""The set of ``\d``, ``\pL``, ``\P{Greek}`` and the like; None where the pattern has no such escape here."""
        pattern, at = self.pattern, self.at
        letter = pattern[at + 1 : at + 2]
        if pattern[at] != "\\" or not letter:
            return None
        if letter.lower() in charsets.PERL:
            self.at += 2
            return self.signed(charsets.PERL[letter.lower()], letter.isupper())
        if letter not in "pP":
            return None
        if (found := _PROPERTY.match(pattern, at)) is None:
            self.fail("no set of characters is named", end=at + 3)
        members = charsets.unicode_set(found[3] or found[2])
        if members is None:
            self.fail(
                "no such set of characters (a general category as L or Lu, or a script as Greek)",
                end=found.end(),
            )
        self.at = found.end()
        return self.signed(members, (letter == "P") != (found[1] == "^"))

    def signed(self, members: Charset, negative: bool) -> Charset:
        if "i" in self.flags:
            members = charsets.folded(members)
        return charsets.complement(members) if negative else members

    def bracket(self) -> Charset:
        """The set in square brackets that begins here."""
        pattern, begin = self.pattern, self.at
        negative = pattern.startswith("[^", begin)
        self.at += 1 + negative
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not pattern.startswith("]", self.at):
            first = False
            if self.at >= len(pattern):
                self.fail("missing ]", begin)
            if named := _POSIX.match(pattern, self.at):
                if named[2] not in charsets.POSIX:
                    self.fail(f"no such set (there are {', '.join(charsets.POSIX)})", end=named.end())
                self.at = named.end()
                ranges += self.signed(charsets.POSIX[named[2]], bool(named[1]))
            elif (members := self.named_set()) is not None:
                ranges += members
            else:
                low_at = self.at
                low = high = self.member(begin)
                if pattern.startswith("-", self.at) and not pattern.startswith("-]", self.at):
                    self.at += 1
                    high = self.member(begin)
                    if high < low:
                        self.fail("a range that ends before it begins", low_at, self.at)
                one = ((low, high),)
                ranges += charsets.folded(one) if "i" in self.flags else one
        self.at += 1
        members = charsets.union(ranges)
        return charsets.complement(members) if negative else members

    def member(self, begin: int) -> int:
        """The code point of one end of a range."""
        if self.at >= len(self.pattern):
            self.fail("missing ]", begin)
        if self.pattern[self.at] == "\\":
            return self.escaped()
        self.at += 1
        return ord(self.pattern[self.at - 1])


_BACK_REFERENCE = (
    "back-references are not supported (take both parts out with regexp_extract and compare them with =)"
)
