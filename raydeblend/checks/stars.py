"""The stars among bright sources, and what they say of PSFs and zero points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.checks.config import StarConfig
from raydeblend.checks.sources import BandByBand
from raydeblend.simulate.population.stars import LOCUS, SCATTER
from raydeblend.survey import NJY_ZERO_POINT

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

LOCUS_BANDS = ("g", "r", "i")


def band_excess(sources: BandByBand, config: StarConfig) -> FloatArray:
    """Return by how much sources are wider in a band than in the others ``(n, bands)``.

    In units of T of the band's PSF.  Galaxies are as large in one band as in another, very nearly,
    before the PSF; where one band says otherwise of all, its PSF is wrong.  NaN for large ones.
    """
    own = 2 * sources.psf_width**2
    width = sources.excess * own
    more = (width - _middle(width)[:, None]) / own
    return np.where((_middle(sources.excess) < config.large)[:, None], more, np.nan)


def narrowest(sources: BandByBand, n: int) -> float:
    """Return T over that of the PSF of the n-th narrowest source, of the middle of the bands.

    Nothing is narrower than the PSF, and stars are as wide.
    """
    width = np.sort(_middle(sources.excess))
    return float(width[n - 1]) if len(width) >= n else float("nan")


def are_points(sources: BandByBand, config: StarConfig) -> BoolArray:
    """Tell which sources ``(n,)`` are as wide as the PSF."""
    return np.asarray(np.abs(_middle(sources.excess)) < config.point)


def _middle(values: FloatArray) -> FloatArray:
    """Return the medians ``(n,)`` over the bands that are known, NaN of none."""
    known = np.isfinite(values).any(axis=1)
    middle = np.full(len(values), np.nan)
    middle[known] = np.nanmedian(values[known], axis=1)
    return middle


@dataclass(frozen=True)
class LocusOffset:
    """Which one band, moved by how much, brings stars nearest to their locus.

    Attributes
    ----------
    band
        Empty if none does.
    offset
        In magnitudes, positive if the band's stars are too faint.
    gain
        By how much chi squared is lower than with no offset.
    chi2
        What is left of it, for each star.
    n
        Stars.
    """

    band: str
    offset: float
    gain: float
    chi2: float
    n: int


def locus_offset(sources: BandByBand, bands: Sequence[str], config: StarConfig) -> LocusOffset:
    """Compare the colors of stars with their locus; the bands must have g, r and i."""
    columns = [list(bands).index(band) for band in LOCUS_BANDS]
    snr = sources.flux[:, columns] / sources.flux_err[:, columns]
    magnitude = NJY_ZERO_POINT - 2.5 * np.log10(
        sources.flux[(snr > config.least_snr).all(axis=1)][:, columns]
    )
    unmoved, n = _distance2(magnitude, config.outlier), len(magnitude)
    most, step = config.most_offset, config.offset_step
    offsets = np.arange(-most, most + step / 2, step)
    best = LocusOffset("", 0.0, 0.0, unmoved / max(n, 1), n)
    for i, band in enumerate(LOCUS_BANDS):
        for offset in offsets.tolist():
            left = _distance2(magnitude - offset * (np.arange(3) == i), config.outlier)
            if unmoved - left > best.gain:
                best = LocusOffset(band, offset, unmoved - left, left / n, n)
    return best


def _distance2(magnitude: FloatArray, outlier: float) -> float:
    """Return the chi squared of stars ``(n, 3)`` off the locus, that of outliers bounded."""
    colors = magnitude[:, :2] - magnitude[:, 1:]
    fine = np.linspace(LOCUS[0, 0], LOCUS[-1, 0], 200)
    track = np.column_stack([np.interp(fine, LOCUS[:, 0], LOCUS[:, j]) for j in (2, 3)])
    distance = np.linalg.norm(colors[:, None] - track[None], axis=2).min(axis=1) / SCATTER
    return float((np.minimum(distance, outlier) ** 2).sum())
