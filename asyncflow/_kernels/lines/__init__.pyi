from asyncflow._kernels.lines.compiled import *
