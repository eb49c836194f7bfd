"""A second signal ends the process while a kernel works."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
