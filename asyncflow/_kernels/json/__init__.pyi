from asyncflow._kernels.json.compiled import *
