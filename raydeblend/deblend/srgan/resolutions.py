"""Peaks at HSC's and HST's resolution, and whether they are those of the galaxies of a blend.

Hemmati et al. 2022, section 4: a peak finder that knows the PSF looks at the low, the high and
the recovered resolution, and its peaks are matched with the galaxies by position.  Positions are
in fine pixels of 0.06".
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from raydeblend.detect.matching import match_positions
from raydeblend.detect.sharp_peaks import PeakRule, find_sharp_peaks
from raydeblend.instruments import FACTOR, FINE_SCALE, HST_NOISE, coarse_psf, hst_psf
from raydeblend.survey import draw_psf
from raydeblend.tile import FloatArray

Positions = NDArray[np.float64]

MATCH_RADIUS = 4.0
"""Fine pixels, 0.24 arcsec: a peak within this is of the galaxy."""
LOW_RULE = PeakRule()
HIGH_RULE = PeakRule(
    threshold=5.0, curvature=5.0, prominence=5.0, contrast=0.2, relative=0.1, smoothing=2.0
)
"""No second peak in 286 smooth galaxies with noise of HST's depth, which is what makes them."""


def low_peaks(image: NDArray[np.floating], sigma: float | NDArray[np.floating] = 1.0) -> Positions:
    """Return ``(k, 2)`` peaks of a low-resolution image ``(y, x)`` with noise `sigma`."""
    return to_fine(find_sharp_peaks(image, coarse_psf(), sigma, LOW_RULE).xy)


def high_peaks(image: NDArray[np.floating]) -> Positions:
    """Return ``(k, 2)`` peaks of HST's image ``(3 y, 3 x)``, in coarse sky sigmas."""
    return find_sharp_peaks(image, fine_psf(), HST_NOISE, HIGH_RULE).xy


def to_fine(xy: NDArray[np.floating]) -> Positions:
    """Return positions ``(k, 2)`` of coarse pixels in fine ones."""
    return np.asarray(FACTOR * np.asarray(xy, dtype=np.float64) + (FACTOR - 1) / 2)


def to_coarse(xy: NDArray[np.floating]) -> Positions:
    """Return positions ``(k, 2)`` of fine pixels in coarse ones."""
    return np.asarray((np.asarray(xy, dtype=np.float64) - (FACTOR - 1) / 2) / FACTOR)


def matched(peaks: Positions, truth: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return ``(k,)`` which peak is each true position's, one to one; -1 where none is near."""
    return match_positions(peaks, truth, MATCH_RADIUS)


def both_found(peaks: Positions, truth: NDArray[np.floating]) -> bool:
    """Tell whether each true position has a peak of its own within `MATCH_RADIUS`."""
    return len(peaks) >= len(truth) and bool((matched(peaks, truth) >= 0).all())


@cache
def fine_psf() -> FloatArray:
    """Return HST's PSF in F775W on the fine pixels, ``(21, 21)``."""
    return draw_psf(hst_psf("F775W"), FINE_SCALE, 21)
