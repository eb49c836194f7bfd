"""What every operator is: a synchronous core, batches in, batches out.  No asyncio, no plan, no clock.

An operator owns its state, and nobody else touches that state.  The runtime calls ``process`` for each batch in order, ``advance``
when the stage's watermark has risen, and ``finish`` once at the end of input; each returns the outputs in order.  The runtime takes all
outputs of a call before the next call: an operator may make outputs as they are taken, so that a great result is never held whole.

State.  At a barrier, between two calls, ``freeze`` copies the state; ``restore`` gives it to a new operator of the same plan and schemas
before the first row.  The restored operator returns for every further input what the frozen operator would have returned.  Saved state
is canonical: equal states have equal bytes, whatever batches, row numbers and key numbers led to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from asyncflow.model.batch import Batch
from asyncflow.model.columns import Column
from asyncflow.model.schema import Schema
from asyncflow.model.snapshot import Copied, Frozen, Plain, Saved


class Output(Struct, frozen=True, eq=False):
    """A batch that leaves an operator: by the main way (``kind == ""``) or a side output (``"late"``)."""

    batch: Batch
    kind: str = ""


class Standing(Struct, frozen=True):
    """How an operator stands between two calls, as far as that is known without counting; the fields are the properties of
    :class:`Operator` of these names."""

    open_windows: int | None
    held_ns: int
    timed: bool


class Port(Struct, frozen=True):
    """Progress of a reader on one input: its watermark, whether the input is idle or has ended, and how many of its rows are held."""

    watermark_ns: int
    quiet: bool = False
    ended: bool = False
    rows: int = 0


class _Core(ABC):
    """What operators of one and of two inputs share.

    ``output``: the columns of rows that leave by the main way; None where the first rows decide them.

    ``counts``: the operator's part of the ledger, rows by every way they can leave; the numbers only grow.  For rows in = rows out + ways
    of leaving, an operator that keeps or merges rows counts these rows too (see each operator).

    ``state_version``: the layout of the saved state; 0 for an operator that keeps nothing but its counts.
    """

    state_version: ClassVar[int]
    on_any_thread: bool = True
    """Its calls, one at a time, may be made by any thread; False where they run code of the user's."""
    output: Schema | None = None
    unread: frozenset[str] = frozenset()
    """Kinds of outputs that nobody reads: their rows are counted, and need not be given."""
    counts: dict[str, int]

    def __init__(self) -> None:
        self.counts = {}

    @abstractmethod
    def freeze(self) -> Frozen:
        """The state as of now; later calls of the operator do not change the frozen state.

        At most one frozen state of an operator is taken down at a time: a second ``freeze`` gives up the first.
        """

    @abstractmethod
    def restore(self, saved: Saved) -> None:
        """Takes over a state that an operator of the same plan and schemas froze; called before the first row.

        ValueError names the field or part that does not fit; the operator is of no use then.
        """

    @property
    def held_ns(self) -> int:
        """Delay of the output's watermark behind the stage's, ns: rows may leave that much later than their time."""
        return 0

    @property
    def next_due_ns(self) -> int | None:
        """The watermark at which held rows come out next, ns; None where no held rows wait for a watermark."""
        return None

    @property
    def timed(self) -> bool:
        """Held rows come out as event time goes on; False: at the end of input only."""
        return True

    @property
    def open_windows(self) -> int | None:
        """Windows that hold a row and may still be sent; None where the operator has no windows."""
        return None

    @property
    def open_keys(self) -> int | None:
        """Keys held now, about; None where the operator holds nothing by key."""
        return None

    @property
    def state_bytes(self) -> int:
        """Bytes of state held now, about."""
        return 0

    @property
    @abstractmethod
    def waiting_rows(self) -> int | tuple[int, int] | None: ...

    def standing(self) -> Standing:
        """How it stands now; not to be asked while a call is under way."""
        return Standing(self.open_windows, self.held_ns, self.timed)


class Operator(_Core):
    """An operator over one input."""

    @abstractmethod
    def process(self, batch: Batch) -> Iterable[Output]:
        """Takes one batch; the watermark before each row travels with the batch."""

    def ahead(self, batch: Batch) -> Ahead | None:
        """Makes what of ``process`` needs no state, where there is such a part.

        Called by any thread, for several batches at once, before earlier ones are processed.  The watermark before the batch is not known
        yet.  The batch comes to ``process`` with the result as its ``ahead``."""
        return None

    ahead_untimed = False
    """``ahead`` takes batches by arrival, too, whose times are not known yet: None."""

    def settled(self, made: Any, watermark_before: int) -> Any:
        """What was made ahead, now that the watermark before the batch is known."""
        return made

    def done_ahead(self, batch: Batch) -> bool:
        """The part of the work that needs no state is done."""
        ahead: Ahead | None = batch.ahead
        return ahead is not None and ahead.operator is self and ahead.columns is batch.columns

    def _done_ahead(self, batch: Batch) -> Any:
        """What was made ahead, which is counted now; None where nothing was."""
        if not self.done_ahead(batch):
            return None
        for name, number in batch.ahead.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number
        return batch.ahead.made

    def advance(self, watermark_ns: int) -> Iterable[Output]:
        """The stage's watermark is now ``watermark_ns`` (it never falls)."""
        return []

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        """How many bytes ``advance`` will work on, as far as that is known without looking for it.  ``fresh_bytes``: of the rows since the
        last watermark, as many of which leave as come where rows come and go."""
        return fresh_bytes

    def finish(self) -> Iterable[Output]:
        """End of input: gives up all held rows."""
        return []

    @property
    def waiting_rows(self) -> int | None:
        """Rows that are held, or are part of a held result; None where that number is not known."""
        return None


class Ahead(Struct, frozen=True, eq=False):
    """What an operator has made of a batch before the batch's turn: the part of its work that needs no state.

    ``columns``: those of the batch; a batch with other columns is another one.  ``made``: what ``process`` goes on with.  ``counts``: what
    the operator's counts grow by.  ``nbytes``: of what was made, about.  ``left_bytes``: what ``process`` still has to work on, about;
    None: as much as there is.
    """

    operator: Operator
    columns: tuple[Column, ...]
    made: Any
    counts: dict[str, int]
    nbytes: int = 0
    left_bytes: int | None = None

    def settled(self, watermark_before: int) -> Ahead:
        """The same, now that the watermark before the batch is known."""
        return replace(self, made=self.operator.settled(self.made, watermark_before))


class CountsOnly(Operator):
    """An operator that keeps nothing but its counts."""

    state_version = 0

    def freeze(self) -> Frozen:
        return Copied(counted(self.counts))

    def restore(self, saved: Saved) -> None:
        restore_counts(self.counts, saved)


class Stateless(CountsOnly):
    """An operator whose results depend on the batch alone."""

    @abstractmethod
    def made_of(self, batch: Batch, counts: dict[str, int]) -> Iterable[Output]:
        """What comes of a batch; adds to ``counts``.  Called by any thread, for several batches at once."""

    def process(self, batch: Batch) -> Iterable[Output]:
        done: tuple[Output, ...] | None = self._done_ahead(batch)
        return self.made_of(batch, self.counts) if done is None else done

    def ahead(self, batch: Batch) -> Ahead:
        counts: dict[str, int] = {}
        outputs = tuple(self.made_of(batch, counts))
        return Ahead(self, batch.columns, outputs, counts, sum(output.batch.nbytes for output in outputs), 0)

    def settled(self, made: Any, watermark_before: int) -> Any:
        return tuple(replace(output, batch=output.batch.settled(watermark_before)) for output in made)


def made_ahead(batch: Batch, operators: Sequence[Operator]) -> Batch:
    """The batch with what the first operator makes of it ahead, the batches of that result with what the second makes of them, and so on.

    Where one fails, that is left to its turn, when the failure has a name.
    """
    try:
        ahead = operators[0].ahead(batch)
    except Exception:
        return batch
    if ahead is not None and len(operators) > 1:
        made = (
            output if output.kind else replace(output, batch=made_ahead(output.batch, operators[1:]))
            for output in ahead.made
        )
        ahead = replace(ahead, made=tuple(made))
    return replace(batch, ahead=ahead)


class Closing(ABC):
    """Held rows of all parts on their way out, round by round, so that a great result is never held whole.

    While ``tasks`` gives any: all of them are called, each once, in any threads; when the last has returned, ``outputs`` gives the rows
    that are next.  No tasks: all rows are out.  ``tasks`` and ``outputs`` are called, and the outputs taken, on the thread of the operator.
    """

    @abstractmethod
    def tasks(self) -> list[Callable[[], None]]:
        """The work of the next round, of different parts; none: the rows are out."""

    @abstractmethod
    def outputs(self) -> Iterable[Output]:
        """What the round has brought; taken to its end before the next ``tasks``."""


class Partitioned(Operator):
    """An operator in ``parts`` parts, each of which holds the keys whose hash falls to it.  What comes out does not depend on their number.

    ``process(batch)`` is these steps on one thread, and other threads may do the steps in the middle::

        scattered = operator.scattered(batch)                  # any thread, any batch, several at once; touches no state
        tasks = operator.part_tasks(scattered)                 # the operator's thread, in the order of batches
        results = [task() for task in tasks]                   # any threads; task p after task p of the batch before
        outputs = operator.joined(scattered, results)          # the operator's thread, in the order of batches, after all of its tasks

    Tasks of further batches may be made, and run, before the results of a batch are joined.  ``closing``, ``freeze`` and ``restore`` are
    called when no task runs and every batch is joined; ``advance`` and ``finish`` do a whole ``closing`` on the calling thread.  Properties
    and ``counts`` say how the operator stands after the last batch that was joined, and can be read at any time (``waiting_rows``
    and ``next_due_ns``: while no task runs).  Where a task raises, the others of its batch are waited for; the operator is of no further
    use.
    """

    parts: int

    @abstractmethod
    def scattered(self, batch: Batch) -> Any:
        """The batch's rows part by part."""

    @abstractmethod
    def part_tasks(self, scattered: Any) -> list[Callable[[], Any]]:
        """For each part what takes its rows of the batch."""

    @abstractmethod
    def joined(self, scattered: Any, results: Sequence[Any]) -> list[Output]:
        """What comes of the batch; ``results``: what its tasks returned, in their order."""

    @abstractmethod
    def closing(self, watermark_ns: int | None) -> Closing:
        """The stage's watermark is now ``watermark_ns`` (it never falls); None: the end of input."""

    def process(self, batch: Batch) -> Iterable[Output]:
        if not batch.num_rows:
            return []
        scattered = self.scattered(batch)
        return self.joined(scattered, [task() for task in self.part_tasks(scattered)])

    def advance(self, watermark_ns: int) -> Iterable[Output]:
        return _given_up(self.closing(watermark_ns))

    def finish(self) -> Iterable[Output]:
        return _given_up(self.closing(None))


def _given_up(closing: Closing) -> Iterator[Output]:
    while tasks := closing.tasks():
        for task in tasks:
            task()
        yield from closing.outputs()


SecondHalf = Callable[[], list[Output]]


class FirstHalf(Struct, frozen=True, eq=False):
    """``tasks``: of different parts, called once each, in any threads, side by side; then ``joined``, by any thread, which gives the second
    half, and whether there are more."""

    tasks: Sequence[Callable[[], None]]
    joined: Callable[[], tuple[SecondHalf, bool]]


class TwoInputOperator(_Core):
    """An operator over two inputs of different columns; ``port`` 0 is the left one, 1 the right one.

    The runtime calls ``process`` for the batches of each port in the port's own order, ``advance`` when the lower of the watermarks that
    count has risen, and ``finish`` once for each port; it takes all outputs of a call before the next call.  The ports may be interleaved
    in any way: the outputs, taken together, must be the same.
    """

    output: Schema
    in_halves = False
    """It has ``process_first`` and ``advance_first``: the first half of such a call gives the second one, which gives its outputs.  Second
    halves are called in order, one at a time; those of one call may run beside the first halves of the next calls.  First halves are called
    one after the other; those of ``advance_first`` are begun by the operator's thread, and the next one once the one before is joined."""

    def process_first(self, port: int, batch: Batch) -> SecondHalf:
        raise NotImplementedError

    def advance_first(self, watermark_ns: int) -> Iterator[FirstHalf]:
        raise NotImplementedError

    @abstractmethod
    def process(self, port: int, batch: Batch) -> Iterable[Output]:
        """Takes one batch of one input; the watermark before each row travels with the batch."""

    @abstractmethod
    def advance(self, watermark_ns: int) -> Iterable[Output]:
        """The stage's watermark is now ``watermark_ns`` (it never falls)."""

    def advance_bytes(self, watermark_ns: int, fresh_bytes: int) -> int:
        """As of :class:`Operator`."""
        return fresh_bytes

    @abstractmethod
    def finish(self, port: int) -> Iterable[Output]:
        """One input has ended."""

    @property
    @abstractmethod
    def watermark(self) -> int:
        """The watermark of the output: no row still to come has a time below it."""

    @property
    @abstractmethod
    def waiting_rows(self) -> tuple[int, int]:
        """Rows of the left and the right side that are held."""


def counted(counts: Mapping[str, int]) -> dict[str, Plain]:
    """The field of an operator's counts."""
    return {"counts": dict(counts)}


def restore_counts(counts: dict[str, int], saved: Saved) -> None:
    """Writes the saved counts into ``counts``, which stays the same dict: others hold it too.  ValueError names the count that is missing
    or no number; counts that an operator begins only with the first row of a kind are new to ``counts``."""
    found = saved.within("counts").fields
    for name in counts:
        if name not in found:
            raise ValueError(f"counts: {name!r} is missing")
    for name, value in found.items():
        if type(value) is not int:
            raise ValueError(f"counts: {name!r} is not a whole number")
    counts.update({name: value for name, value in found.items() if type(value) is int})
