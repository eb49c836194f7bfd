from collections.abc import Sequence
from typing import Any, TypeAlias

Cells: TypeAlias = tuple[str, Any, Any, Any, Any]

def json_rows(
    num_rows: int, columns: Sequence[Cells], keys: Sequence[bytes], tick_ns: int
) -> bytes | memoryview: ...
def csv_rows(
    num_rows: int, columns: Sequence[Cells], delimiter: bytes, quote: bytes, null: bytes, tick_ns: int
) -> bytes | memoryview: ...
