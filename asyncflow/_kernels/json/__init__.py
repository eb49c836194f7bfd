"""NDJSON blocks to columns."""
