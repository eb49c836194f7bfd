"""The instruction-set level that this process uses (base/cpu.h), or ImportError."""

from libc.stdlib cimport getenv

cdef extern from "base/cpu.h" nogil:
    int af_cpu_level()


cdef inline int cpu_level() except -1:
    cdef int level = af_cpu_level()
    if level >= 0:
        return level
    wanted = getenv("ASYNCFLOW_CPU").decode(errors="replace")
    if level == -1:
        raise ImportError(f"ASYNCFLOW_CPU={wanted!r} is none of portable, v2, v3 and v4")
    raise ImportError(f"ASYNCFLOW_CPU={wanted!r} is an instruction-set level that this machine does not have")
