from asyncflow._kernels.dedup.compiled import *
