from asyncflow._kernels.as_of.compiled import *
