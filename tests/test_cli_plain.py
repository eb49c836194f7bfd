"""Command lines that are read without click mean what click takes them for; the others are left to click."""

from __future__ import annotations

from functools import partial

import pytest

from asyncflow.cli import commands, plain
from asyncflow.runtime.base.workers import MOST_WORKERS

PLAIN = [
    "run p.toml",
    "run p.toml --quiet",
    "run --quiet --workers 2 p.toml",
    "run p.toml --workers auto",
    "run --workers=256 --stats - p.toml -v --verbose --quiet --quiet",
    "run p.toml --set a.b=c --set=d.e=f=g --stats=x.json --progress off",
    "agg n=count(*)",
    "agg",
    "agg --by host --window 10s --time ts:ms n=count(*) p=quantile(ms,0.99) --workers 3",
    "agg --input a.csv --input=b.csv --format csv --output table --where=x=1 --delay 5s --hop 1s --session 3s n=count(*)",
]
LEFT_TO_CLICK = [
    "",
    "run",
    "run a.toml b.toml",
    "run --help",
    "run -h p.toml",
    "run -- p.toml",
    "run - p.toml",
    "run p.toml --workers",
    "run p.toml --workers 0",
    "run p.toml --workers 257",
    "run p.toml --workers=two",
    "run p.toml --workers=Auto",
    "run p.toml --workers=-1",
    "run p.toml --workers=+1",
    "run p.toml --workers 1 --workers 2",
    "run p.toml --progress never",
    "run p.toml --quiet=yes",
    "run p.toml --stats --quiet",
    "run p.toml --stats=",
    "run p.toml --overrides a=b",
    "run p.toml --by host",
    "run p.toml --v",
    "run p.toml -vv",
    "run p.toml -quiet",
    "agg --inputs a.csv",
    "agg --unknown",
    "check p.toml",
    "--version",
]


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_command_line_means_the_same_to_click(line: str) -> None:
    command, *arguments = line.split()
    read = plain.call([command, *arguments])
    assert isinstance(read, partial)
    (first,) = read.args
    context = commands.cli.commands[command].make_context(command, arguments)
    assert {"file" if command == "run" else "aggregates": first, **read.keywords} == context.params


@pytest.mark.parametrize("line", LEFT_TO_CLICK)
def test_other_command_lines_are_left_to_click(line: str) -> None:
    assert plain.call(line.split()) is None


def test_a_value_that_is_empty_is_left_to_click() -> None:
    assert plain.call(["agg", "--by", "", "n=count(*)"]) is None


def test_both_know_the_same_numbers_of_workers() -> None:
    assert plain.MOST_WORKERS == MOST_WORKERS


def test_every_option_has_its_default_in_both() -> None:
    for command, defaults in (
        ("run", plain.RUN_DEFAULTS | {"overrides": (), "fresh": False}),
        ("agg", plain.RUN_DEFAULTS | plain.AGG_DEFAULTS),
    ):
        arguments = ["p.toml"] if command == "run" else []
        params = commands.cli.commands[command].make_context(command, arguments).params
        assert params.items() >= defaults.items()
        assert len(params) == len(defaults) + 1
