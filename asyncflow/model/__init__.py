"""What flows: schemas, columns, batches, messages and durations.  Imports only the kernels and the errors."""
