"""Another distribution: a package in a temporary folder whose entry points add components to asyncflow.

``distribution`` writes the folder: the package's modules and its metadata.  ``installed`` puts the folder on this process's path for a
while; ``environment`` is for another process.  No file of asyncflow is touched.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest


def distribution(
    folder: Path,
    points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    name: str = "strangers",
) -> Path:
    """Writes the distribution ``name`` into ``folder``, which it makes, and gives the folder.

    ``points``: for each entry point group (``"asyncflow.sinks"``) the names and what each stands for (``{"slow": "toys.slow"}``, or
    ``"toys:Class"``).  ``modules``: for each file (``"toys/slow.py"``) its text; a folder with modules is a package.
    """
    for path, text in (modules or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, targets in points.items():
        lines += [f"[{group}]", *(f"{key} = {target}" for key, target in targets.items()), ""]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """As if the distribution in ``folder`` were installed, here and in the processes started here.  Its modules are forgotten later."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", environment(folder)["PYTHONPATH"])
        importlib.invalidate_caches()
        _look_again()
        yield
    for module in set(sys.modules) - before:
        if (sys.modules[module].__dict__.get("__file__") or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[module]
    _look_again()


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process that has the distribution in ``folder`` installed."""
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


def _look_again() -> None:
    """Empties every cache of asyncflow: which components there are is worked out once."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "asyncflow":
            for found in list(vars(module).values()):
                if callable(clear := getattr(found, "cache_clear", None)):
                    clear()
