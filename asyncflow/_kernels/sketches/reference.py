"""Sketches, plain: accumulators of bounded size.  The twin of ``sketches/sketches.h``; the algorithms, their sources and their
bounds are in words at the head of ``sketches/distinct.h``, ``sketches/ranks.h``, ``sketches/quantile.h`` and ``sketches/top.h``.

``Distinct`` and ``ApproxQuantile`` depend on the values alone, not on their order or on merges; ``Ranks`` and ``Top`` on the order too.
"""

from __future__ import annotations

import math
import struct
import sys
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from asyncflow._kernels.accumulators.saved import (
    MOST_ROWS,
    VALUE,
    Blocks,
    Loading,
    Word,
    check,
    float_of,
    packed,
    sorting_word,
)
from asyncflow._kernels.groups.reference import canonical, sort_key
from asyncflow._kernels.strings.reference import hash_text, mix

REGISTER_BITS = 14
LAST_RANK = 64 - REGISTER_BITS
MAX_HASHES = 1536
EXACT = 4096
LEVEL_FULL = 1024
FEW_VALUES = 128
SIGN_BUCKETS = 2048
OCTAVE = 35
KEY_OFFSET = 40_000
INFINITE, NAN = 2**20, 2**20 + 1
NO_ENDS = 2**63 - 1, -(2**63)
MOST_LEVELS = 46


def hash_of(value: Any) -> int:
    """The fixed hash by which different values are counted; 0 for none."""
    if isinstance(value, bytes):
        return hash_text(value) or 1
    if isinstance(value, float):
        (bits,) = struct.unpack("<q", struct.pack("<d", math.nan if math.isnan(value) else value + 0.0))
        value = bits if bits >= 0 else bits ^ 2**63 - 1  # a word that sorts like the value
    return mix(int(value) & 2**64 - 1) or 1


class ApproxDistinct:
    """Hashes while there are few, then for each register the set of its ranks, of which the greatest and the two below it count."""

    def __init__(self) -> None:
        self.seen = 0
        self.hashes: set[int] | None = set()
        self.registers: dict[int, frozenset[int]] = {}

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self.seen += 1
        self._put(hash_of(values[0]))

    def _put(self, hashed: int) -> None:
        if self.hashes is not None:
            self.hashes.add(hashed)
            if len(self.hashes) > MAX_HASHES:
                self._spread()
            return
        rest = hashed & (1 << LAST_RANK) - 1
        self._see(hashed >> LAST_RANK, frozenset({LAST_RANK - rest.bit_length() + 1}))

    def _spread(self) -> None:
        hashes, self.hashes = self.hashes, None
        for hashed in hashes or ():
            self._put(hashed)

    def _see(self, register: int, ranks: frozenset[int]) -> None:
        ranks |= self.registers.get(register, frozenset())
        self.registers[register] = frozenset(rank for rank in ranks if rank >= max(ranks) - 2)

    def merge(self, other: ApproxDistinct) -> None:
        self.seen += other.seen
        if other.hashes is not None:
            for hashed in other.hashes:
                self._put(hashed)
            return
        self._spread()
        for register, ranks in other.registers.items():
            self._see(register, ranks)

    def result(self) -> int:
        if self.hashes is not None:
            return len(self.hashes)
        seen: Counter[int] = Counter()  # the last two ranks in one
        missing = float(2**REGISTER_BITS - len(self.registers))
        for ranks, registers in sorted(Counter(self.registers.values()).items(), key=_register_word):
            top = max(ranks)
            missing += math.ldexp(registers, -top) if top <= LAST_RANK else 0.0
            for rank in range(top, max(top - 3, 0), -1):
                if rank in ranks:
                    seen[min(rank, LAST_RANK)] += registers
                else:
                    missing += math.ldexp(registers, -rank)
        estimate = _likeliest(seen, missing) * float(2**REGISTER_BITS)
        return round(max(estimate, seen.total())) if estimate < self.seen else self.seen

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        if not self.seen:
            return [], []
        head = struct.pack("<2q", self.seen, len(self.hashes or ()))
        if self.hashes is None:
            registers = (self.registers.get(at, frozenset()) for at in range(2**REGISTER_BITS))
            return [], [(VALUE, head + bytes(map(_register, registers)))]
        signed = sorted(_signed(hashed) for hashed in self.hashes)
        return [], [(VALUE, head + struct.pack(f"<{len(signed)}q", *signed))]

    def load(self, saved: Loading) -> None:
        view = saved.take(VALUE)
        if view is None:
            return
        self.seen, count = view.words(2)
        check(0 <= count <= min(MAX_HASHES, self.seen) and 1 <= self.seen <= MOST_ROWS, "numbers of values")
        if count:
            hashes = view.words(count)
            check(0 not in hashes and _rises(hashes), "hashes that are not in order")
            self.hashes = {hashed % 2**64 for hashed in hashes}
        else:
            check(self.seen > MAX_HASHES, "registers of few values")
            self.hashes = None
            for at, register in enumerate(view.bytes(2**REGISTER_BITS)):
                if register:
                    self.registers[at] = _ranks_of(register)
        check(not view.left, "a block is too long")


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _rises(words: Sequence[int]) -> bool:
    return all(one < other for one, other in pairwise(words))


def _register(ranks: frozenset[int]) -> int:
    """A register's byte: its greatest rank, and which of the two below it came."""
    if not ranks:
        return 0
    top = max(ranks)
    return top << 2 | (top - 1 in ranks) << 1 | (top - 2 in ranks)


def _ranks_of(register: int) -> frozenset[int]:
    top = register >> 2
    ranks = frozenset({top, *(top - below for below in (1, 2) if register & 4 >> below)})
    check(min(ranks) >= 1 and top <= LAST_RANK + 1, "a register that no values give")
    return ranks


def _register_word(item: tuple[frozenset[int], int]) -> list[int]:
    top = max(item[0])
    return [top, top - 1 in item[0], top - 2 in item[0]]


def _likeliest(seen: Counter[int], missing: float) -> float:
    """The rate where the likelihood's derivative is zero."""
    weighted = 0.0
    for rank in range(1, LAST_RANK + 1):
        weighted += math.ldexp(seen[rank], -rank)
    rate = seen.total() / (missing + 0.5 * weighted)
    for _ in range(64):
        left, slope, minus_one = 0.0, 0.0, math.ldexp(rate, -90)
        for rank in range(89, 0, -1):
            if not minus_one < 1e16:
                break
            minus_one *= 2.0 + minus_one
            if seen[rank]:
                weight = math.ldexp(1.0, -rank)
                share = seen[rank] * weight / minus_one
                left += share
                slope += share * weight * ((1.0 + minus_one) / minus_one)
        if not slope or not (step := (left - missing) / slope) > rate * 1e-12:
            break
        rate += step
    return rate


def _sorting(value: float) -> tuple[bool, float, float]:
    """-0.0 before 0.0, NaN last."""
    return (True, 0.0, 0.0) if math.isnan(value) else (False, value, math.copysign(1.0, value))


def between(low: float, high: float, part: float) -> float:
    """From one value to another by a straight line."""
    if part == 0.0:
        return low
    distance = high - low
    if not math.isfinite(distance):
        return low * (1.0 - part) + high * part
    return low + distance * part if part < 0.5 else high - distance * (1.0 - part)


class Ranks:
    """Values as words in order: level 0, then levels whose values stand for 2, 4, 8, ... each."""

    def __init__(self, kind: str) -> None:
        self.floats = kind == "float64"
        self.count = 0
        self.levels: list[list[int]] = [[]]
        self.halved: list[int] = [0]
        self.ends: list[int] = []  # of those that went up from level 0

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        if len(self.levels[0]) == EXACT:
            self._rise(0, self._halve(0), None)
        insort(self.levels[0], sorting_word(values[0]))
        self.count += 1

    def _reserve(self, levels: int) -> None:
        self.levels += [[] for _ in range(levels - len(self.levels))]
        self.halved += [0] * (levels - len(self.halved))

    def _halve(self, level: int) -> list[int]:
        """Every second word of a level, all of whose words go but for the greatest where they are odd in number."""
        words = self.levels[level]
        if level == 0:
            self.ends = [min([*self.ends, words[0]]), max([*self.ends, words[-1]])]
        self.levels[level] = words[len(words) - len(words) % 2 :]
        halved = self.halved[level]
        self.halved[level] += 1
        return words[: len(words) - len(words) % 2][(mix(halved >> 1 << 6 | level) ^ halved) & 1 :: 2]

    def _rise(self, level: int, run: list[int], other: Ranks | None) -> None:
        beside = len(other.levels) if other is not None else 0
        while run or level + 1 < beside:
            level += 1
            self._reserve(level + 1)
            theirs = other.levels[level] if other is not None and level < beside else []
            self.levels[level] = sorted(self.levels[level] + theirs + run)
            run = self._halve(level) if len(self.levels[level]) >= LEVEL_FULL else []

    def merge(self, other: Ranks) -> None:
        self._reserve(len(other.levels))
        self.count += other.count
        self.ends = (
            [min(self.ends + other.ends), max(self.ends + other.ends)] if self.ends + other.ends else []
        )
        for level, halved in enumerate(other.halved):
            self.halved[level] += halved
        self.levels[0] = sorted(self.levels[0] + other.levels[0])
        self._rise(0, self._halve(0) if len(self.levels[0]) > EXACT else [], other)

    def of_share(self, q: float) -> Any:
        """The value at that share of the values."""
        if not self.count:
            return None
        place = self.count - math.floor(self.count - self.count * q)
        return self._value(max(place, 1) - 1)

    def between(self, q: float) -> float | None:
        """The value at a share of the way from the least to the greatest, between two values by a straight line."""
        if not self.count:
            return None
        share = (self.count - 1) * q
        rank = math.floor(share)
        part = share - rank
        low = float(self._value(rank))
        return low if part == 0.0 else between(low, float(self._value(rank + 1)), part)

    def _value(self, rank: int) -> Any:
        word = self._at(rank)
        return float_of(word) if self.floats else word

    def _at(self, rank: int) -> int:
        """The word at a rank, or one near it."""
        ends = [*self.ends, *self.levels[0]]
        if rank == 0:
            return min(ends)
        if rank == self.count - 1:
            return max(ends)
        weighed = sorted((word, 1 << level) for level, words in enumerate(self.levels) for word in words)
        upto = accumulate(weight for _, weight in weighed)
        return next(word for (word, _), end in zip(weighed, upto, strict=True) if end > rank)

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        if not self.count:
            return [], []
        least, greatest = self.ends or NO_ENDS
        head = [self.count, len(self.levels) - 1, least, greatest]
        for words, halved in zip(self.levels, self.halved, strict=True):
            head += [len(words), halved]
        saved = [*head, *(word for words in self.levels for word in words)]
        return [], [(VALUE, struct.pack(f"<{len(saved)}q", *saved))]

    def load(self, saved: Loading) -> None:
        view = saved.take(VALUE)
        if view is None:
            return
        self.count, levels, *ends = view.words(4)
        check(self.count >= 1 and 0 <= levels <= MOST_LEVELS, "numbers of values or levels")
        heads = [view.words(2) for _ in range(levels + 1)]
        self.halved = [halved for _, halved in heads]
        for level, (length, _) in enumerate(heads):
            check(0 <= length <= (LEVEL_FULL - 1 if level else EXACT), "too many values in a level")
        check(
            sum(length << level for level, (length, _) in enumerate(heads)) == self.count,
            "values that are missing",
        )
        check(
            ends[0] <= ends[1] if levels else (*ends, self.halved[0]) == (*NO_ENDS, 0),
            "the least and the greatest value",
        )
        self.ends = ends if levels else []
        self.levels = [list(view.words(length)) for length, _ in heads]
        check(all(words == sorted(words) for words in self.levels), "values of a level that are not in order")
        check(not view.left, "a block is too long")


def bucket_of(value: float) -> int:
    """The key of a value's bucket; keys sort like values."""
    if math.isnan(value):
        return NAN
    if value == 0.0:
        return 0
    key = INFINITE if math.isinf(value) else _bucket(abs(value)) + KEY_OFFSET
    return key if value > 0.0 else -key


def _bucket(size: float) -> int:
    mantissa, exponent = math.frexp(size)
    u = 2.0 * mantissa - 1.0
    return (exponent - 1) * OCTAVE + min(int(_cubic(u) * float(OCTAVE)), OCTAVE - 1)


def _cubic(u: float) -> float:
    return ((6.0 / 35.0 * u - 3.0 / 5.0) * u + 10.0 / 7.0) * u


def bound_of(part: float) -> float:
    """1 + u where the cubic is ``part``, by Newton's steps."""
    u = part
    for _ in range(6):
        u -= (_cubic(u) - part) / ((18.0 / 35.0 * u - 6.0 / 5.0) * u + 10.0 / 7.0)
    return 1.0 + u


def middle_of(key: int) -> float:
    """The value within 1 % of all values of a bucket."""
    if abs(key) in (INFINITE, NAN) or key == 0:
        return {0: 0.0, NAN: math.nan}.get(key, math.copysign(math.inf, key))
    whole, part = divmod(abs(key) - KEY_OFFSET, OCTAVE)
    low, high = bound_of(float(part) / OCTAVE), bound_of((part + 1.0) / OCTAVE)
    return math.copysign(math.ldexp(2.0 * low * high / (low + high), whole), key)


class ApproxQuantile:
    """Values in order while there are few, then counts of buckets, of which only the result leaves some out."""

    def __init__(self) -> None:
        self.count = 0
        self.values: list[float] = []
        self.buckets: dict[int, int] = {}
        self.least, self.greatest = math.inf, -math.inf

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        self._put(float(values[0]))

    def _put(self, value: float) -> None:
        self.count += 1
        if not math.isnan(value):
            self.least = min(self.least, value, key=_sorting)
            self.greatest = max(self.greatest, value, key=_sorting)
        if self.count <= FEW_VALUES:
            insort(self.values, value, key=_sorting)
            return
        self._spread()
        self._count({bucket_of(value): 1})

    def _spread(self) -> None:
        values, self.values = self.values, []
        self._count(Counter(map(bucket_of, values)))

    def _count(self, counts: dict[int, int]) -> None:
        for key, count in counts.items():
            self.buckets[key] = self.buckets.get(key, 0) + count

    def _kept(self) -> list[tuple[int, int]]:
        """Keys and counts in order: those nearest to zero that are too many of a sign go into the next one."""
        kept = dict(self.buckets)
        for sign in (1, -1):
            sizes = sorted(sign * key for key in kept if 0 < sign * key < INFINITE)
            surplus = len(sizes) - SIGN_BUCKETS
            for size in sizes[: max(surplus, 0)]:
                kept[sign * sizes[surplus]] += kept.pop(sign * size)
        return sorted(kept.items())

    def merge(self, other: ApproxQuantile) -> None:
        for value in other.values:
            self._put(value)
        if not other.buckets:
            return
        self._spread()
        self.count += other.count
        self.least = min(self.least, other.least, key=_sorting)
        self.greatest = max(self.greatest, other.greatest, key=_sorting)
        self._count(other.buckets)

    def result(self, q: float) -> float | None:
        if not self.count:
            return None
        place = (self.count - 1) * q
        part = place - math.floor(place)
        low = self._at(math.floor(place))
        return low if part == 0.0 else between(low, self._at(math.floor(place) + 1), part)

    def _at(self, rank: int) -> float:
        """The value at a rank, or one near it."""
        if self.values:
            return self.values[rank]
        kept = self._kept()
        ends = accumulate(count for _, count in kept)
        key = next(key for (key, _), end in zip(kept, ends, strict=True) if rank < end)
        if key == NAN:
            return math.nan
        if rank == 0:
            return self.least
        if rank == self.count - self.buckets.get(NAN, 0) - 1:
            return self.greatest
        return middle_of(key) if key == 0 else min(max(middle_of(key), self.least), self.greatest)

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        if not self.count:
            return [], []
        if not self.buckets:
            words = sorted(map(sorting_word, self.values))
        else:
            ends = (
                [sorting_word(self.least), sorting_word(self.greatest)]
                if set(self.buckets) != {NAN}
                else NO_ENDS
            )
            words = [*ends, *(word for pair in self._kept() for word in pair)]
        return [], [(VALUE, struct.pack(f"<{len(words) + 1}q", self.count, *words))]

    def load(self, saved: Loading) -> None:
        view = saved.take(VALUE)
        if view is None:
            return
        count = view.word()
        check(1 <= count <= MOST_ROWS, "a number of values")
        if count <= FEW_VALUES:
            words = view.words(count)
            check(list(words) == sorted(words) and all(map(_is_float, words)), "values that are not in order")
            for word in words:
                self._put(float_of(word))
            check(not view.left, "a block is too long")
            return
        least, greatest = view.words(2)
        check(view.left % 16 == 0, "half a bucket")
        pairs = [view.words(2) for _ in range(view.left // 16)]
        keys = [key for key, _ in pairs]
        check(_rises(keys) and all(map(_is_key, keys)), "keys of buckets")
        check(
            all(count >= 1 for _, count in pairs) and sum(count for _, count in pairs) == count,
            "counts of buckets",
        )
        for sign in (1, -1):
            check(sum(0 < sign * key < INFINITE for key in keys) <= SIGN_BUCKETS, "too many buckets")
        if keys == [NAN]:
            check((least, greatest) == NO_ENDS, "the least and the greatest value")
        else:
            fits = _is_float(least) and _is_float(greatest) and least <= greatest < sorting_word(math.nan)
            check(fits, "the least and the greatest value")
            self.least, self.greatest = float_of(least), float_of(greatest)
        self.count = count
        self.buckets = dict(zip(keys, (pair[1] for pair in pairs), strict=True))


def _is_float(word: int) -> bool:
    return sorting_word(-math.inf) <= word <= sorting_word(math.inf) or word == sorting_word(math.nan)


def _is_key(key: int) -> bool:
    return key in (0, NAN, INFINITE, -INFINITE) or bucket_of(5e-324) <= abs(key) <= bucket_of(
        sys.float_info.max
    )


class Top:
    """Counts by value, the oldest first; ``exact`` until a value had to go."""

    def __init__(self, kind: str, counters: int) -> None:
        self.kind, self.most = kind, counters
        self.counts: dict[Any, int] = {}
        self.exact = True

    def add(self, values: tuple[Any, ...], time: int, arrival: int) -> None:
        value, count = canonical(values[0]), 0
        if value not in self.counts and len(self.counts) == self.most:
            least = min(self.counts, key=self.counts.__getitem__)
            count = self.counts.pop(least)
            self.exact = False
        self.counts[value] = self.counts.get(value, count) + 1

    def _floor(self) -> int:
        return 0 if self.exact else min(self.counts.values())

    def merge(self, other: Top) -> None:
        mine, theirs = self._floor(), other._floor()
        merged = {value: count + other.counts.get(value, theirs) for value, count in self.counts.items()}
        merged |= {value: count + mine for value, count in other.counts.items() if value not in self.counts}
        kept = set(sorted(merged, key=lambda value: -merged[value])[: self.most])
        self.exact = self.exact and other.exact and len(kept) == len(merged)
        self.counts = {value: count for value, count in merged.items() if value in kept}

    def result(self, k: int) -> list[tuple[Any, int]] | None:
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], sort_key(item[0])))
        return ranked[:k] or None

    def save(self, rows: int) -> tuple[list[Word], Blocks]:
        if not self.counts:
            return [], []
        saved = struct.pack("<2q", self.exact, len(self.counts))
        for value, count in self.counts.items():
            saved += struct.pack("<q", count) + packed(self.kind, value)
        return [], [(VALUE, saved)]

    def load(self, saved: Loading) -> None:
        view = saved.take(VALUE)
        if view is None:
            return
        exact, length = view.words(2)
        check(
            exact in (0, 1) and 1 <= length <= self.most and (exact == 1 or length == self.most),
            "numbers of values",
        )
        self.exact = bool(exact)
        for _ in range(length):
            count = view.word()
            check(1 <= count <= MOST_ROWS, "a count")
            value = view.value(self.kind)
            check(value not in self.counts, "a value twice")
            self.counts[value] = count
        check(not view.left, "a block is too long")
