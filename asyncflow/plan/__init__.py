"""The logical plan: frozen data that the doors build, validation checks, ``explain`` prints and an engine runs.

Imports only ``asyncflow.errors`` and the types of ``asyncflow.model``.  Nothing here opens, computes or knows an engine.
"""
