"""A second signal ends the process while a kernel works."""
