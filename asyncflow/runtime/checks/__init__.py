"""Checks of a pipeline: its own tests, verification of its results, and a look at the head of its input."""
