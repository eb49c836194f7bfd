from asyncflow._kernels.join.compiled import *
