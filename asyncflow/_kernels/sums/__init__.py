"""Exact sums of float64 and of their products, and results that are rounded once."""
