from asyncflow._kernels.top.compiled import *
