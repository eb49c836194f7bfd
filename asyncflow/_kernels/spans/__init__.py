"""Texts within a block to typed columns."""
