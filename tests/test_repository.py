"""The house rules that a program can hold: who may import whom, kernels with stub and twin, files of a size to be read at one sitting."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "asyncflow"
KERNELS = PACKAGE / "_kernels"
MOST_LINES = 600
TABLE_ROW = re.compile(r"[\s{},0-9a-fA-FxXuUlL]+")

KERNEL_NAMES = sorted(path.parent.name for path in KERNELS.glob("*/compiled.pyx"))
KERNEL_SOURCES = sorted(
    path for pattern in ("*.pyx", "*.pxd", "*.pxi", "*.py") for path in KERNELS.rglob(pattern)
)


def sources(*suffixes: str) -> list[Path]:
    """Files written by hand: what Cython makes from a ``.pyx`` stands beside it and does not count."""
    rooms = [PACKAGE, ROOT / "bench", ROOT / "examples", ROOT / "tests", ROOT / ".ci"]
    found = [path for room in rooms for path in room.rglob("*") if path.suffix in suffixes and path.is_file()]
    return sorted(
        path for path in found if not path.with_suffix(".pyx").exists() or path.suffix in (".pyx", ".pyi")
    )


def test_imports_keep_their_direction() -> None:
    # Another process: the linter configures logging, which would silence the loggers of tests after this one.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(cache_dir=None))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", KERNEL_NAMES)
def test_a_kernel_has_a_stub_and_a_twin(name: str) -> None:
    missing = [
        file
        for file in ("compiled.pyi", "reference.py", "__init__.pyi")
        if not (KERNELS / name / file).exists()
    ]
    assert not missing


@pytest.mark.parametrize("path", KERNEL_SOURCES, ids=lambda path: str(path.relative_to(KERNELS)))
def test_kernels_import_neither_the_package_nor_asyncio(path: Path) -> None:
    for line in path.read_text().splitlines():
        taken = re.match(r"\s*(?:from|import|cimport)\s+([\w.]+)", line)
        if taken:
            assert taken[1] != "asyncio", line
            assert not taken[1].startswith("asyncflow") or taken[1].startswith("asyncflow._kernels"), line


def test_c_headers_use_a_name_for_one_thing_only() -> None:
    """Types, constants and functions: one extension may come to include any two headers."""
    found: dict[str, set[str]] = {}
    for path in sorted(KERNELS.rglob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        names = set(re.findall(r"^\} (\w+);", text, re.MULTILINE))
        names |= set(re.findall(r"^(?:AF_\w+|static)[^;{(=]*?\b(\w+)\(", text, re.MULTILINE))
        for constants in re.findall(r"^(?:typedef )?enum[^{;]*\{(.*?)\}", text, re.MULTILINE | re.DOTALL):
            names |= {item.split("=")[0].strip() for item in constants.split(",")} - {""}
        for name in names - {"AF_AT", "__attribute__"}:
            found.setdefault(name, set()).add(str(path.relative_to(KERNELS)))
    assert len(found) > 300
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}


def test_no_file_is_longer_than_one_can_read() -> None:
    long = []
    for path in sources(".py", ".pyx", ".pxd", ".pxi", ".pyi", ".h", ".c", ".md"):
        # Nobody reads a table of numbers: its rows do not count.
        count = sum(not TABLE_ROW.fullmatch(line) for line in path.read_text().splitlines())
        if count > MOST_LINES:
            long.append(f"{path.relative_to(ROOT)}: {count} lines")
    assert not long


def test_every_module_opens_with_what_it_is() -> None:
    silent = []
    for path in sources(".py", ".pyx", ".pxd", ".pxi", ".h", ".c"):
        text = path.read_text().lstrip()
        if text and not text.startswith(('"""', 'r"""', "/*", "//", "#")):
            silent.append(str(path.relative_to(ROOT)))
    assert not silent


# -- rooms, and the pages that lead through them ---------------------------------------------------------------------------

PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "README.md")
MOST_FILES_IN_A_ROOM = 14
PLUG_INS = {"connectors", "formats", "operators/functions", "plan/stages"}
"""Rooms in which each file is a component of its own, found by name: they may have any number of files."""
MEDIAN_LINES = 200
BUILT = (".so", ".pyc", ".pyd")


def test_a_room_has_few_files() -> None:
    full = {}
    for room in (PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())):
        name = str(room.relative_to(PACKAGE))
        own = [path for path in room.iterdir() if path.is_file() and path.stem != "__init__"]
        own = [path for path in own if path.suffix not in BUILT and path.name != "compiled.c"]
        if name not in PLUG_INS and len(own) > MOST_FILES_IN_A_ROOM:
            full[name] = len(own)
    assert not full


def test_most_files_are_short() -> None:
    lines = [
        len(path.read_text().splitlines())
        for path in sources(".py", ".pyx", ".h", ".c")
        if PACKAGE in path.parents
    ]
    assert median(lines) <= MEDIAN_LINES


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """The package's modules that a module imports, in functions too; not what only a type checker sees."""
    name = next(module for module, home in modules.items() if home == path)
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                found.add(whole if whole in modules else source)
    return found & modules.keys() - {name}


def test_no_imports_go_in_a_circle() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {name: imports_of(path, modules) for name, path in modules.items()}
    assert sum(map(len, graph.values())) > len(graph), "the imports were not found"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def links(page: str) -> list[str]:
    return re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_what_is_there(page: str) -> None:
    assert not [link for link in links(page) if not (ROOT / link).exists()]


def test_the_map_of_the_house_is_short_and_names_every_room() -> None:
    page = "ARCHITECTURE.md"
    assert len((ROOT / page).read_text().splitlines()) < 120
    rooms = {
        str(path.relative_to(ROOT))
        for path in (PACKAGE, PACKAGE / "runtime")
        for path in path.iterdir()
        if (path / "__init__.py").exists()
    }
    assert len(rooms) > 10
    assert rooms <= {link.rstrip("/") for link in links(page)}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_commands_that_there_are(page: str) -> None:
    documented = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "help" in documented
    code = re.findall(r"```sh\n.*?```|`[^`\n]+`", (ROOT / page).read_text(), re.DOTALL)
    named = {name for text in code for name in re.findall(r"\bmake ([a-z-]+)", text)}
    assert named <= documented
