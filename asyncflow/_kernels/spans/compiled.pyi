from typing import Any

def parse_spans(
    type_text: str, block: Any, starts: Any, lengths: Any, values: Any, valid: Any, failed: Any
) -> tuple[int, int]: ...
