"""Text and Python objects to expressions of a plan."""
