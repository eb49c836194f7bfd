"""Compiled kernels on numpy buffers, and their plain twins.

``from asyncflow._kernels import kernel`` gives a kernel module by name: the compiled one, or with
``ASYNCFLOW_KERNELS=reference`` its twin from ``reference`` (same names, same signatures, slow and obvious).  A missing extension is
an error, never a silent fallback.  Kernels import numpy and libc only.
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
    if MODE == "reference":
        return import_module(f"asyncflow._kernels.reference.{name}")
    try:
        return import_module(f"asyncflow._kernels.{name}")
    except ImportError as error:
        raise ImportError(
            f"the compiled kernel asyncflow._kernels.{name} is missing: run 'pip install -e .' (needs a C compiler)"
        ) from error
