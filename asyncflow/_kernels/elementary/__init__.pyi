from asyncflow._kernels.elementary.compiled import *
