"""From streams to batches with event time: the sources."""
