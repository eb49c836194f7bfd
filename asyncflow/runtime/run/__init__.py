"""One run of a plan: its task group, its stop, its failure."""
