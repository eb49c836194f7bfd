"""Makes the benchmark's inputs: seeded, the same bytes on every machine, kept in ``bench/data``.

Rows are laid out a block at a time as a matrix of bytes, one row of text per matrix row, each field written
from a table of ready-made texts and padded with zero bytes; taking the zero bytes out gives the file.  Event
time is epoch milliseconds that advance evenly with the row number, each row held back by up to five seconds, so a
watermark delay of 5 s loses nothing.  Only raw generator output is used (no distribution functions): the bytes do
not change with numpy's version.

``python bench/data.py csv-10k --rows 1000000`` makes one file and prints its path; with no name, all.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIRECTORY = Path(__file__).resolve().parent / "data"
BLOCK_ROWS = 1 << 17
START_MS = 1_700_000_000_000
DISORDER_MS = 5_000
VERSION = 1  # in the file names: raise it when a maker changes

Text = NDArray[np.uint8]
"""Texts of one length each row, padded with zero bytes: shape (rows, width)."""


def texts(values: list[str]) -> Text:
    """A table of texts, zero-padded to the longest."""
    column = np.array([value.encode() for value in values])
    return column.view(np.uint8).reshape(len(values), column.dtype.itemsize)


def lay_out(rows: int, *pieces: bytes | Text) -> Text:
    """The pieces side by side, constants repeated on every row."""
    widths = [len(piece) if isinstance(piece, bytes) else piece.shape[1] for piece in pieces]
    matrix = np.empty((rows, sum(widths)), np.uint8)
    at = 0
    for piece, width in zip(pieces, widths, strict=True):
        matrix[:, at : at + width] = np.frombuffer(piece, np.uint8) if isinstance(piece, bytes) else piece
        at += width
    return matrix


def squeeze(matrix: Text) -> bytes:
    """The matrix as text: its bytes in order, padding left out."""
    flat = matrix.reshape(-1)
    return flat[flat != 0].tobytes()


class Dice:
    """Seeded draws: ``below(rows, n)`` gives numbers in [0, n), n at most 2**32."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def below(self, rows: int, n: int) -> NDArray[np.intp]:
        raw = self._bits.random_raw(rows)
        return (((raw >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32)).astype(np.intp)


# --- fields

PADDED = texts([f"{number:04d}" for number in range(10_000)])
PLAIN = texts([str(number) for number in range(10_000)])


def timestamps(first_row: int, rows: int, rows_per_ms: float, dice: Dice) -> NDArray[np.int64]:
    """Epoch milliseconds of a block of rows, 5 s of disorder."""
    moved = (np.arange(first_row, first_row + rows) / rows_per_ms).astype(np.int64)
    return START_MS + moved - dice.below(rows, DISORDER_MS)


def moments(first_row: int, rows: int, rows_per_ms: float) -> NDArray[np.int64]:
    """Epoch milliseconds of a block of rows, in order."""
    return START_MS + (np.arange(first_row, first_row + rows) / rows_per_ms).astype(np.int64)


def thirteen_digits(numbers: NDArray[np.int64]) -> Text:
    head, low = np.divmod(numbers, 10_000)
    head, middle = np.divmod(head, 10_000)
    first, high = np.divmod(head, 10_000)
    return np.hstack([PLAIN[first][:, :1], PADDED[high], PADDED[middle], PADDED[low]])


def counted(numbers: NDArray[np.int64]) -> Text:
    """Whole numbers below 10**8 without leading zeros."""
    high, low = np.divmod(numbers, 10_000)
    tail = np.where((high > 0)[:, None], PADDED[low], PLAIN[low])
    return np.hstack([np.where((high > 0)[:, None], PLAIN[high], np.uint8(0)), tail])


def key_table(count: int, dice: Dice) -> Text:
    """``count`` different keys of 3 to 20 bytes: a code in base 36, then if room is left a dash and filler."""
    alphabet = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8)
    code_width = 3 if count <= 36**3 else 4
    table = np.zeros((count, 20), np.uint8)
    number = np.arange(count)
    for place in range(code_width):
        table[:, place] = alphabet[number % 36]
        number //= 36
    length = 3 + dice.below(count, 18)
    table[length > code_width, code_width] = ord("-")
    for place in range(code_width + 1, 20):
        letters = alphabet[dice.below(count, 36)]
        table[:, place] = np.where(length > place, letters, 0)
    return table


def value_table() -> Text:
    """Every value there can be: 0 to 999, one or two decimals; the second half is negative."""
    fractions = [f"{tenths}" for tenths in range(10)] + [f"{hundredths:02d}" for hundredths in range(100)]
    positive = [f"{whole}.{fraction}" for whole in range(1000) for fraction in fractions]
    return texts(positive + [f"-{value}" for value in positive])


def value_rows(rows: int, dice: Dice) -> NDArray[np.intp]:
    """Rows of ``value_table``: 30 % negative, three quarters below 100, a third with one decimal."""
    whole = np.where(dice.below(rows, 4) == 0, dice.below(rows, 1000), dice.below(rows, 100))
    one_decimal = dice.below(rows, 3) == 0
    fraction = np.where(one_decimal, dice.below(rows, 10), 10 + dice.below(rows, 100))
    negative = dice.below(rows, 10) < 3
    return np.asarray(negative * 110_000 + whole * 110 + fraction)


# --- files: each maker yields its blocks

Blocks = Iterator[bytes]


def blocks_of(rows: int) -> Iterator[tuple[int, int]]:
    for first in range(0, rows, BLOCK_ROWS):
        yield first, min(BLOCK_ROWS, rows - first)


def events_csv(rows: int, seed: int, keys: int, rows_per_ms: float) -> Blocks:
    """``ts,key,value``."""
    dice = Dice(seed)
    names, values = key_table(keys, dice), value_table()
    yield b"ts,key,value\n"
    for first, count in blocks_of(rows):
        ts = thirteen_digits(timestamps(first, count, rows_per_ms, dice))
        key, value = names[dice.below(count, keys)], values[value_rows(count, dice)]
        yield squeeze(lay_out(count, ts, b",", key, b",", value, b"\n"))


def fresh_csv(rows: int, seed: int, rows_per_ms: float) -> Blocks:
    """``ts,key,value`` where keys come for about a second of event time and never again, four rows each."""
    dice = Dice(seed)
    values = value_table()
    yield b"ts,key,value\n"
    for first, count in blocks_of(rows):
        moved = (np.arange(first, first + count) / rows_per_ms).astype(np.int64)
        alive = max(1, int(rows_per_ms * 1000) // 4)
        key = np.arange(first, first + count) // 4 + dice.below(count, alive)
        ts, value = thirteen_digits(START_MS + moved), values[value_rows(count, dice)]
        yield squeeze(lay_out(count, ts, b",session-", counted(key), b",", value, b"\n"))


ORDER_NUMBERS = 20_000_000
"""The number of the first order; those below it are older than the file."""


def orders_csv(rows: int, seed: int, rows_per_ms: float) -> Blocks:
    """``ts,id,key,value`` in order of time: orders of 1,000 shops, numbered as they come."""
    dice = Dice(seed)
    names, values = key_table(1000, dice), value_table()
    yield b"ts,id,key,value\n"
    for first, count in blocks_of(rows):
        ts = thirteen_digits(moments(first, count, rows_per_ms))
        number = counted(np.arange(first, first + count) + ORDER_NUMBERS)
        key, value = names[dice.below(count, 1000)], values[value_rows(count, dice)]
        yield squeeze(lay_out(count, ts, b",", number, b",", key, b",", value, b"\n"))


def payments_csv(rows: int, seed: int, rows_per_ms: float) -> Blocks:
    """``ts,id,paid`` in order of time: three quarters within two minutes of their order, the others within a quarter of an hour.
    An order may be paid more than once, or never."""
    dice = Dice(seed)
    values = value_table()
    yield b"ts,id,paid\n"
    for first, count in blocks_of(rows):
        soon = dice.below(count, 4) > 0
        after_ms = np.where(soon, dice.below(count, 120_000), dice.below(count, 900_000))
        number = np.arange(first, first + count) - (after_ms * rows_per_ms).astype(np.int64)
        ts, paid = thirteen_digits(moments(first, count, rows_per_ms)), values[value_rows(count, dice)]
        yield squeeze(lay_out(count, ts, b",", counted(number + ORDER_NUMBERS), b",", paid, b"\n"))


def prices_csv(rows: int, seed: int, name: str, keys: int = 1000) -> Blocks:
    """``ts,key,NAME`` in order of time, one row a millisecond of one of ``keys`` symbols: no two of a symbol at once."""
    symbols, dice, values = key_table(keys, Dice(9)), Dice(seed), value_table()
    yield f"ts,key,{name}\n".encode()
    for first, count in blocks_of(rows):
        ts = thirteen_digits(moments(first, count, 1.0))
        key, value = symbols[dice.below(count, keys)], values[value_rows(count, dice)]
        yield squeeze(lay_out(count, ts, b",", key, b",", value, b"\n"))


def wide_csv(rows: int, seed: int, keys: int, rows_per_ms: float) -> Blocks:
    """Ten columns, three of them wanted; one row in a hundred has a quoted comment with quotes inside."""
    dice = Dice(seed)
    names, values = key_table(keys, dice), value_table()
    hosts = texts([f"host-{number}.dc1" for number in range(200)])
    status = texts(["200", "301", "404", "500"])
    urls = texts([f"/api/v1/item/{number * 37 % 1_000_000}" for number in range(65_536)])
    flags = texts(["true", "false"])
    comments = texts(["plain"] * 99 + ['"said ""hello"", twice"'])
    yield b"id,ts,host,status,key,url,value,latency,flag,comment\n"
    for first, count in blocks_of(rows):
        comma = b","
        yield squeeze(
            lay_out(
                count,
                *(counted(np.arange(first, first + count)), comma),
                *(thirteen_digits(timestamps(first, count, rows_per_ms, dice)), comma),
                *(hosts[dice.below(count, 200)], comma, status[dice.below(count, 4)], comma),
                *(names[dice.below(count, keys)], comma, urls[dice.below(count, 65_536)], comma),
                *(values[value_rows(count, dice)], comma, counted(dice.below(count, 100_000)), comma),
                *(flags[dice.below(count, 2)], comma, comments[dice.below(count, 100)], b"\n"),
            )
        )


def urls_csv(rows: int, seed: int, rows_per_ms: float) -> Blocks:
    """A URL of about 75 bytes a row, nearly all different; 9,600 hosts, sections and shelves together."""
    dice = Dice(seed)
    values = value_table()
    hosts = texts([f"https://www.Shop-{number}.example.com/" for number in range(40)])
    sections = texts([f"{name}-{number}/" for name in ("shoes", "coats") for number in range(10)])
    shelves = texts([f"Shelf{number}/" for number in range(12)])
    yield b"ts,url,value\n"
    for first, count in blocks_of(rows):
        url = hosts[dice.below(count, 40)], sections[dice.below(count, 20)], shelves[dice.below(count, 12)]
        page = (
            b"item",
            counted(dice.below(count, 1_000_000)),
            b"?ref=Mail&n=",
            counted(np.arange(first, first + count)),
        )
        ts, value = (
            thirteen_digits(timestamps(first, count, rows_per_ms, dice)),
            values[value_rows(count, dice)],
        )
        yield squeeze(lay_out(count, ts, b",", *url, *page, b",", value, b"\n"))


def events_ndjson(rows: int, seed: int, keys: int, rows_per_ms: float) -> Blocks:
    """Flat records, one layout: ``ts``, ``key``, ``value`` and one more that nobody wants."""
    dice = Dice(seed)
    names, values = key_table(keys, dice), value_table()
    extras = key_table(4096, dice)
    for first, count in blocks_of(rows):
        ts = thirteen_digits(timestamps(first, count, rows_per_ms, dice))
        key, value = names[dice.below(count, keys)], values[value_rows(count, dice)]
        extra = extras[dice.below(count, 4096)]
        fields = (b'{"ts":', ts, b',"key":"', key, b'","value":', value, b',"extra":"', extra, b'"}\n')
        yield squeeze(lay_out(count, *fields))


def mixed_ndjson(rows: int, seed: int, keys: int, rows_per_ms: float) -> Blocks:
    """Records with five rotating field orders, a third with spaces, nested values, escapes in strings."""
    dice = Dice(seed)
    names, values = key_table(keys, dice), value_table()
    extras = texts([r"plain text"] * 4 + [r"a\"b}{,\\ é"])
    nested = texts(['{"a":[1,2,{"ts":5}],"b":null}', '{"c":"}\\"","value":[]}', "[[],{}]", "null"])
    for first, count in blocks_of(rows):
        space = np.where(dice.below(count, 3) == 0, ord(" "), 0).astype(np.uint8)[:, None]
        fields: list[tuple[bytes | Text, ...]] = [
            (b'"ts":', space, thirteen_digits(timestamps(first, count, rows_per_ms, dice))),
            (b'"key":', space, b'"', names[dice.below(count, keys)], b'"'),
            (b'"value":', space, values[value_rows(count, dice)]),
            (b'"extra":', space, b'"', extras[dice.below(count, 5)], b'"'),
            (b'"meta":', space, nested[dice.below(count, 4)]),
        ]
        order = dice.below(count, 5)
        matrix: Text | None = None
        for turn in range(5):
            here = np.flatnonzero(order == turn)
            pieces: list[bytes | Text] = []
            for field in fields[turn:] + fields[:turn]:
                pieces += [b",", space] if pieces else [b"{"]
                pieces += field
            chosen = [piece if isinstance(piece, bytes) else piece[here] for piece in pieces]
            part = lay_out(len(here), *chosen, b"}\n")
            if matrix is None:
                matrix = np.empty((count, part.shape[1]), np.uint8)
            matrix[here] = part
        assert matrix is not None
        yield squeeze(matrix)


def station_names() -> list[str]:
    """413 made-up place names of 3 to 24 bytes, some with spaces and letters outside ASCII."""
    heads = ["Al", "Bran", "Cor", "Dún", "Est", "Fjell", "Gar", "Høy", "Ist", "Jar", "Kol", "Lin"]
    heads += ["Mon", "Nor", "Ost", "Pel", "Quin", "Rav", "Sor", "Tor", "Ull", "Vin", "Wes", "Zür"]
    tails = ["a", "berg", "dale", "ford", "grad", "haven", "ia", "mouth", "polis", "stad", "ton", "vik"]
    seconds = ["", " North", " Bay", " upon Sea", " São"]
    every = [head + tail + second for second in seconds for tail in tails for head in heads]
    return every[:413]


def stations_csv(rows: int, seed: int) -> Blocks:
    """``station;12.3``, no header: the format of the one billion row challenge."""
    dice = Dice(seed)
    names = texts(station_names())
    readings = texts([f"{tenths / 10:.1f}" for tenths in range(-999, 1000)])
    for _first, count in blocks_of(rows):
        station = dice.below(count, len(names))
        # The sum of four draws is close enough to a bell; each station has its own middle.
        spread = sum(dice.below(count, 300) for _ in range(4)) - 598
        tenths = np.clip(spread + station * 7 % 350 - 50, -999, 999)
        yield squeeze(lay_out(count, names[station], b";", readings[tenths + 999], b"\n"))


# --- what there is

PER_HOUR = 16_000_000 / 3_600_000  # rows per ms at which the full events file covers one hour


@dataclass(frozen=True)
class Dataset:
    name: str
    suffix: str
    rows: int  # at full size: about 500 MB or more
    blocks: Callable[[int], Blocks]
    packed: bool = False


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("csv-100", ".csv", 16_000_000, lambda rows: events_csv(rows, 1, 100, PER_HOUR)),
        Dataset("csv-10k", ".csv", 16_000_000, lambda rows: events_csv(rows, 2, 10_000, PER_HOUR)),
        # Fifty rows a millisecond: a window of a minute holds three rows of each of a million keys.
        Dataset("csv-1m", ".csv", 16_000_000, lambda rows: events_csv(rows, 3, 1_000_000, 50.0)),
        Dataset("wide", ".csv", 5_500_000, lambda rows: wide_csv(rows, 4, 10_000, 1.5)),
        Dataset("urls", ".csv", 6_000_000, lambda rows: urls_csv(rows, 14, PER_HOUR)),
        Dataset("ndjson", ".ndjson", 6_500_000, lambda rows: events_ndjson(rows, 5, 10_000, 1.5)),
        Dataset("ndjson-mixed", ".ndjson", 4_500_000, lambda rows: mixed_ndjson(rows, 6, 10_000, 1.5)),
        Dataset("1brc", ".txt", 40_000_000, lambda rows: stations_csv(rows, 7)),
        Dataset("gzip", ".csv.gz", 16_000_000, lambda rows: events_csv(rows, 2, 10_000, PER_HOUR), True),
        # An hour of orders and of payments.
        Dataset("orders", ".csv", 5_000_000, lambda rows: orders_csv(rows, 10, 5_000_000 / 3_600_000)),
        Dataset("payments", ".csv", 5_000_000, lambda rows: payments_csv(rows, 11, 5_000_000 / 3_600_000)),
        Dataset("trades", ".csv", 5_000_000, lambda rows: prices_csv(rows, 12, "value")),
        Dataset("quotes", ".csv", 5_000_000, lambda rows: prices_csv(rows, 13, "bid")),
        Dataset("bids", ".csv", 5_000_000, lambda rows: prices_csv(rows, 14, "value", 58_000)),
        Dataset("visits", ".csv", 5_000_000, lambda rows: prices_csv(rows, 15, "value", 1_000_000)),
        Dataset("fresh-keys", ".csv", 16_000_000, lambda rows: fresh_csv(rows, 8, PER_HOUR)),
    )
}


def make(name: str, rows: int | None = None, directory: Path = DIRECTORY) -> Path:
    """The file of that data set, made if it is not there yet; ``rows`` None is its full size."""
    dataset = DATASETS[name]
    rows = dataset.rows if rows is None else rows
    path = directory / f"{dataset.name}-{rows}-v{VERSION}{dataset.suffix}"
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with gzip.GzipFile(part, "wb", 1, mtime=0) if dataset.packed else open(part, "wb") as file:
            for block in dataset.blocks(rows):
                file.write(block)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the benchmark's input files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets; all when left out")
    parser.add_argument("--rows", type=int, help="rows to make (default: the full size)")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the full size")
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    arguments = parser.parse_args()
    for name in arguments.names or DATASETS:
        if name not in DATASETS:
            parser.error(f"no data set {name!r}; there are: {' '.join(DATASETS)}")
        rows = arguments.rows or max(1, int(DATASETS[name].rows * arguments.scale))
        begin = time.perf_counter()
        path = make(name, rows, arguments.directory)
        size = path.stat().st_size
        print(f"{path}  {rows:,} rows  {size / 1e6:,.0f} MB  {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
