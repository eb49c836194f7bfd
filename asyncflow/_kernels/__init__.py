"""Compiled kernels on numpy buffers, and their plain twins.

``from asyncflow._kernels import kernel`` gives a kernel module by name: the compiled one, or with
``ASYNCFLOW_KERNELS=reference`` its twin (same names, same signatures, slow and obvious).  A missing extension is an error, never a
silent fallback.  Kernels import numpy and libc only.

A kernel is one folder: ``compiled.pyx`` (the face, and C headers below it), ``compiled.pyi`` (its types), ``reference.py`` (the twin:
the specification and the oracle, checked against the compiled kernel on every input that hypothesis can make).
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

MODE = os.environ.get("ASYNCFLOW_KERNELS", "compiled")
if MODE not in ("compiled", "reference"):
    raise ImportError(f"ASYNCFLOW_KERNELS must be 'compiled' or 'reference', not {MODE!r}")


def kernel(name: str) -> ModuleType:
    """The kernel module ``name``, compiled or reference.  ImportError says how to build."""
    try:
        return import_module(f"asyncflow._kernels.{name}.{MODE}")
    except ImportError as error:
        raise ImportError(
            f"the {MODE} kernel asyncflow._kernels.{name} is missing: run 'pip install -e .' (needs a C compiler)"
        ) from error
