"""Joins: rows of two tables, pair by pair.  ``lookup`` reads its right side whole; the other joins match by event time (``timed``)."""
