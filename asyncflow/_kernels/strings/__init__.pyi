from asyncflow._kernels.strings.compiled import *
