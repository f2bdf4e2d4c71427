"""HST and HSC: the bands, pixel scales, PSFs and noise that networks and the simulator share.

The super-resolution network turns HSC's pixels into HST's (Hemmati et al. 2022, section 2): what it
was trained on and what its candidates are judged by must be the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import galsim

from raydeblend.errors import ConfigError
from raydeblend.survey import draw_psf, get_survey, psf_profile
from raydeblend.tile import FloatArray

HST_BANDS = ("F435W", "F606W", "F775W", "F814W", "F850LP", "F125W", "F160W")
PIVOT = {"F435W": 432.9, "F606W": 592.2, "F775W": 769.3, "F814W": 804.5, "F850LP": 903.3,
         "F125W": 1248.6, "F160W": 1537.0}  # fmt: skip
"""Pivot wavelengths in nm (ACS and WFC3 instrument handbooks)."""
ACS_FWHM = 0.11
"""Arcsec; ACS after drizzling to 0.06", pixel included, for images that bring no PSF."""
INFRARED_FWHM = 0.18
"""Arcsec; WFC3/IR after drizzling to 0.06", pixel included."""
INFRARED_BLUR = 0.12
"""Arcsec (FWHM): WFC3/IR's own pixels of 0.13"."""
FINE_SCALE = 0.06
"""Arcsec: HST's pixels."""
FACTOR = 3
"""Fine pixels in one of HSC's, along each axis: 0.18 arcsec over 0.06 arcsec."""
COUNTERPARTS = {
    "F435W": "g",
    "F606W": "r",
    "F775W": "i",
    "F814W": "i",
    "F850LP": "z",
    # HSC has nothing redder: its reddest band's depth and seeing are taken.
    "F125W": "y",
    "F160W": "y",
}
"""HSC's band nearest to each HST band."""
REFERENCE = ("F775W", "F814W")
"""The i band: in the first of these peaks are sought."""
SEEING = 0.6
"""Arcsec, FWHM of the degraded i band (section 2)."""
HST_NOISE = 0.12
"""Coarse sky sigmas in a fine pixel: CANDELS' depth, 28.5 mag at 5σ in 0.2 arcsec (section 2)."""


def check_hst_bands(bands: Sequence[str]) -> None:
    """Raise ConfigError unless all `bands` are HST's."""
    unknown = [band for band in bands if band not in HST_BANDS]
    if unknown:
        raise ConfigError(f"unknown HST band {unknown[0]!r}; known: {', '.join(HST_BANDS)}")


def hst_psf(band: str) -> galsim.GSObject:
    """Return a round PSF as wide as drizzled images', wings of the telescope's Airy pattern."""
    infrared = PIVOT[band] > 1000
    optics = galsim.Airy(lam=PIVOT[band] if infrared else 805.0, diam=2.4, obscuration=0.33)
    blur = INFRARED_BLUR if infrared else ACS_FWHM / 2
    return galsim.Convolve(optics, galsim.Gaussian(fwhm=blur))


def coarse_seeing(band: str) -> float | None:
    """Return the seeing of a degraded HST band in arcsec: the paper's in i, None: HSC's median."""
    return SEEING if band in REFERENCE else None


@cache
def coarse_psf(band: str = "F775W", size: int = 25) -> FloatArray:
    """Return the PSF ``(size, size)`` of a degraded HST band on HSC's pixels."""
    profile = psf_profile(get_survey("HSC"), COUNTERPARTS[band], coarse_seeing(band))
    return draw_psf(profile, FACTOR * FINE_SCALE, size)
