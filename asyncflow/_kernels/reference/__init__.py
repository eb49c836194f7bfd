"""The plain Python/numpy twins of the compiled kernels: one module per kernel, same names, same signatures.

They are the specification and the oracle: slow, obvious, checked against the compiled kernels on every input hypothesis can make.
"""
