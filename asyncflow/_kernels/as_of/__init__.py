"""Left rows with the right row that is nearest in time."""

from asyncflow._kernels import names_of_kernel

__getattr__ = names_of_kernel(__name__)
