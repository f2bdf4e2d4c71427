"""Stars that are narrower than the given PSF, which therefore is not the one of their stamp.

No galaxy is narrower than the PSF.  Where the brightest source of a stamp is, no model fits it, and
what it leaves would be taken for more sources: the PSF of the stamp is then as wide as it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.config import StarConfig
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.detect.peaks import refine_peaks
from raydeblend.fit.compiled.blend import make_mixture
from raydeblend.fit.psf import PsfMixture, stack_places
from raydeblend.fit.psf_star import width_in_psf

Array = NDArray[np.float64]
Pixels = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows and columns."""


def with_star_psf(stamp: Stamp, config: StarConfig) -> Stamp:
    """Return the stamp with PSFs no wider than its brightest source."""
    shown = stamp.significance
    if shown is None or shown.max() < config.min_significance:
        return stamp
    peak = np.array([np.unravel_index(np.argmax(shown), shown.shape)])
    star = refine_peaks(shown, peak)
    pixels = _pixels_about(star[0], shown.shape, config.radius * stamp.width)
    psf = [list(band) for band in stamp.psf]
    found = False
    for band, place in enumerate(stamp.place(star)[:, 0].tolist()):
        width = _width(stamp, band, psf[band][place], star[0], pixels, config)
        if config.least_width < width < config.most_width:
            psf[band][place], found = _narrowed(psf[band][place], width), True
    if not found:
        return stamp
    changed = replace(stamp, psf=tuple(map(tuple, psf)))
    changed.remember(mixture=make_mixture(*stack_places(changed.psf), stamp.pixel_scale))
    return changed


def _pixels_about(xy: Array, shape: tuple[int, ...], radius: float) -> Pixels:
    """Return the rows and columns ``(p,)`` of the pixels within a radius of a position."""
    x, y = xy
    half = np.array([y, x]) - radius, np.array([y, x]) + radius
    (y0, x0), (y1, x1) = (np.clip(np.ceil(end), 0, shape).astype(int) for end in half)
    rows, columns = np.mgrid[y0:y1, x0:x1]
    near = np.hypot(columns - x, rows - y) < radius
    return rows[near], columns[near]


def _width(
    stamp: Stamp, band: int, psf: PsfMixture, star: Array, pixels: Pixels, config: StarConfig
) -> float:
    """Return how wide the star is in the PSF of a band; 1 where that cannot be told."""
    image, weight = (each[band][pixels].astype(np.float64) for each in (stamp.image, stamp.weight))
    xy = np.stack(pixels[::-1]).astype(np.float64)
    core = np.hypot(*(xy - star[:, None])) < stamp.width
    if np.sqrt(weight @ image**2) < config.min_snr or not (weight[core] > 0).all():
        return 1.0
    return width_in_psf(psf, image, weight, xy, star)


def _narrowed(psf: PsfMixture, width: float) -> PsfMixture:
    return replace(psf, covariances=width**2 * psf.covariances)
