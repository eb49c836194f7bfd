"""Accumulators: what an aggregate keeps of the rows of one group in one window."""
