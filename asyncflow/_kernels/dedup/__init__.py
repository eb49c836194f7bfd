"""First rows of keys within a time."""
