"""Rows of two tables that meet in time."""
