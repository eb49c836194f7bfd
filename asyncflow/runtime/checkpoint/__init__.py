"""Checkpoints of a run: barriers are sent, the states of all parts collected, and given to the parts of another run."""
