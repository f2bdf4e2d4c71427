"""The protocol of Hemmati et al. (2022): which blends are found at which resolution."""
