from collections.abc import Sequence
from typing import Any

TOO_LONG: int
BAD_UTF8: int
NOT_OBJECT: int
MALFORMED: int
TOO_DEEP: int
NO_VALUE: int
BAD_VALUE: int

class Decoder:
    def __init__(
        self,
        names: Sequence[str],
        types: Sequence[str],
        required: Sequence[bool],
        max_record_bytes: int,
        max_rejects: int | None = None,
    ) -> None: ...
    def decode(self, block: Any) -> tuple[int, int, list[tuple[Any, ...]], int, Any]: ...
