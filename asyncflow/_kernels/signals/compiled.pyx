"""SIGINT and SIGTERM while a kernel works: the second signal ends the process at once.

Python runs its handlers only between bytecodes, so a signal that comes while a kernel works waits for the kernel.  The handler here
is C and runs at once.  It passes the first signal on to Python's handler.  The second signal, of either number, ends the process
with exit status 128 + its number, as Python's handler would.  A signal within ``SAME_NS`` of the first is the same request: the
command ``timeout`` sends two, to the process and to its group.  ``runtime/process`` installs the handler.

Invariant: the handler calls only functions that POSIX allows in a signal handler.
"""

from libc.signal cimport SIG_DFL, SIG_IGN, sig_atomic_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport _exit


cdef enum:
    SAME_NS = 100_000_000

ctypedef void (*handler_t)(int) noexcept nogil

cdef extern from "<signal.h>" nogil:
    ctypedef struct sigaction_t "struct sigaction":
        handler_t sa_handler
    int sigaction(int number, const sigaction_t *wanted, sigaction_t *found)

cdef handler_t before[65]
cdef volatile sig_atomic_t came = 0
cdef long long first_ns = 0


cdef long long now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <long long> now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef void on_signal(int number) noexcept nogil:
    global came, first_ns
    if came == 0:
        came = 1
        first_ns = now_ns()
    elif now_ns() - first_ns > SAME_NS:
        _exit(128 + number)
    else:
        return
    if before[number] != NULL:
        before[number](number)


def end_at_second(*numbers):
    """From now on the first of these signals goes to the handler that is set now, and the second ends the process.

    ``numbers``: int signal numbers with a Python handler.  A handler that Python sets later replaces this one.  OSError where the system
    refuses.
    """
    global came
    cdef sigaction_t found
    cdef int number
    came = 0
    for number in numbers:
        if not 0 < number < 65:
            raise ValueError(f"no signal {number}")
        if sigaction(number, NULL, &found) != 0:
            raise OSError(f"signal {number} cannot be watched")
        before[number] = NULL
        if found.sa_handler != <handler_t> SIG_DFL and found.sa_handler != <handler_t> SIG_IGN:
            before[number] = found.sa_handler
        found.sa_handler = on_signal
        if sigaction(number, &found, NULL) != 0:
            raise OSError(f"signal {number} cannot be watched")
