"""The functions of expressions on columns; ``named`` says which there are.  Where the types decide, they do so by the arrays given."""
