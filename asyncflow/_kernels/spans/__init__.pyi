from asyncflow._kernels.spans.compiled import *
