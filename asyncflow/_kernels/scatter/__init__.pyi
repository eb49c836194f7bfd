from asyncflow._kernels.scatter.compiled import *
