"""PSFs as a night gives them: of another width and ellipticity in each band, with wings."""

from __future__ import annotations

import galsim
import numpy as np

from raydeblend.survey import Survey

COMMON_WIDTH, BAND_WIDTH = 0.06, 0.04
"""Scatter of ln FWHM about the survey's medians: of all bands together, and of each (Aihara et
al. 2018, PASJ 70, S8, figure 4)."""
COMMON_SHEAR, BAND_SHEAR = 0.012, 0.012
"""Scatter of each component of the reduced shear: of all bands together, and of each; the mean
ellipticity of HSC's PSFs is 0.02 to 0.05 (Mandelbaum et al. 2018, PASJ 70, S25)."""
BETA = (2.8, 4.2)
"""Range of Moffat's exponent; 2.5 has the widest wings that seeing has, 4.765 is Kolmogorov's core
(Trujillo et al. 2001, MNRAS 328, 977)."""


def draw_seeing(
    survey: Survey, bands: tuple[str, ...], rng: np.random.Generator
) -> tuple[galsim.GSObject, ...]:
    """Draw the PSF of each band."""
    width = COMMON_WIDTH * rng.standard_normal()
    g = COMMON_SHEAR * rng.standard_normal(2)
    psfs = []
    for band in bands:
        own = width + BAND_WIDTH * rng.standard_normal()
        g1, g2 = g + BAND_SHEAR * rng.standard_normal(2)
        fwhm = survey.band(band).psf_fwhm * float(np.exp(own))
        moffat = galsim.Moffat(beta=float(rng.uniform(*BETA)), fwhm=fwhm)
        psfs.append(moffat.shear(g1=float(g1), g2=float(g2)))
    return tuple(psfs)
