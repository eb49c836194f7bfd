from typing import Any

import numpy as np
from numpy.typing import NDArray

def parse_spans(
    type_text: str,
    block: NDArray[np.uint8],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    failed: NDArray[np.bool_],
) -> tuple[int, int]: ...
