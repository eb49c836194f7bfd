"""The seeds of keys' hashes: random per process, the same for all tables, and for the kernel and its twin.

See hash.h for what each seed is for.  No result, file or log may depend on the seeds.
"""

from __future__ import annotations

import os

import numpy as np

SEEDS = np.frombuffer(os.urandom(8 * 11), np.uint64)
