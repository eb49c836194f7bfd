"""Keys of rows to dense ids."""
