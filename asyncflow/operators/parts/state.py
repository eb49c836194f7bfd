"""States of parts as the state of one operator, and that state again as those of parts.

Keys are numbered anew: in the order of all of them in the one state, in the order of its own in a part's.  What kernels save by the number
of a group or slot is put into the order in which one kernel would have saved, and the numbers are replaced.  What a cell holds is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from asyncflow._kernels import groups as groups_kernel
from asyncflow._kernels.accumulators.table import PANE
from asyncflow._kernels.base.saved import Parts
from asyncflow._kernels.window.saved import wide
from asyncflow.model.columns import IndexArray, Int32Array, Int64Array
from asyncflow.model.snapshot import Array, Frozen, Piece, Plain, Saved, saved
from asyncflow.operators.kernel_state import frozen_keys
from asyncflow.operators.parts.part import Told
from asyncflow.operators.raw import column_of_raw, raw_column

KEYS_AT_ONCE = 1 << 16
BYTES_AT_ONCE = 1 << 20
_PLACE = ("number_high", "number_low", "first_high", "first_low")


class FrozenTogether(Frozen):
    """The states of several kernels as one.  ``join``: makes one state of theirs, when the first piece is asked for."""

    def __init__(
        self,
        fields: Mapping[str, Plain],
        states: Sequence[Frozen],
        join: Callable[[list[Saved]], Mapping[str, Array]],
    ) -> None:
        self.fields = fields
        self._states, self._join = states, join
        self._parts: Parts | None = None

    def pieces(self, budget_bytes: int) -> Sequence[Piece] | None:
        if self._parts is None:
            self._parts = Parts(dict(self._join([saved(state) for state in self._states])))
            self._states = []
        given = self._parts.pieces(budget_bytes)
        return None if given is None else [Piece(part, data) for part, data in given]

    def drop(self) -> None:
        for state in self._states:
            state.drop()
        self._states = []
        self._parts = Parts()


def part_of_owner(fields: Mapping[str, Plain], states: Mapping[str, Saved]) -> Saved:
    """The state of an owner that has ``fields`` and these parts; :meth:`Saved.within` is the way back."""
    return Saved(
        {**fields, **{name: dict(state.fields) for name, state in states.items()}},
        {f"{name}.{part}": data for name, state in states.items() for part, data in state.parts.items()},
    )


# -- keys ----------------------------------------------------------------------------------------------------------------


def all_keys(
    kinds: Sequence[str], tables: Sequence[groups_kernel.GroupTable]
) -> tuple[Any, list[Int32Array]]:
    """A table of the keys of several tables, and for each of these the places of its keys in the order of all."""
    whole = groups_kernel.GroupTable(list(kinds))
    ids = [
        [whole.assign(table.columns(some), len(some)) for some in _in_pieces(table.size)] for table in tables
    ]
    ranks = whole.ranks()
    return whole, [ranks[np.concatenate([np.empty(0, np.int32), *each])] for each in ids]


def keys_of_parts(
    kinds: Sequence[str], whole: Any, part_of: Callable[[Sequence[Any], int], Int64Array], parts: int
) -> tuple[list[Saved], list[Int64Array]]:
    """A table of keys as saved tables of parts, and for each part the number that each key has there, -1 for those of other parts."""
    tables = [groups_kernel.GroupTable(list(kinds)) for _ in range(parts)]
    new = [np.full(whole.size, -1, np.int64) for _ in range(parts)]
    for some in _in_pieces(whole.size):
        columns = [column_of_raw(raw) for raw in whole.columns(some)]
        of_rows = part_of([raw_column(column) for column in columns], len(some))
        for part, table in enumerate(tables):
            rows = np.flatnonzero(of_rows == part)
            taken = [raw_column(column.take(rows)) for column in columns]
            new[part][some[rows]] = table.assign(taken, len(rows))
    return [saved(frozen_keys(table)) for table in tables], new


def _in_pieces(size: int) -> list[Int32Array]:
    ids = np.arange(size, dtype=np.int32)
    return [ids[start : start + KEYS_AT_ONCE] for start in range(0, size, KEYS_AT_ONCE)]


# -- cells ---------------------------------------------------------------------------------------------------------------


def frozen_cells(states: Sequence[Frozen], told: Told) -> Frozen:
    """The frozen window states of parts, whose groups have their places among all, as one."""
    fields = cells_fields(states, told)
    return FrozenTogether(fields, states, lambda found: joined_cells(found, fields))


def cells_fields(states: Sequence[Frozen], told: Told) -> dict[str, Plain]:
    fields: list[Any] = [state.fields for state in states]
    last = max(fields, key=lambda each: () if each["closed"] is None else tuple(each["closed"]))
    return {**last, "advanced": max(each["advanced"] for each in fields), **told._asdict()}


def joined_cells(
    states: Sequence[Saved], fields: Mapping[str, Any], new: Sequence[Int64Array] | None = None
) -> dict[str, Array]:
    """The saved cells of several window states as those of one.  ``new[s][g]``: the number of group g of state s there; None: its own."""
    heads, groups, blocks, before = [], [], [], 0
    for place, state in enumerate(states):
        cells = state.parts["cells"]
        heads.append(np.repeat(state.parts["panes"], state.parts["panes"]["cells"]))
        groups.append(cells["group"] if new is None else new[place][cells["group"]])
        of_state = state.parts["blocks"].copy()
        of_state["cell"] += before
        blocks.append(of_state)
        before += len(cells)
    cells, data = (
        np.concatenate([state.parts[name] for state in states]) for name in ("cells", "block_bytes")
    )
    found = _Cells(np.concatenate(heads), np.concatenate(groups), np.arange(len(cells))).in_order()
    return found.filled(fields).arrays(cells, np.concatenate(blocks), data)


def cells_of_part(state: Saved, new: Int64Array) -> Saved:
    """The saved window state of the groups that have a number in ``new``, by that."""
    panes, cells, blocks, data = (state.parts[name] for name in ("panes", "cells", "blocks", "block_bytes"))
    groups = new[cells["group"]]
    kept = np.flatnonzero(groups >= 0)
    found = _Cells(np.repeat(panes, panes["cells"])[kept], groups[kept], kept).in_order()
    return Saved({**state.fields, "windows_closed": 0}, found.arrays(cells, blocks, data))


class _Cells(Struct, frozen=True, eq=False):
    """Cells to be saved: of each its pane (a record of ``PANE``), its group, and where the saved cell stands whose content it has."""

    heads: Array
    groups: Int64Array
    sources: IndexArray

    def in_order(self) -> _Cells:
        """By pane, then group."""
        order = np.lexsort((self.groups, *(self.heads[name] for name in reversed(_PLACE))))
        return _Cells(self.heads[order], self.groups[order], self.sources[order])

    def begins(self) -> IndexArray:
        """Where each pane begins."""
        first = np.ones(len(self.heads), np.bool_)
        first[1:] = np.logical_or.reduce([self.heads[name][1:] != self.heads[name][:-1] for name in _PLACE])
        return np.flatnonzero(first)

    def filled(self, fields: Mapping[str, Any]) -> _Cells:
        """In the block of panes where a hopping window was closed, a pane holds what it and those after it hold.  So a group that has a
        cell in a pane there has one in every pane before; a part has none where none of its own rows made that pane."""
        size, every, _ = fields["shape"]
        if fields["closed"] is None or size == every:
            return self
        step = 2 if size % every else 1
        span = size // every * step + step - 1
        begin = wide(*fields["closed"]) * step
        cut = (begin // span + 1) * span
        bounds = [*self.begins().tolist(), len(self.heads)]
        more: list[_Cells] = []
        after: _Cells | None = None
        for start, stop in reversed(list(pairwise(bounds))):
            head = self.heads[start]
            number, first = wide(int(head[0]), int(head[1])), wide(int(head[2]), int(head[3]))
            if not begin <= number < cut or first != -((span - 1 - number) // step):
                continue
            pane = _Cells(self.heads[start:stop], self.groups[start:stop], self.sources[start:stop])
            if after is not None:
                missing = np.flatnonzero(~np.isin(after.groups, pane.groups))
                more.append(
                    _Cells(np.repeat(head, len(missing)), after.groups[missing], after.sources[missing])
                )
                pane = _cells([pane, more[-1]])
            after = pane
        return _cells([self, *more]).in_order() if more else self

    def arrays(self, cells: Array, blocks: Array, data: Array) -> dict[str, Array]:
        """What is saved of them; ``cells``, ``blocks``, ``data``: where their content stands."""
        begins = self.begins()
        panes = self.heads[begins].astype(PANE)
        panes["cells"] = np.diff(np.append(begins, len(self.heads)))
        cells = cells[self.sources]
        cells["group"] = self.groups
        first, last = (np.searchsorted(blocks["cell"], self.sources, side=side) for side in ("left", "right"))
        counts = last - first
        ends = np.cumsum(counts)
        chosen = np.repeat(first - (ends - counts), counts) + np.arange(int(ends[-1]) if len(ends) else 0)
        places = np.cumsum(blocks["bytes"]) - blocks["bytes"]
        data = _bytes_of(data, places[chosen], blocks["bytes"][chosen])
        blocks = blocks[chosen]
        blocks["cell"] = np.repeat(np.arange(len(cells)), counts)
        return {"panes": panes, "cells": cells, "blocks": blocks, "block_bytes": data}


def _cells(several: Sequence[_Cells]) -> _Cells:
    return _Cells(
        *(
            np.concatenate(each)
            for each in zip(*((c.heads, c.groups, c.sources) for c in several), strict=True)
        )
    )


def _bytes_of(data: Array, begins: Int64Array, lengths: Int64Array) -> NDArray[np.uint8]:
    """The bytes of these places, end to end."""
    ends = np.cumsum(lengths)
    out, row = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8), 0
    while row < len(ends):  # places take 8 bytes for each byte, so they are made in pieces
        low = int(ends[row] - lengths[row])
        stop = max(row + 1, int(np.searchsorted(ends, low + BYTES_AT_ONCE, side="right")))
        high = int(ends[stop - 1])
        if stop == row + 1:
            out[low:high] = data[int(begins[row]) : int(begins[row]) + high - low]
        else:
            moved = begins[row:stop] - (ends[row:stop] - lengths[row:stop])
            out[low:high] = data[np.arange(low, high) + np.repeat(moved, lengths[row:stop])]
        row = stop
    return out


# -- sessions ------------------------------------------------------------------------------------------------------------


def frozen_sessions(sessions: Sequence[Frozen], cells: Sequence[Frozen], told: Told) -> dict[str, Frozen]:
    """The frozen sessions of parts, whose groups have their places among all, and the window states of their slots, as one."""
    fields: list[Any] = [state.fields for state in sessions]
    of_windows = {
        **fields[0],
        "watermark_ns": max(each["watermark_ns"] for each in fields),
        "greatest_watermark_ns": max(each["greatest_watermark_ns"] for each in fields),
        "mixed": any(each["mixed"] for each in fields),
        "windows_closed": sum(each["windows_closed"] for each in fields),
        "groups": sum(each["groups"] for each in fields),
    }
    found: list[Saved] = []

    def of_sessions(states: list[Saved]) -> dict[str, Array]:
        found.extend(states)
        return _joined_sessions(states)[0]

    def of_cells(states: list[Saved]) -> dict[str, Array]:
        return joined_cells(states, of_slots, _joined_sessions(found)[1])

    of_slots = cells_fields(cells, told._replace(windows_closed=0))
    return {
        "windows": FrozenTogether(of_windows, sessions, of_sessions),
        "cells": FrozenTogether(of_slots, cells, of_cells),
    }


def _joined_sessions(states: Sequence[Saved]) -> tuple[dict[str, Array], list[Int64Array]]:
    """The sessions of all in order, and for each state the slots that its slots are there: slot 0 is nobody's, session i has slot i + 1."""
    group, first, last = (
        np.concatenate([state.parts[name] for state in states]) for name in ("group", "first", "last")
    )
    order = np.lexsort((first, group))
    slots = np.empty(len(order), np.int64)
    slots[order] = np.arange(1, len(order) + 1)
    ends = np.cumsum([len(state.parts["group"]) for state in states])
    of_states = [np.concatenate([[0], each]) for each in np.split(slots, ends[:-1])]
    return {"group": group[order], "first": first[order], "last": last[order]}, of_states


def sessions_of_part(sessions: Saved, cells: Saved, new: Int64Array, *, first: bool) -> dict[str, Saved]:
    """The saved sessions of the groups that have a number in ``new``, by that, and what their slots hold."""
    groups = new[sessions.parts["group"]]
    kept = np.flatnonzero(groups >= 0)
    slots = np.full(len(groups) + 1, -1, np.int64)
    slots[kept + 1] = np.arange(1, len(kept) + 1)
    fields = {**sessions.fields, "groups": int(np.count_nonzero(new >= 0))}
    if not first:
        fields["windows_closed"] = 0
    arrays: dict[str, Array] = {name: sessions.parts[name][kept] for name in ("first", "last")}
    return {
        "windows": Saved(fields, {"group": groups[kept].astype(np.int32), **arrays}),
        "cells": cells_of_part(cells, slots),
    }


# -- dedup ---------------------------------------------------------------------------------------------------------------


def frozen_times(times: Sequence[Frozen]) -> Frozen:
    """The frozen times that parts remember, whose groups have their places among all, as one."""
    fields: list[Any] = [state.fields for state in times]
    told = {
        **fields[0],
        "watermark_ns": max(each["watermark_ns"] for each in fields),
        "groups": sum(each["groups"] for each in fields),
    }
    return FrozenTogether(told, times, _joined_times)


def _joined_times(states: Sequence[Saved]) -> dict[str, Array]:
    group, time = (np.concatenate([state.parts[name] for state in states]) for name in ("group", "time"))
    order = np.lexsort((time, group))
    return {"group": group[order], "time": time[order]}


def times_of_part(times: Saved, new: Int64Array) -> Saved:
    """The saved times of the groups that have a number in ``new``, by that."""
    groups = new[times.parts["group"]]
    kept = np.flatnonzero(groups >= 0)
    fields = {**times.fields, "groups": int(np.count_nonzero(new >= 0))}
    return Saved(fields, {"group": groups[kept].astype(np.int32), "time": times.parts["time"][kept]})
