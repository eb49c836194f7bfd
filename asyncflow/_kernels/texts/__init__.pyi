from asyncflow._kernels.texts.compiled import *
