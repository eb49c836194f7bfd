"""Windowed aggregation of groups."""
