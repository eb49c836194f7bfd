"""Windows: rows in, rows of closed or revised windows out."""
