from asyncflow._kernels.interval.compiled import *
