"""The status of a run, told in words to whoever asks."""
