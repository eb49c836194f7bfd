"""Text for people: nothing from data or environment reaches a terminal unescaped, and a failing stderr changes no result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asyncflow as af
from asyncflow import printable
from asyncflow.cli import run_command
from asyncflow.errors import PipelineError
from asyncflow.printable import hidden, hidden_name, hide, printable_lines
from asyncflow.printable import printable as one_line

SECRET = "S3CR3T-'canary'\"ä"


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(printable, "_from_environment", {})
    yield


# -- control characters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ä ✓", "plain Ä ✓"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        ("\x7f\x9b", r"\u007f\u009b"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\u2028\u2029\ufeff", r"\u2028\u2029\ufeff"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert printable_lines(f"{text}\n{text}".replace("a\nb", "a b")) == f"{shown}\n{shown}".replace(
        r"a\nb", "a b"
    )


FORGED = "x\nerror: the disk is on fire\x1b[2J\u202e"


def raw(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("error: the disk")] + [
        character for character in err if character in "\x1b\x07\u202e"
    ]


def test_values_of_rejected_records_are_shown_on_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(f'n\n"{FORGED}"\n1\n')
    assert run_command(["agg", "n=sum(n)", "--input", str(rows), "--where", "n > 0"]) in (
        0,
        1,
        2,
    )  # whatever it is taken for
    assert not raw(capfd.readouterr().err)


@pytest.mark.parametrize("command", ["explain", "check", "run"])
def test_names_from_files_and_headers(
    command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / FORGED
    folder.mkdir()
    (folder / "rows.csv").write_text(f'"{FORGED}",n\n1,2\n')
    path = tmp_path / "p.toml"
    path.write_text(
        f'[sources.s]\ntype = "file"\npath = {json.dumps(str(folder))[:-1]}/*.csv"\n'
        '[stages.f]\ntype = "filter"\nwhere = "nosuch > 1"\n[sinks.o]\ntype = "null"\n'
    )
    run_command([command, str(path)])
    out, err = capfd.readouterr()
    assert not raw(err) and not raw(out)


def test_infer_prints_toml_without_control_characters(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(f'"{FORGED}",n\n1,2\n')
    assert run_command(["infer", str(rows)]) == 0
    assert not raw(capfd.readouterr().out)


# -- the environment -----------------------------------------------------------------------------------------------------------


PIPELINE = """
[sources.s]
type = "file"
path = "/nowhere/${TOKEN}/in.csv"
format = "json"
schema = { ts = "timestamp[ms]", k = "string", v = "int64" }
time = "ts"
[stages.f]
type = "filter"
where = "k = '${WORD}' AND v > ${NUMBER}"
[sinks.o]
type = "file"
path = "/nowhere/${TOKEN}"
format = "json"
"""


@pytest.mark.parametrize("door", [["check"], ["explain"], ["explain", "--as", "json"], ["explain", "--as", "mermaid"],
                                  ["run"], ["run", "-v"], ["verify"], ["test"]])  # fmt: skip
def test_what_came_from_the_environment_is_not_printed(
    door: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("WORD", "S3CR3T-word")
    monkeypatch.setenv("NUMBER", "987654321")
    path = tmp_path / "p.toml"
    path.write_text(PIPELINE)
    run_command([door[0], str(path), *door[1:]])
    out, err = capfd.readouterr()
    assert "S3CR3T" not in out + err and "987654321" not in out + err
    if door[0] == "explain":
        assert "${WORD}" in out and "${NUMBER}" in out
    if door[-1] == "json":
        json.loads(out)
    if door == ["run"]:
        assert "${TOKEN}" in err


@pytest.mark.parametrize(
    "where",
    ["k = '${TOKEN}", "${TOKEN} >", "nosuch('${TOKEN}')", "'${TOKEN}' + 1", "k LIKE 'x' || '${TOKEN}"],
)
def test_problems_of_a_pipeline_do_not_show_it(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the text of an expression is cut."""
    monkeypatch.setenv("TOKEN", "S3CR3T" * 30)
    text = PIPELINE.replace("k = '${WORD}' AND v > ${NUMBER}", where)
    with pytest.raises(PipelineError) as raised:
        af.load(text)
    assert "S3CR3T" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "told", "shown"),
    [
        ("db://me:S3CR3T@host:1/x", "no folder db:/me:S3CR3T@host:1", "no folder ${V}/.."),
        ("S3CR3T-folder/in.csv", "no folder /a/S3CR3T-folder here", "no folder /a/${V}/.. here"),
        ("/data//S3CR3T/", "at /data/S3CR3T/", "at ${V}"),
        ("k='S3CR3T' or v>1", "k = 'S3CR3T' OR v > 1", "k = '${V}' OR v > 1"),
        ("007654321", "v = 7654321", "v = ${V}"),
        ("7654321e-1", "v < 765432.1", "v < ${V}"),
        ("-7654321.50", "v < -7654321.5", "v < -${V}"),
        ("2024-07-19T13:22:33+02:00", "ts > TIMESTAMP '2024-07-19 11:22:33'", "ts > TIMESTAMP '${V}'"),
        ("2024-07-19T11:22:33.5Z", "at 2024-07-19T11:22:33.5Z", "at ${V}"),
        ("/a/b", "tables a and b, folder /a", "tables a and b, folder /a"),
    ],
)
def test_what_a_value_was_turned_into_is_hidden_too(value: str, told: str, shown: str) -> None:
    hide("V", value)
    assert hidden(told) == shown


@pytest.mark.parametrize("where", ["k = ${TOKEN}", "${TOKEN}(k) = 'a'", "lower(${TOKEN}) > 1"])
def test_a_name_that_does_not_exist_is_hidden_where_the_environment_gave_it(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "S3CR3T-canary")
    with pytest.raises(PipelineError) as raised:
        af.load(PIPELINE.replace("k = '${WORD}' AND v > ${NUMBER}", where))
    assert not any(word in str(raised.value) for word in ("S3CR3T", "s3cr3t", "canary"))
    hide("FILE", "/data/sales.csv")
    assert hidden_name("sales") == "${FILE}" and hidden_name("sale") == "sale"


def test_names_of_tests_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("WORD", "S3CR3T-word")
    monkeypatch.setenv("NUMBER", "987654321")
    path = tmp_path / "p.toml"
    path.write_text(PIPELINE + '[[tests]]\nname = "of ${WORD}"\nfeed = []\nexpect = []\n')
    run_command(["test", str(path)])
    assert "S3CR3T" not in "".join(capfd.readouterr())


def test_short_values_are_hidden_as_words_only() -> None:
    hide("N", "1")
    hide("PORT", "9000")
    hide("FOLLOW", "true")
    assert hidden("true") == "true"
    assert hidden("1 row, port 9000, 190001 rows") == "1 row, port ${PORT}, 190001 rows"


def test_defaults_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELSEWHERE", raising=False)
    text = PIPELINE.replace("/nowhere/${TOKEN}", "${ELSEWHERE:-/the-default}").replace(
        "'${WORD}' AND v > ${NUMBER}", "1 +"
    )
    with pytest.raises(PipelineError) as raised:
        af.load(text)
    assert "ELSEWHERE" not in str(raised.value)


# -- stderr ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redirect", ["2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("run p.toml -v --stats -", 0),
        ("run p.toml -v --stats - --set sources.s.path=none.csv", 1),
        ("run none.toml", 2),
        ("nosuch", 2),
        ("check p.toml", 0),
    ],
)
def test_stderr_decides_nothing(redirect: str, arguments: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("n\nx\n1\n")
    (tmp_path / "p.toml").write_text(
        '[sources.s]\ntype = "file"\npath = "rows.csv"\nschema = { n = "int64" }\n'
        '[sinks.o]\ntype = "file"\npath = "o.json"\nmode = "replace"\n'
    )
    command = f"exec {sys.executable} -m asyncflow {arguments} {redirect}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == code
    if arguments == "run p.toml -v --stats -":
        assert (tmp_path / "o.json").read_text() == '{"n":1}\n'


# -- completion ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncflow"],
        env=dict(os.environ, _ASYNCFLOW_COMPLETE=f"{shell}_source"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "_asyncflow_completion" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("words", "position", "offered"),
    [
        ("asyncflow ru", 1, "plain,run"),
        ("asyncflow run --work", 2, "plain,--workers"),
        ("asyncflow run exa", 2, "file,exa"),
    ],
)
def test_completions(words: str, position: int, offered: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncflow"],
        env=dict(os.environ, _ASYNCFLOW_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(position)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert offered in done.stdout.split()


@pytest.mark.parametrize(
    "question",
    [
        "nonsense",
        "bash_complete",
        "bash_complete COMP_WORDS= COMP_CWORD=x",
        "bash_complete COMP_WORDS=asyncflow COMP_CWORD=1 >/dev/full",
    ],
)
def test_a_question_that_no_shell_asks_is_answered_by_nothing(question: str) -> None:
    command = f"_ASYNCFLOW_COMPLETE={question.replace(' >', f' {sys.executable} -m asyncflow >')}"
    command = command if ">" in question else f"{command} {sys.executable} -m asyncflow"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_what_a_process_says_of_itself_hides_its_name() -> None:
    from asyncflow.runtime.process.process import _standing
    from asyncflow.runtime.run.run import Run

    hide("TOKEN", SECRET)
    plan = af.load(
        f"name = {json.dumps('of ' + SECRET)}\n"
        + PIPELINE.partition("[stages.f]")[0].replace("${TOKEN}", "x")
        + '[sinks.o]\ntype = "null"\n'
    ).checked()
    assert _standing(Run(plan), None).name == "of ${TOKEN}"
