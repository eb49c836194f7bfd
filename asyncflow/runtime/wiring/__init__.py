"""Plan to stages: schemas inferred, expressions and operators made, channels laid between stages."""
