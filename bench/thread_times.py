"""Runs a command line of asyncflow in this process: ``thread_times.py FILE ARGUMENT...``.

Writes to FILE, as JSON, the CPU seconds of the main thread, which is the event loop's, and of the whole process.
"""

import json
import sys
import time

from asyncflow.cli import main

report, *arguments = sys.argv[1:]
try:
    main(arguments)
finally:
    with open(report, "w") as file:
        json.dump({"loop_s": time.thread_time(), "process_s": time.process_time()}, file)
