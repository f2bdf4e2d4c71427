"""Fluxes, sizes and shapes of deblended sources, by ngmix or by our own mixture fitter."""
