"""The super-resolution network as a deblender (Hemmati et al. 2022)."""
