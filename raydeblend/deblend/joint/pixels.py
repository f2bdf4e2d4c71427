"""From prepared pixels to the stamps of the joint fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from raydeblend.deblend.joint.config import PixelConfig
from raydeblend.deblend.joint.seen_psf import SeenPsf
from raydeblend.deblend.joint.stamp import Stamp, lit_samples
from raydeblend.deblend.preparation import Prepared
from raydeblend.detect.footprints import matched_filter
from raydeblend.detect.smoothing import smoothed_stamp
from raydeblend.tile import FloatArray


def make_stamps(
    made: Prepared,
    variance: ArrayLike | None,
    cores: FloatArray | None,
    psf: Sequence[SeenPsf],
    pixel_scale: float,
    config: PixelConfig,
) -> list[Stamp]:
    """Return what is fitted of each of n stamps.

    Parameters
    ----------
    variance, cores
        ``(n, bands, y, x)`` as passed to the deblender; light of cores is shown to the search for
        peaks, but not fitted.
    """
    weight = _with_model_error(made.image, made.weight, config)
    shown = made.image, weight
    if cores is not None and variance is not None:
        image, full = _with_cores(made, np.asarray(variance), cores)
        shown = image, _with_model_error(image, full, config)
    columns = zip(made.image, weight, *shown, psf, strict=True)
    return [_stamp(*row, pixel_scale, config) for row in columns]


def _with_model_error(image: FloatArray, weight: FloatArray, config: PixelConfig) -> FloatArray:
    """Return weights with the part of the light that may be wrong among the noise."""
    error = config.model_error * np.clip(image, 0, None)
    return np.asarray(weight / (1 + weight * error**2))


def _with_cores(
    made: Prepared, variance: FloatArray, cores: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return images and weights in which the hidden cores of stars are seen."""
    hidden = cores > 0
    # Where a pixel is used, this is the variance in whose unit the weights are.
    unit = np.where(made.weight > 0, made.weight * variance, 0).max(axis=(2, 3), keepdims=True)
    image = np.where(hidden, cores / made.sigma, made.image)
    return image, np.where(hidden, unit / variance, made.weight).astype(np.float32)


def _stamp(
    image: FloatArray,
    weight: FloatArray,
    shown: FloatArray,
    shown_weight: FloatArray,
    psf: SeenPsf,
    pixel_scale: float,
    config: PixelConfig,
) -> Stamp:
    """Make a stamp; a band whose PSF cannot be used is treated as missing.

    Its peaks are those of `shown`.
    """
    known = psf.known[:, None, None]
    weight, shown_weight = (np.where(known, each, np.float32(0)) for each in (weight, shown_weight))
    significance = matched_filter(shown, shown_weight, psf.width, smoothed_stamp)
    stamp = Stamp(
        image,
        weight,
        psf.mixtures,
        psf.width,
        pixel_scale,
        *lit_samples(significance, psf.width, weight, config),
        config.min_shown_fraction,
        significance=significance,
        places=psf.places,
    )
    stamp.remember(mixture=psf.mixture(pixel_scale))
    return stamp
