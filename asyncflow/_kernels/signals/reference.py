"""Twin of ``signals``: Python's own handlers count the signals, between two bytecodes."""


def end_at_second(*numbers: int) -> None:
    """Nothing to do: no kernel works for long here."""
