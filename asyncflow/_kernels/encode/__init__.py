"""Columns to JSON and CSV text."""
