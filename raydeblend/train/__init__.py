"""Training: losses, one step per network, and the Ray Train loop."""
