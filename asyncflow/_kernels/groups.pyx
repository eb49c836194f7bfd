# Stands in for the compiled kernel until it is here: the twin itself.
from asyncflow._kernels.reference.groups import GroupTable
