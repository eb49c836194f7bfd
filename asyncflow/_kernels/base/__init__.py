"""What several kernels share: instruction levels, text, numbers, times, hash tables, checks at the faces."""
