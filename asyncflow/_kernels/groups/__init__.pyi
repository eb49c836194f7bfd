from asyncflow._kernels.groups.compiled import *
