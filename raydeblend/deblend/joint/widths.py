"""Sources that are wider than they are seen: their radii are bounded.

A peak of noise or in a neighbor's wings, as a source that is free to grow, takes what far galaxies,
halos of stars and the sky leave over many square arcseconds: many times the flux of what is there.
Its model then hardly shows where its peak was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, better_of, refit
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.prune import within_limit
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import LOG_RADII
from raydeblend.fit.profiles import EXPONENTIAL_VARIANCE
from raydeblend.tile import BoolArray

Array = NDArray[np.float64]


def bound_widths(
    stamps: Sequence[Stamp], fits: Sequence[BlendFit], settings: FitSettings
) -> list[BlendFit]:
    """Fit the blends with sources that are too wide once more, with these as compact ones.

    Again where that has made others too wide.
    """
    best = list(fits)
    going: Sequence[int] = range(len(best))
    while going:
        wide = {i: too_wide(stamps[i], best[i], settings) for i in going}
        going = within_limit(best, [i for i in going if wide[i].any()], settings.limit)
        requests = [
            refit(stamps[i], narrowed(best[i], wide[i], settings), np.flatnonzero(wide[i]))
            for i in going
        ]
        fits = fit_requests(requests, settings)
        for i, fit in zip(going, fits, strict=True):
            best[i] = better_of(best[i], fit, not fit.limited)
        going = [i for i, fit in zip(going, fits, strict=True) if not fit.limited]
    return best


def too_wide(stamp: Stamp, fit: BlendFit, settings: FitSettings) -> BoolArray:
    """Tell which sources ``(k,)`` are wider than compact ones, and would not be detected so."""
    larger = fit.flux.sum(0).argmax(1, keepdims=True)
    log_radius = np.take_along_axis(fit.theta[:, LOG_RADII], larger, axis=1)[:, 0]
    hardly = significance(stamp, fit, log_radius) < settings.config.prune.least_significance
    return np.asarray(hardly & ~fit.compact & (log_radius > settings.priors.largest))


def significance(stamp: Stamp, fit: BlendFit, log_radius: Array) -> Array:
    """Return about how far ``(k,)`` sources of half-light radii stand out where peaks are found.

    There the image is convolved with the PSF: of a flux F in units of a pixel's noise Gaussians of
    standard deviation w, and s for the source, leave F w / (√π (2 w² + s²)).  An exponential disk
    stands out as a Gaussian of half its variance does.
    """
    w, whole = stamp.width, np.sqrt((fit.total**2).sum(0))
    variance = 0.5 * EXPONENTIAL_VARIANCE * np.exp(2 * log_radius) / stamp.pixel_scale**2
    return np.asarray(whole * w / (np.sqrt(np.pi) * (2 * w**2 + variance)))


def narrowed(fit: BlendFit, wide: BoolArray, settings: FitSettings) -> BlendFit:
    """Return the fit with some sources compact, from where to fit it again."""
    theta = fit.theta.copy()
    theta[wide, LOG_RADII] = np.minimum(theta[wide, LOG_RADII], settings.priors.largest)
    return replace(fit, theta=theta, compact=fit.compact | wide)
