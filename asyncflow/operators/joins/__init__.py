"""Joins: two tables into one, row against row.  ``lookup`` reads its right side whole; the others go by event time (``timed``)."""
