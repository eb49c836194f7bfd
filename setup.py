"""Builds the extension modules: ``compiled.pyx`` of each kernel's folder in ``asyncflow/_kernels``.

A file ``levels.c`` in a kernel's folder is compiled into the same extension; it has the code that exists once per instruction-set
level.  ``ASYNCFLOW_SANITIZE=address,undefined`` builds with those sanitizers.  ``ASYNCFLOW_DEBUG=1`` turns on bounds checks and
assertions.  All other settings are in ``pyproject.toml``.
"""

import os
import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = Path("asyncflow/_kernels")
SANITIZE = os.environ.get("ASYNCFLOW_SANITIZE", "")
DEBUG = os.environ.get("ASYNCFLOW_DEBUG", "") not in ("", "0")

compile_args = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wno-unused-function"]
link_args: list[str] = []
if platform.machine().lower() in ("x86_64", "amd64"):
    compile_args.append("-march=x86-64-v2")
if DEBUG:
    compile_args += ["-UNDEBUG", "-g", "-O1"]
if SANITIZE:
    compile_args += [
        f"-fsanitize={SANITIZE}",
        "-fno-omit-frame-pointer",
        "-fno-sanitize-recover=all",
        "-g",
        "-O1",
    ]
    link_args += [f"-fsanitize={SANITIZE}"]
if not DEBUG and not SANITIZE:
    compile_args.append(
        "-g0"
    )  # Python's own flags add debug sections, which make the files five times as large
    link_args.append("-Wl,-S")


def extension(pyx: Path) -> Extension:
    levels = pyx.with_name("levels.c")
    return Extension(
        f"asyncflow._kernels.{pyx.parent.name}.compiled",
        [str(pyx), *([str(levels)] if levels.exists() else [])],
        include_dirs=[numpy.get_include(), str(KERNELS)],
        depends=[str(header) for header in sorted(KERNELS.rglob("*.h"))],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        [extension(pyx) for pyx in sorted(KERNELS.glob("*/compiled.pyx"))],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG,
            "freethreading_compatible": True,
        },
    ),
)
