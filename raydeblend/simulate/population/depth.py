"""How deep a survey's coadds are: exposures shortened to the depth of a layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raydeblend.survey import NJY_ZERO_POINT, Band, Survey, nominal_psf

HSC_WIDE = {"g": 26.5, "r": 26.1, "i": 25.9, "z": 25.1, "y": 24.4}
"""AB magnitudes of point sources at 5 sigma in HSC's Wide layer (Aihara et al. 2018, PASJ 70, S4,
table 1, measured: S8)."""


def as_observed(survey: Survey) -> Survey:
    """Return the survey at the depth of its wide layer: HSC's exposures are shortened, others kept.

    LSST's are those of ten years already.
    """
    if survey.name != "HSC":
        return survey
    bands = tuple(
        _at_depth(survey, band, HSC_WIDE[band.name]) if band.name in HSC_WIDE else band
        for band in survey.bands
    )
    return replace(survey, bands=bands)


def _at_depth(survey: Survey, band: Band, magnitude: float) -> Band:
    """Return the band exposed so long that a star of `magnitude` has a signal to noise of 5."""
    part = 10 ** (0.8 * (magnitude - depth(survey, band)))
    return replace(
        band,
        electrons_per_njy=part * band.electrons_per_njy,
        sky_electrons=part * band.sky_electrons,
    )


def depth(survey: Survey, band: Band) -> float:
    """Return the magnitude of a star at 5 sigma, fitted with the nominal PSF in sky noise."""
    psf = nominal_psf(survey, band.name)
    return float(NJY_ZERO_POINT - 2.5 * np.log10(5 * band.sky_sigma / np.sqrt(np.sum(psf**2))))
