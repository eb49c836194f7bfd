"""Saved state on disk: checkpoint files, and the directory that holds those of one pipeline.  No asyncio, no plan, no engine."""
