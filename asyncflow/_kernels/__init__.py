"""Compiled kernels on numpy buffers, and their plain twins.

A kernel is one folder: ``compiled.pyx`` (the extension, over C headers), ``compiled.pyi`` (its types), ``reference.py`` (the twin: the
specification and the oracle, checked against the extension on every input that hypothesis can make).  The package of the folder gives
the names of the chosen one, of the types in the stub: ``from asyncflow._kernels.groups import GroupTable``, or ``from
asyncflow._kernels import groups`` where the kernel is to be loaded at its first use.  The environment variable ``ASYNCFLOW_KERNELS``
chooses, for the whole process: ``compiled`` (the default) or ``reference``.

Invariants: a missing extension is an ImportError, never a silent fallback; kernels import numpy, libc and (for plain records) msgspec,
and no other room.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

MODE = os.environ.get("ASYNCFLOW_KERNELS", "compiled")
if MODE not in ("compiled", "reference"):
    raise ImportError(f"ASYNCFLOW_KERNELS must be 'compiled' or 'reference', not {MODE!r}")


def kernel(name: str) -> ModuleType:
    """The kernel module ``name``, compiled or reference, for a name that is not known before.  ImportError says how to build."""
    module = f"asyncflow._kernels.{name}.{MODE}"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(
            f"the {MODE} kernel asyncflow._kernels.{name} is missing: run 'pip install -e .' (needs a C compiler)"
        ) from error


def names_of_kernel(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a kernel's package: loads the chosen kernel and keeps the name in the package."""

    def name_of_kernel(name: str) -> Any:
        if name.startswith("_") or name in ("compiled", "reference"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(kernel(package.rpartition(".")[2]), name)
        setattr(sys.modules[package], name, value)
        return value

    return name_of_kernel
