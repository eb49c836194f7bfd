"""Sketches: quantiles, distinct values and most frequent values in bounded memory."""
