"""Fuzzes what kernels load: damaged snapshots are refused by kernel and twin alike, or both go on from them alike.

``python -m tests.fuzz.fuzz_saved_states --seconds 60 [--kernel as_of] [--seed 7]``.  ``build/fuzz/saved_states`` names the kernel and seed
of the case under way, also where it ends the process; ``--kernel NAME --only SEED`` runs one case again.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.kernels import test_as_of_saved as as_of
from tests.kernels import test_dedup_saved as dedup
from tests.kernels import test_groups_saved as groups
from tests.kernels import test_interval_saved as interval
from tests.kernels import test_sessions_saved as sessions

KEPT = Path(__file__).resolve().parent.parent.parent / "build" / "fuzz" / "saved_states"
KERNELS: dict[str, Callable[[random.Random], None]] = {
    "groups": lambda rng: groups.refused(rng, rng.choice(groups.KINDS)),
    "sessions": lambda rng: sessions.sessions_refused(rng, rng.random() < 0.5),
    "counts": lambda rng: sessions.counts_refused(rng),
    "dedup": lambda rng: dedup.refused(rng, rng.choice([0, 10])),
    "interval": lambda rng: interval.refused(rng, rng.choice(interval.DAMAGED_BOUNDS), rng.random() < 0.5),
    "as_of": lambda rng: as_of.refused(rng, *rng.choice(as_of.DAMAGED)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kernel", choices=list(KERNELS), help="only this one; all in turn when left out")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int, metavar="SEED", help="the seed of one case")
    arguments = parser.parse_args()
    names = [arguments.kernel] if arguments.kernel else list(KERNELS)
    if arguments.only is not None:
        KERNELS[names[0]](random.Random(arguments.only))
        return 0
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    chance, tried, end = random.Random(arguments.seed), 0, time.monotonic() + arguments.seconds
    while time.monotonic() < end:
        name, seed = names[tried % len(names)], chance.randrange(2**32)
        KEPT.write_text(f"{name} {seed}\n")
        KERNELS[name](random.Random(seed))
        tried += 1
    KEPT.unlink(missing_ok=True)
    print(f"{tried} damaged snapshots, seed {arguments.seed}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
