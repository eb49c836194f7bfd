"""The tables of a plan: sources, stages and sinks, and the tests written beside them.

The doors make these frozen structs; checks, ``explain`` and every engine walk them.  A kind of stage is a struct of its own in
``plan.stages`` that answers the questions of :class:`Stage`, so whoever walks a plan names no kind.

``inputs`` name tables or side outputs (``sales.rejected``, ``per_minute.late``).  Options of a component are frozen msgspec structs of its
connector or format; the plan only carries them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

from msgspec import Struct

from asyncflow.errors import Problem
from asyncflow.model.schema import DataType, Schema

DAY_NS = 86_400_000_000_000


class Component(Struct, frozen=True, eq=False):
    """A connector or format with its options: ``type`` is its name (``"file"``, ``"csv"``), ``options`` its msgspec struct.

    ``object``: for connectors made in Python, the thing itself (an async iterable, a writer); it is not compared.
    """

    type: str
    options: Any = None
    object: Any = None

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Component) and (self.type, self.options) == (other.type, other.options)

    def __hash__(self) -> int:
        return hash((self.type, self.options))


class Source(Struct, frozen=True):
    """Where rows come from.  ``schema`` None is inferred when the run starts; ``time`` None is arrival time.

    ``time_unit`` (``s ms us ns``): reads the time column of an *inferred* schema as an epoch number; a declared schema says so itself.
    """

    name: str
    connector: Component
    format: Component | None = None
    schema: Schema | None = None
    time: str | None = None
    time_unit: str = ""
    watermark_delay_ns: int = 0
    max_future_ns: int = DAY_NS
    on_error: str = "reject"  # or "fail"
    max_record_bytes: int = 1 << 20
    idle_timeout_ns: int | None = None

    side_outputs: ClassVar[tuple[str, ...]] = ("rejected", "future")


class TimeColumn(NamedTuple):
    """A row's time is the value of the column ``name`` less ``before_ns``."""

    name: str
    before_ns: int = 0


TimeColumns: TypeAlias = tuple[TimeColumn, ...]
"""A row's event time is the greatest of these that is not null; of none, its time of arrival."""

WINDOW_TIMES: TimeColumns = (TimeColumn("window_end", 1),)
"""Of a window's rows."""

Read: TypeAlias = tuple[Schema | None, ...]
"""The schemas of what a stage reads: one, of the union of its inputs, or one for each of inputs that are read apart.  None: not known."""

Wanted: TypeAlias = frozenset[str] | None
"""Names of columns; None: all."""


def not_timestamps(columns: TimeColumns, schema: Schema | None) -> list[str]:
    """Those of the columns that are no timestamps in ``schema``; none where it is not known."""
    if schema is None:
        return []
    return [name for name, _ in columns if name not in schema or schema[name].type is not DataType.TIMESTAMP]


class Stage(Struct, frozen=True):
    """A stage: what every kind answers for itself.  Methods take the schemas of what the stage reads, never another stage.

    Abstract methods are what a kind has to say; the others are said here as most kinds have them.
    """

    name: str
    inputs: tuple[str, ...]

    type: ClassVar[str]
    """The kind's name, as ``type`` in a pipeline file."""
    room: ClassVar[str] = "stages"
    """The room of the pipeline file that the table is written in."""
    side_outputs: ClassVar[tuple[str, ...]] = ()
    """Side outputs (``NAME.KIND``): ``rejected`` has the columns of rejected records, every other one those of the (first) input."""
    apart: ClassVar[bool] = False
    """Inputs are tables of different columns (a join's), not the parts of a union."""

    def path(self, *keys: object) -> str:
        """A path in the pipeline file: ``stages.sold.where``."""
        return ".".join((self.room, self.name, *map(str, keys)))

    def input_key(self, port: int) -> str:
        """The key that names an input in the pipeline file."""
        return "inputs"

    # -- rows and columns ----------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def ways(self) -> tuple[str, ...] | None:
        """The counts that together are the stage's ``rows_in``: of rows that left by each way (``rows_out``: as results) or were taken up;
        None where a row may become any number of rows."""

    @abstractmethod
    def output(self, read: Read) -> Schema | None:
        """The schema of the stage's rows; None where it is not known or an expression does not type."""

    @abstractmethod
    def reads(self, wanted: Wanted, read: Read, times: TimeColumns) -> tuple[Wanted, ...]:
        """For each of ``read`` the columns needed where ``wanted`` are needed of the results.  ``times``: the time columns of the first.

        Side outputs need not be thought of: where one is read, its input is read whole."""

    # -- problems and words --------------------------------------------------------------------------------------------

    @abstractmethod
    def problems(self, read: Read, plan: Plan) -> Iterable[Problem]:
        """All that is wrong with the stage; what needs a schema that is not known is left out."""

    def source_problems(self, plan: Plan) -> Iterable[Problem]:
        """What is wrong with the sources behind the stage, as they are written; not asked of a plan whose sources a test replaces."""
        return ()

    @abstractmethod
    def describe(self, read: Read) -> dict[str, Any]:
        """The stage's settings as plain data, for ``explain``.  The tree shows the texts, then the tables; ``summary`` the rest."""

    def summary(self) -> str:
        """A line that stands first in the tree of ``explain``, for what texts and tables do not tell; or nothing."""
        return ""

    @abstractmethod
    def state_text(self) -> str | None:
        """Where the stage holds state and until when; None where it holds none."""

    # -- event time ----------------------------------------------------------------------------------------------------

    by_time: ClassVar[bool] = True
    """What the stage gives hangs on the event times of its input, not on the rows alone."""
    passes_rows: ClassVar[bool] = False
    """Results are rows of the (first) input, in its order, with the watermarks that they came with."""
    own_watermarks: ClassVar[bool] = False
    """Results carry watermarks that the stage makes, whatever its input's rows carry."""

    def times(self, before: tuple[TimeColumns, ...], read: Read) -> TimeColumns:
        """The time columns of the results; ``before``: those of what is read, as ``read``."""
        return before[0]

    def re_times(self, before: TimeColumns, read: Read) -> bool:
        """Whether results over rows of these time columns have times of their own."""
        return False

    def lost_times(self, lost: list[str], before: TimeColumns, read: Read) -> Iterable[Problem]:
        """What is wrong where these time columns of the input are no timestamps in the results, and times are still needed."""
        return ()

    @property
    def delay_ns(self) -> int:
        """How far the stage holds its watermark back behind its input's."""
        return 0

    @property
    def closes(self) -> str:
        """What lets results out: ``time`` (the watermark), ``count``, ``message``, ``end`` (of the input), ``at once``; ``""``: no rows
        ever wait."""
        return ""

    @property
    def closes_after(self) -> int:
        """Where ``closes`` is ``count``: how many rows."""
        return 0

    # -- relations to other stages -------------------------------------------------------------------------------------

    @property
    def revised(self) -> bool:
        """Whether a result may be sent again when it has changed."""
        return False

    def settles(self, output: str) -> bool:
        """Whether rows that an input sends again end here, and do not go on by this output (``""``: the results)."""
        return False

    makes_rows: ClassVar[bool] = False
    """Results are rows that no message brought."""

    @property
    def opened_first(self) -> tuple[str, ...]:
        """Sources that have to be open before anything is read."""
        return ()

    @property
    def not_again(self) -> str:
        """Why the stage's rows cannot be read a second time in one run, said of the stage; or nothing."""
        return ""


class Sink(Struct, frozen=True):
    name: str
    inputs: tuple[str, ...]
    connector: Component
    format: Component | None = None

    side_outputs: ClassVar[tuple[str, ...]] = ()


Row: TypeAlias = Mapping[str, Any]
"""A row of a test as written: numbers, texts, truth values, datetimes; what is expected may be ``{ null = true }``, for null."""


class Feed(Struct, frozen=True):
    """These rows come into a source, together: one message where it has messages."""

    table: str
    rows: tuple[Row, ...]


class Advance(Struct, frozen=True):
    """Time moves on: every watermark, and the wall clock, to the greatest event time so far and this much more."""

    by_ns: int


class Expect(Struct, frozen=True):
    """All rows of a table, in order; columns left out of a row are not compared."""

    table: str
    rows: tuple[Row, ...]


class Trial(Struct, frozen=True):
    """One test.  After the last of ``feed`` the input ends."""

    name: str
    feed: tuple[Feed | Advance, ...] = ()
    expect: tuple[Expect, ...] = ()


DEFAULT_STOP_TIMEOUT_NS = 30_000_000_000


class Checkpoints(Struct, frozen=True):
    """Where a run keeps its checkpoints, how long after one the next is taken, and how many are kept."""

    folder: str
    interval_ns: int
    retain: int


class Plan(Struct, frozen=True):
    """A whole pipeline, tables in the order written.  Inputs are always spelled out: the doors have filled in what was left out.

    ``trials``: the tests that its file holds.  ``stop_timeout_ns``: how long what was read may flow out once a run is asked to stop.
    ``memory_bytes``: what a run may hold; None: the process's default, in Python no bound.  ``checkpoints``: None: the run takes none.
    """

    name: str
    sources: tuple[Source, ...]
    stages: tuple[Stage, ...] = ()
    sinks: tuple[Sink, ...] = ()
    trials: tuple[Trial, ...] = ()
    stop_timeout_ns: int = DEFAULT_STOP_TIMEOUT_NS
    memory_bytes: int | None = None
    checkpoints: Checkpoints | None = None

    @property
    def tables(self) -> tuple[Source | Stage | Sink, ...]:
        """All tables: sources, stages, sinks."""
        return (*self.sources, *self.stages, *self.sinks)

    @property
    def readers(self) -> tuple[Stage | Sink, ...]:
        """The tables that read others."""
        return (*self.stages, *self.sinks)

    def table(self, name: str) -> Source | Stage | Sink:
        """The table of that name; KeyError when there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(name)
