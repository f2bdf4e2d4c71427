"""The protocol `singles`: isolated galaxies of known class through the whole pipeline."""
