"""Operators in parts by key: the rows of a key are taken by one part, whatever the thread."""
