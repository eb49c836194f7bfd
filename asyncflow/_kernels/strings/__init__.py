"""Operations on columns of strings."""
