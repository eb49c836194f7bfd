from asyncflow._kernels.window.compiled import *
