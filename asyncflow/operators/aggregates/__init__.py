"""Aggregates: those of the kernels and those written in Python."""
