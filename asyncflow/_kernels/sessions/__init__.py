"""Session windows and count windows."""
