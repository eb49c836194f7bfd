from asyncflow._kernels.sessions.compiled import *
