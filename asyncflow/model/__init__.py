"""Data of a stream: schemas, columns, batches, messages, Python values and patterns.  Imports kernels and errors only."""
