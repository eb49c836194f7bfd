"""CSV blocks to columns."""
