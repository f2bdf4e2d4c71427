"""The protocol of Wang et al. (2022): blends of two and of three galaxies."""
