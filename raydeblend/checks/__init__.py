"""Whether the pixels of a cell are what its files say: PSF, zero points, WCS, variance, masks."""
