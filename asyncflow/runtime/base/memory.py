"""The memory of one run: how many bytes each table holds, and the bound on their sum (the key ``memory``).

There are two sorts of bytes.  Bytes that *flow* (rows in channels, blocks that input is read into) leave as the readers take them.
Bytes that are *held* (state of stages, rows that wait for others, unfinished records of peers) stay until the data releases them.
At the bound a channel takes only one message (``full``): inputs are held back, and the flowing bytes drain.  Where the held bytes
alone exceed the bound, the run fails; the error names the table, its size and what to do.

The counts are bytes asked for, not pages; objects of the user's Python code are not counted.  Used only on the event loop's thread.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable

from asyncflow.errors import OutOfMemoryError
from asyncflow.model.durations import format_size
from asyncflow.runtime.base import cgroup

SHARE = 0.8
"""Of a limit from outside, what a run takes at most where nothing is said."""
LEAST_DEFAULT_BYTES = 16 << 20
_MANY = 3
"""How many holders a message names."""
_WORTH_A_WORD_BYTES = 1 << 16


class Account:
    """The bytes of one kind (``what``: "state", "rows on their way") that a table holds.  Made by ``Memory.account``."""

    def __init__(self, memory: Memory, table: str, what: str, *, flows: bool) -> None:
        self.table = table
        self.what = what
        self.flows = flows
        self.used_bytes = 0
        self.detail: Callable[[], str] | None = None
        """More about what is held, for a message: ``1,000 keys``."""
        self.measure: Callable[[], int] | None = None
        """What is held at this moment, where ``resize`` says it from time to time only."""
        self._memory = memory

    @property
    def full(self) -> bool:
        """Whether the run is at its bound."""
        return self._memory.full

    def reserve(self, count_bytes: int) -> None:
        """Adds bytes.  Where the sum exceeds the bound: OutOfMemoryError, and nothing is added (bytes that flow never raise)."""
        memory = self._memory
        if not self.flows and memory.held_bytes + count_bytes > memory.bound_bytes:
            raise memory.exceeded(self, self.used_bytes + count_bytes)
        self.add(count_bytes)

    def release(self, count_bytes: int) -> None:
        """Subtracts bytes."""
        self.add(-count_bytes)

    def resize(self, size_bytes: int) -> None:
        """Sets the bytes, as measured after the fact.  OutOfMemoryError where the sum exceeds the bound."""
        grown = size_bytes - self.used_bytes
        if grown:
            self.add(grown)
            memory = self._memory
            if grown > 0 and not self.flows and memory.held_bytes > memory.bound_bytes:
                raise memory.exceeded(self, size_bytes)

    def add(self, count_bytes: int) -> None:
        """Adds bytes, without regard to the bound."""
        self.used_bytes += count_bytes
        self._memory.used_bytes += count_bytes
        if not self.flows:
            self._memory.held_bytes += count_bytes

    def __str__(self) -> str:
        detail = self.detail() if self.detail is not None else ""
        return f"{self.table} {format_size(self.used_bytes)} of {self.what}" + (
            f" ({detail})" if detail else ""
        )


class Memory:
    """``limit_bytes`` None: no bound, but who holds what is still known.  ``origin``: where a bound comes from that nobody wrote."""

    def __init__(self, limit_bytes: int | None = None, origin: str = "") -> None:
        self.limit_bytes = limit_bytes
        self.bound_bytes: float = float("inf") if limit_bytes is None else limit_bytes
        self.used_bytes = 0
        self.held_bytes = 0
        self._origin = origin
        self._accounts: list[Account] = []

    @property
    def full(self) -> bool:
        """Whether the sum has reached the bound: a channel then takes a message only if it is empty."""
        return self.used_bytes >= self.bound_bytes

    @property
    def free_bytes(self) -> int | None:
        """The bytes left below the bound; None without a bound."""
        return None if self.limit_bytes is None else max(self.limit_bytes - self.used_bytes, 0)

    def account(self, table: str, what: str, *, flows: bool = False) -> Account:
        account = Account(self, table, what, flows=flows)
        self._accounts.append(account)
        return account

    def close(self, accounts: Iterable[Account]) -> None:
        """Closes accounts, which hold nothing from now on."""
        for account in accounts:
            account.resize(0)
            self._accounts.remove(account)

    def exceeded(self, account: Account, size_bytes: int) -> OutOfMemoryError:
        """The error of an account that has grown to ``size_bytes``, beyond the run's bound."""
        detail = account.detail() if account.detail is not None else ""
        grown = f"{format_size(size_bytes)} of {account.what}" + (f" ({detail})" if detail else "")
        return OutOfMemoryError(
            f"it holds {grown}, with all else that is held more than {self._bound_text()}{self._others(account)}: {_ADVICE}",
            table=account.table,
            used_bytes=size_bytes,
        )

    def ran_out(self, table: str, error: MemoryError) -> OutOfMemoryError:
        """The error of a run whose system has no more memory, while ``table`` was at work."""
        cause = str(error)
        for account in self._accounts:
            if account.measure is not None:
                account.add(account.measure() - account.used_bytes)
        held = self._others(None)
        return OutOfMemoryError(
            f"memory ran out{f': {cause}' if cause else ''}; the run held {format_size(self.used_bytes)}{held}: {_ADVICE}",
            table=table,
            used_bytes=self.used_bytes,
        )

    def _bound_text(self) -> str:
        assert self.limit_bytes is not None
        return f"memory = {format_size(self.limit_bytes)}" + (f" ({self._origin})" if self._origin else "")

    def _others(self, named: Account | None) -> str:
        others = [
            each for each in self._accounts if each is not named and each.used_bytes >= _WORTH_A_WORD_BYTES
        ]
        others.sort(key=lambda each: -each.used_bytes)
        if not others:
            return ""
        listed = ", ".join(map(str, others[:_MANY]))
        return f" ({'beside it' if named is not None else 'most of it'}: {listed})"


_ADVICE = (
    "hold less (shorter windows, fewer keys, a shorter watermark_delay), or give the run more with memory"
)


def default_memory() -> Memory:
    """A bound of ``SHARE`` of what the process may have: by its address space, its cgroup, or else the machine; less what it has by
    now."""
    found = [
        (limit, taken, origin)
        for limit, taken, origin in (
            (_address_space(), _statm(0), "the limit on its address space"),
            (_cgroup_limit(), _statm(1), "its cgroup's limit"),
        )
        if limit is not None
    ]
    if not found:
        found = [(_machine(), _statm(1), "the machine's memory")]
    limit, taken, origin = min(found, key=lambda each: SHARE * each[0] - each[1])
    bound = max(int(SHARE * limit) - taken, LEAST_DEFAULT_BYTES)
    less = f" of {format_size(limit)}, {origin}, less {format_size(taken)} of the program itself"
    return Memory(bound, f"{SHARE:.0%}{less}")


def _address_space() -> int | None:
    try:
        import resource
    except ImportError:  # no such limits here
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _cgroup_limit(root: str = cgroup.ROOT, own: str = cgroup.OWN) -> int | None:
    """The least limit of the process's cgroups, those above them too (versions 2 and 1)."""
    limits = []
    for version, folder in cgroup.folders("memory", root, own):
        text = cgroup.text_of(folder, "memory.max" if version == 2 else "memory.limit_in_bytes")
        with contextlib.suppress(ValueError):  # there is none, or "max"
            limits.append(int(text))
    # Version 1 says "no limit" as a number beyond any memory.
    return min((limit for limit in limits if limit < 1 << 60), default=None)


def _statm(field: int) -> int:
    """Pages of address space (0) or in memory (1) that the process has, in bytes."""
    try:
        pages = int(cgroup.text_of("/proc/self", "statm").split()[field])
    except (ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
