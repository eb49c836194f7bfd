"""Rows to parts by the hash of their key, and sorted rows of the parts back into one order."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
