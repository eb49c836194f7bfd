from asyncflow._kernels.encode.compiled import *
