"""Columns to JSON and CSV text."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
