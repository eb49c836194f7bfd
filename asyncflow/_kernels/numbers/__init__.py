"""Texts as numbers and timestamps, to the last bit."""
