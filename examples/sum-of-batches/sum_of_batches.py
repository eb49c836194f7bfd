"""A list of 1000 integers in 10 batches, summed side by side; the sums are added up.  Prints 499500.

The total is the same for any number of workers and any way of cutting the list.
"""

import asyncio

import numpy as np

import asyncflow as af


async def total(numbers: np.ndarray, pieces: int = 10, workers: int = 1) -> int:
    batches = [{"number": piece} for piece in np.array_split(numbers, pieces)]
    flow = af.source(batches, schema={"number": "int64"}).window(total="sum(number)")
    async for batch in flow.batches(workers=workers):
        return int(batch["total"][0])
    return 0


if __name__ == "__main__":
    print(asyncio.run(total(np.arange(1000))))
