"""Expressions: their nodes, types and functions, and how they are written."""
