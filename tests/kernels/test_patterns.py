"""Patterns against RE2 (inside DuckDB) and against the plain twin: matches, positions and groups, in linear time."""

from __future__ import annotations

import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import duckdb
import numpy as np
import pytest

from asyncflow import _kernels
from asyncflow._kernels.regex.reference import Machine as Twin
from asyncflow.model.columns import StringColumn
from asyncflow.model.patterns import Pattern, like, regexp
from asyncflow.model.patterns.charsets import _decoded, _folding, _table
from asyncflow.model.patterns.program import compiled
from asyncflow.model.patterns.syntax import parse
from tests.kernels import re2_patterns

COMPILED = _kernels.MODE == "compiled"


@pytest.fixture(scope="module")
def re2() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})


def found(pattern: Pattern, texts: list[str]) -> list[tuple[bool, ...] | tuple[str, ...]]:
    """For each text whether the pattern is found, and the text of each group, '' where it has none."""
    column = StringColumn.from_values(texts)
    groups = range(min(pattern.groups, 9) + 1)
    matches = pattern.matches(column.data, column.starts, column.lengths)
    also, begins, sizes = pattern.spans(column.data, column.starts, column.lengths, list(groups))
    assert matches.tolist() == also.tolist()
    raw = column.data.tobytes()
    return [
        (bool(matches[row]), *(raw[begins[g, row] :][: max(0, sizes[g, row])].decode() for g in groups))
        for row in range(len(texts))
    ]


def of_re2(
    re2: duckdb.DuckDBPyConnection, pattern: str, texts: list[str], groups: int
) -> list[tuple[object, ...]]:
    extracts = "".join(f", regexp_extract(t, $1, {group})" for group in range(min(groups, 9) + 1))
    query = f"SELECT regexp_matches(t, $1){extracts} FROM (SELECT unnest($2) AS t)"
    return re2.execute(query, [pattern, texts]).fetchall()


@pytest.mark.parametrize("seed", range(8))
def test_random_patterns_find_what_re2_finds(re2: duckdb.DuckDBPyConnection, seed: int) -> None:
    random = Random(seed)
    for _ in range(60):
        pattern = random.choice(["", "", "(?i)", "(?m)", "(?s)", "(?U)", "^"]) + re2_patterns.pattern(
            random, 4
        )
        texts = [re2_patterns.text(random) for _ in range(20)]
        mine = regexp(pattern)
        assert found(mine, texts) == of_re2(re2, pattern, texts, mine.groups), pattern


@pytest.mark.parametrize("seed", range(4))
def test_what_re2_refuses_is_refused(re2: duckdb.DuckDBPyConnection, seed: int) -> None:
    random = Random(seed)
    texts = [
        "",
        "ab",
        "aab1",
        "é",
        "]-a",
        "K k\u212a",
        "(a)",
        "{2,3}",
        "a\nb",
        "_ 07A",
        "αβ",
        "-^",
        "aaaaaaaa",
    ]
    for _ in range(250):
        pattern = re2_patterns.soup(random)
        if pattern.count("(?P<n>") > 1:
            continue  # DuckDB lets two groups have one name
        try:
            wanted: object = of_re2(re2, pattern, texts, 0)
        except duckdb.InvalidInputException:
            with pytest.raises(ValueError, match=r"^bad pattern"):
                regexp(pattern)
        else:
            assert [row[:2] for row in found(regexp(pattern), texts)] == wanted, pattern


@pytest.mark.parametrize("seed", range(4))
def test_long_texts_find_what_re2_finds(re2: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Thousands of characters: matches that begin late, end late or not at all."""
    random = Random(seed)
    longest = 6000 if COMPILED else 100
    for _ in range(12):
        pattern = re2_patterns.pattern(random, 4)
        texts = [re2_patterns.text(random, longest) + "a1b" for _ in range(3)]
        mine = regexp(pattern)
        assert found(mine, texts) == of_re2(re2, pattern, texts, mine.groups), pattern


def test_the_kernel_is_its_twin() -> None:
    """Also on bytes that are no UTF-8, with groups that are not there and rows that view the same bytes."""
    machine = _kernels.kernel("regex").Machine
    for seed in range(150):
        random = Random(1000 + seed)
        program = compiled(parse(re2_patterns.pattern(random, 4)).root)
        parts = (
            program.code, program.moves, program.start, program.anchored, program.prefix, program.literal,
        )  # fmt: skip
        data = np.frombuffer(random.choice([b"", b"\xff"]) + re2_patterns.text(random, 40).encode(), np.uint8)
        starts = np.array([random.randint(0, len(data)) for _ in range(12)], np.int32)
        lengths = np.array([random.randint(0, len(data) - int(start)) for start in starts], np.int32)
        answers = []
        for runner in (machine(*parts), Twin(*parts)):
            is_found, also = np.empty(12, np.bool_), np.empty(12, np.bool_)
            begins, sizes = np.empty((4, 12), np.int32), np.empty((4, 12), np.int32)
            runner.matches(data, starts, lengths, is_found)
            runner.spans(data, starts, lengths, np.array([2, 0, 1, 7], np.int32), also, begins, sizes)
            answers.append((is_found.tolist(), also.tolist(), begins.tolist(), sizes.tolist()))
        assert answers[0] == answers[1]


def test_views_outside_the_data_are_refused() -> None:
    data = np.zeros(4, np.uint8)
    for start, length in ((0, 5), (-1, 1), (3, 2), (0, -1), (2**31 - 1, 1)):
        with pytest.raises(ValueError, match="outside its data"):
            regexp("a").matches(data, np.array([start], np.int32), np.array([length], np.int32))
    with pytest.raises(ValueError, match="lengths"):
        regexp("a").matches(data, np.zeros(2, np.int32), np.zeros(1, np.int32))


@pytest.mark.skipif(not COMPILED, reason="Python refuses by itself")
@pytest.mark.parametrize(
    ("code", "moves", "start"),
    [
        ([], [], 0), ([[0, 0, 0]], [], 1), ([[2, 0, 1]], [], 0), ([[3, 0, -1]], [], 0), ([[3, -1, 0]], [], 0),
        ([[4, 1, 7]], [], 0), ([[5, 0, 0]], [], 0),
        ([[1, 0, 1]], [], 0), ([[1, -1, 1]], [[0, 9, 0]], 0), ([[1, 0, 1]], [[0, 256, 0]], 0), ([[1, 0, 1]], [[0, 9, 1]], 0),
        ([[1, 2**31 - 1, 1]], [], 0),
    ],
)  # fmt: skip
def test_what_is_no_program_is_refused(code: list[list[int]], moves: list[list[int]], start: int) -> None:
    arrays = (np.array(part, np.int32).reshape(-1, 3) for part in (code, moves))
    with pytest.raises(ValueError, match="not a program"):
        _kernels.kernel("regex").Machine(*arrays, start, False, b"", False)


# -- characters ------------------------------------------------------------------------------------------------------


def test_sets_of_characters_are_those_of_re2(re2: duckdb.DuckDBPyConnection) -> None:
    """The first and last of every range of every category and script, and their neighbours."""
    for name, words in _table().items():
        if name == "fold":
            continue
        edges = {edge for low, high in _decoded(words) for edge in (low - 1, low, high, high + 1)}
        texts = [chr(code) for code in sorted(edges) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000]
        for pattern in (rf"\p{{{name}}}", rf"^\P{{{name}}}$") if COMPILED else (rf"\p{{{name}}}",):
            mine = found(regexp(pattern), texts)
            assert mine == of_re2(re2, pattern, texts, 0), pattern


def test_letters_fold_as_those_of_re2(re2: duckdb.DuckDBPyConnection) -> None:
    letters = [chr(letter) for letter in _folding()[0]]
    query = "SELECT l, regexp_extract_all($1, '(?i)' || l) FROM (SELECT unnest($2) AS l)"
    wanted = {
        letter: set(same) for letter, same in re2.execute(query, ["".join(letters), letters]).fetchall()
    }
    partners = dict(zip(letters, _folding()[1], strict=True))
    assert {letter: {chr(low) for low, _ in partners[letter]} for letter in letters} == wanted


@pytest.mark.parametrize(
    ("pattern", "text", "group", "wanted"),
    [
        ("(?i)straße|ΟΔΟΣ", "οδος 7", 0, "οδος"), ("(?i)k", "\u212a", 0, "\u212a"),
        ("(?i)\\w", "\u017f", 0, "\u017f"), ("(?i)[^k]", "K", 0, ""),
        (r"(?P<day>\d+)-(?P<month>\w+)", "on 7-May", 2, "May"),
        (r"(?<day>\d+)", "7", 1, "7"), ("(a+?)(a*)", "aaa", 1, "a"), ("(a)|b", "b", 1, ""),
        ("a{,2}", "a{,2}", 0, "a{,2}"), ("[]a]+", "]a", 0, "]a"),
        (r"\Qa.b", "a.b", 0, "a.b"), ("x*", "aaa", 0, ""), ("(|a)+", "aa", 1, ""),
        (r"\p{Greek}+", "a αβγ", 0, "αβγ"), (".", "\U0001f600", 0, "\U0001f600"),
        ("[^\\x00-\\x{10FFFF}]", "a", 0, ""), ("(?s).$", "a\n", 0, "\n"),
        ("(a*)*", "b", 1, ""), ("(a*)+", "b", 1, ""), ("(?:(a)|b)*", "ab", 1, "a"), (r"\bé", "é", 0, ""), (r"\060\x{41}", "0A", 0, "0A"),
    ],
)  # fmt: skip
def test_readings(re2: duckdb.DuckDBPyConnection, pattern: str, text: str, group: int, wanted: str) -> None:
    assert (regexp(pattern).extract(text, group) or "") == wanted
    if "(?<" not in pattern:  # younger than DuckDB's RE2
        assert of_re2(re2, pattern, [text], group)[0][1 + group] == wanted


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a(?=b)", "look-around"), ("(?<!a)b", "look-around"), (r"(a)\1", "back-references"), ("(?P<n>a)(?P=n)", "back-references"),
        (r"\C", "characters"), (r"\Z", r"write \\z"), ("(?>a)", "atomic"),
        ("a++", "one repetition after another"), ("a{1001}", "at most 1000"),
        ("(a{100}){11}", "more than 1000"), (r"\pL{1000}", "too large"),
        ("(" * 401 + ")" * 401, "levels"), ("()" * 501, "more than 500 groups"),
        ("[[:foo:]]", "there are alnum"), (r"\p{Letters}", "category"),
        (r"\p", "named"), ("[b-a]", "range"), ("(?z)", "flags"), ("a\\", "ends"),
        ("(?P<n>a)(?P<n>b)", "one name"), ("(?P<n", "flags"), ("|*", "nothing to repeat"),
        ("a)", r"unexpected \)"), ("[a", r"missing \]"), (r"\y", "escape"),
        (r"\x{110000}", "character"), ("[a-\\d]", "escape"), ("(?#a)", "comments"), ("a**", "one repetition"),
    ],
)  # fmt: skip
def test_refusals_say_why(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^bad pattern .*{message}") as caught:
        regexp(pattern)
    assert len(str(caught.value)) < 400


# -- time and memory -------------------------------------------------------------------------------------------------

N = 200_000 if COMPILED else 200


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(a+)+$", "a" * N + "b"), ("(a|a)*b", "a" * N), ("(a*)*b", "a" * N),
        ("(x+x+)+y", "x" * N), ("(.*)*x", "a" * N), ("(a?){40}a{40}$", "a" * N + "b"),
        (r"(\w+\s?)*\d!", "ab " * (N // 3)), ("((((a*)*)*)*)*c", "a" * N),
        ("(?:(?:a?)*?)*?c", "a" * N), ("(a|aa|aaa)*c", "a" * N), (".*.*.*=.*!", "x=" * (N // 2)),
        ("(|a)+c", "a" * N), ("([a-z]+.?)*@", "abc" * (N // 3)), ("(?i)(straße|STRASSE)*x", "STRAßE" * (N // 7)),
    ],
)  # fmt: skip
def test_time_is_linear(pattern: str, text: str) -> None:
    """Backtracking would not end: here neither finding nor failing takes more than some steps a byte."""
    compiled_pattern = regexp(pattern)
    begin = time.perf_counter()
    assert not compiled_pattern.found_in(text)
    assert compiled_pattern.extract(text, 1) is None
    ending = text + re.sub(r"[^bcy=@!x]", "", pattern)[-1:]
    compiled_pattern.found_in(ending)
    compiled_pattern.extract(ending, 1)
    assert time.perf_counter() - begin < 20


def test_more_states_than_are_kept(re2: duckdb.DuckDBPyConnection) -> None:
    """2^15 states: they are thrown away again and again, in bounded memory."""
    random = Random(7)
    text = "".join(random.choice("ab") for _ in range(60_000 if COMPILED else 300))
    for pattern in ("(?:a|b)*a(?:a|b){14}c|(b{9})", "(a(?:a|b){14}b(?:a|b){14}a)"):
        texts = [text, text + "c", text[:200]]
        mine = regexp(pattern)
        assert found(mine, texts) == of_re2(re2, pattern, texts, 1)


def test_like_with_an_underscore_takes_a_character() -> None:
    assert like("_%日_").found_in("é..日\U0001f600")
    assert not like("_").found_in("")
    assert not like("a_c").found_in("a\u00e9\u00e9c")
    assert like("%_\n%").found_in("a\n")
    assert not like("%_a" * 50 + "b").found_in("a" * (20_000 if COMPILED else 200))


@pytest.mark.skipif(not COMPILED, reason="Python looks for signals itself")
def test_a_signal_is_heard_while_the_kernel_works() -> None:
    """A handler that raises ends the search, and the pattern is as good as before."""

    class RangError(Exception):
        pass

    def ring(*_: object) -> None:
        raise RangError

    pattern = regexp("(?:a|b)*a(?:a|b){900}c")
    text = "".join(Random(1).choices("ab", k=1 << 20))
    before = signal.signal(signal.SIGALRM, ring)
    begin = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(RangError):
            pattern.found_in(text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - begin < 5
    assert pattern.found_in("a" * 901 + "c")


def test_several_threads_use_one_pattern() -> None:
    pattern = regexp(r"(\w+)-(\d+)")
    texts = [f"key{n % 97}-{n}" for n in range(2000 if COMPILED else 50)]
    wanted = found(pattern, texts)
    with ThreadPoolExecutor(4) as pool:
        assert all(answer == wanted for answer in pool.map(lambda _: found(pattern, texts), range(16)))
