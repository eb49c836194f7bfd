from asyncflow._kernels.regex.compiled import *
