"""Columns as decoders fill them, and their conversions."""
