"""Functions of expressions on columns of texts: cut, test, make and read texts."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
