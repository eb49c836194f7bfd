"""The first rows of each window and group."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
