"""Texts within a block to typed columns."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
