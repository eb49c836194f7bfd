"""Rows of two tables that are at most so far apart in time."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
