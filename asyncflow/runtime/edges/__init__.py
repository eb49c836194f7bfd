"""What lies between two stages: channels, fan-out, and the deadlocks among them."""
