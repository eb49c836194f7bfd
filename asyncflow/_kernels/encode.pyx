"""Columns to rows of text; see ``reference.encode`` for the contract."""

from asyncflow._kernels.reference.encode import csv_rows, json_rows
