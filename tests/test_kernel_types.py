"""The types of kernels: mypy refuses a wrong call of a kernel; the extension and the twin have what their stub declares.

mypy runs over files that are written here: one with wrong calls, and one for each kernel, in which the stub is turned into Protocols
and the twin is assigned to them.  An extension has no types: its names and parameters are compared.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import Parameter, signature
from pathlib import Path

import pytest
from mypy import api

from asyncflow import _kernels as kernels

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "asyncflow/_kernels"
NAMES = sorted(stub.parent.name for stub in KERNELS.glob("*/compiled.pyi"))
TWIN = "Twins_"

RIGHT_CALLS = """\
import numpy as np
from asyncflow._kernels import groups, strings, window
from asyncflow._kernels.groups import GroupTable

table: GroupTable = groups.GroupTable(["int64"])
ids = table.assign([(np.zeros(3, np.int64), None)], 3)
window.mark(np.zeros(3, np.bool_), ids)
state = window.WindowState(10, 10, 0, [])
floats, words = np.zeros(3, np.float64), np.zeros(3, np.int64)
"""
WRONG_CALLS = {
    "window.no_such_function(1)": "attr-defined",
    "from asyncflow._kernels.groups import no_such_class": "attr-defined",
    "GroupTable(['int64']).no_such_method()": "attr-defined",
    "GroupTable(['int64'], 1)": "call-arg",
    "window.WindowState(10)": "call-arg",
    "table.assign([])": "call-arg",
    "GroupTable(1)": "arg-type",
    "window.mark(floats, ids)": "arg-type",
    "state.merge(words, ids)": "arg-type",
    "strings.count_characters(b'', ids, ids, words)": "arg-type",
}


def stub_of(name: str) -> tuple[list[ast.stmt], dict[str, ast.ClassDef]]:
    """The statements of a kernel's stub, and the classes among them."""
    body = ast.parse((KERNELS / name / "compiled.pyi").read_text()).body
    return body, {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def as_protocols(name: str) -> str:
    """A module in which the twin ``name`` is assigned to what its stub declares."""
    body, classes = stub_of(name)
    declared: list[ast.stmt] = []
    members: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.ClassDef):
            made = next((item for item in methods(node, classes) if item.name == "__init__"), None)
            node.body = [
                item
                for item in node.body
                if not (isinstance(item, ast.FunctionDef) and item.name == "__init__")
            ] or [ast.Pass()]
            if made is not None:
                made.name, made.returns = node.name, ast.Name(node.name)
                members.append(made)
            node.bases.append(ast.Name("Protocol"))
            declared.append(node)
        elif isinstance(node, ast.FunctionDef):
            node.args.args.insert(0, ast.arg("self"))
            members.append(node)
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "TypeAlias":
            members.append(node)
        else:
            declared.append(node)
    for member in members:
        for argument in ast.walk(member):
            if isinstance(argument, ast.arg) and argument.annotation is not None:
                argument.annotation = of_twin(argument.annotation, set(classes))
    whole = ast.ClassDef("Kernel", [ast.Name("Protocol")], [], members, [])
    head = "from typing import Protocol\n" + "".join(
        f"from asyncflow._kernels.{name}.reference import {each} as {TWIN}{each}\n"
        for each in classes
        if not each.startswith("_")
    )
    text = "\n".join(ast.unparse(ast.fix_missing_locations(node)) for node in [*declared, whole])
    return f"{head}from asyncflow._kernels.{name} import reference\n{text}\ntwin: Kernel = reference\n"


def methods(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[ast.FunctionDef]:
    yield from (item for item in node.body if isinstance(item, ast.FunctionDef))
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            yield from methods(classes[base.id], classes)


def of_twin(annotation: ast.expr, classes: set[str]) -> ast.expr:
    """An argument's type, with the twin's classes for those of the kernel."""
    text = re.sub(rf"\b({'|'.join(sorted(classes)) or '$^'})\b", rf"{TWIN}\1", ast.unparse(annotation))
    return ast.parse(text, mode="eval").body


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of the files that are written here."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "calls.py").write_text(RIGHT_CALLS + "\n".join(WRONG_CALLS) + "\n")
    for name in NAMES:
        (folder / f"twin_{name}.py").write_text(as_protocols(name))
    said, failed, _ = api.run(
        [
            "--strict",
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--cache-dir",
            str(folder / "cache"),
            "--show-error-codes",
            *map(str, sorted(folder.glob("*.py"))),
        ]
    )
    assert not failed, failed
    return [line.removeprefix(f"{folder}/") for line in said.splitlines()]


def test_a_wrong_call_of_a_kernel_is_an_error(errors: list[str]) -> None:
    found = [line for line in errors if line.startswith("calls.py")]
    begin = RIGHT_CALLS.count("\n") + 1
    assert {line.split(":")[1] + line[line.rindex("[") :] for line in found if ": error:" in line} == {
        f"{begin + number}[{code}]" for number, code in enumerate(WRONG_CALLS.values())
    }, found


def test_a_twin_has_the_types_of_its_stub(errors: list[str]) -> None:
    assert not [line for line in errors if line.startswith("twin_")]


@pytest.mark.skipif(kernels.MODE != "compiled", reason="compiled kernels are checked")
@pytest.mark.parametrize("name", NAMES)
def test_an_extension_has_the_names_and_parameters_of_its_stub(name: str) -> None:
    extension = kernels.kernel(name)
    body, classes = stub_of(name)
    for node in body:
        if isinstance(node, ast.FunctionDef):
            assert parameters_of(getattr(extension, node.name)) == declared_parameters(node), node.name
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) != "TypeAlias":
            assert isinstance(getattr(extension, ast.unparse(node.target)), int)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in methods(node, classes):
                found = getattr(getattr(extension, node.name), method.name)
                if method.name != "__init__" and not method.decorator_list:
                    assert parameters_of(found) == declared_parameters(method), (node.name, method.name)


def parameters_of(function: object) -> list[tuple[str, bool]]:
    """The parameters' names, and whether each has a default."""
    found = signature(function).parameters.values()
    return [
        (each.name, each.default is not Parameter.empty) for each in found if each.kind != each.VAR_POSITIONAL
    ]


def declared_parameters(function: ast.FunctionDef) -> list[tuple[str, bool]]:
    places, named = function.args.args, function.args.kwonlyargs
    without = len(places) - len(function.args.defaults)
    return [
        *((each.arg, place >= without) for place, each in enumerate(places)),
        *(
            (each.arg, default is not None)
            for each, default in zip(named, function.args.kw_defaults, strict=True)
        ),
    ]


# -- the packages of kernels at run time -------------------------------------------------------------------------------


def test_the_package_of_a_kernel_has_the_names_of_the_chosen_kernel() -> None:
    from asyncflow._kernels import groups

    assert groups.GroupTable is kernels.kernel("groups").GroupTable
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = groups.no_such_name  # type: ignore[attr-defined]


def test_a_missing_extension_is_an_error_that_says_how_to_build() -> None:
    with pytest.raises(ImportError, match=r"asyncflow\._kernels\.base is missing: run 'pip install -e \.'"):
        kernels.names_of_kernel("asyncflow._kernels.base")("anything")


@pytest.mark.skipif(kernels.MODE != "compiled", reason="twins have no levels")
def test_an_extension_that_cannot_be_loaded_says_why_itself() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from asyncflow._kernels import kernel; kernel('csv')"],
        env={**os.environ, "ASYNCFLOW_CPU": "none"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stderr.splitlines()[-1].startswith("ImportError: ASYNCFLOW_CPU='none' is none of")


def test_no_kernel_is_loaded_before_its_first_use() -> None:
    code = (
        "import sys, asyncflow.cli, asyncflow.runtime.run.run, asyncflow.runtime.wiring.wiring\n"
        "print(*(name for name in sys.modules if name.endswith(('.compiled', '.reference'))))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.split() == []
