"""Input from Python: iterables of rows, tables or bytes, and the values in them."""
