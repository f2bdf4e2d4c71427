"""Simulated galaxies, blends and tiles, drawn with GalSim."""
