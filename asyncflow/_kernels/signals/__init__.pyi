from asyncflow._kernels.signals.compiled import *
