"""The protocol `shear`: how the ensemble of shapes answers to a known shear."""
