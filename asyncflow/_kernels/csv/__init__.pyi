from asyncflow._kernels.csv.compiled import *
