"""A plan as a process: signals, progress, and what is told."""
