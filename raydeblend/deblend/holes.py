"""Pixels that are bad in some of the bands: filled from the others, then from a network's models.

A network sees whole images only.  What a band lacks at the edge of its coverage, in a chip gap or
in a saturated core the other bands show, in their colors; once the network has drawn the sources,
its own models of that band say better what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from raydeblend.tile import BoolArray, FloatArray


@dataclass(frozen=True)
class HoleConfig:
    """How the color of a hole is found.

    Attributes
    ----------
    color_radius
        Pixels (sigma) around a hole from which its color is taken.
    smoothing
        Pixels (sigma), about the seeing, by which images are smoothed before their color is taken.
    prior_squares
        Squared signal to noise up to which a local color is that of the whole stamp, and that of
        the stamp is 1.
    colors
        Limits of the light of a band over that of another, in units of their noise.
    """

    color_radius: float = 5.0
    smoothing: float = 1.5
    prior_squares: float = 100.0
    colors: tuple[float, float] = (0.01, 100.0)


HOLES = HoleConfig()


def holes_of(weight: FloatArray) -> BoolArray:
    """Tell which pixels ``(n, bands, y, x)`` are bad in a band and good in another.

    A band without any usable pixel in a stamp is missing there, and has no holes.
    """
    good = weight > 0
    there = good.any(axis=(2, 3), keepdims=True)
    return np.asarray(~good & there & good.any(axis=1, keepdims=True))


def fill_from_bands(image: FloatArray, bad: BoolArray) -> FloatArray:
    """Return one stamp with its holes filled by the light of the bands that are good there.

    Parameters
    ----------
    image, bad
        ``(bands, y, x)`` in noise units, and where it is unusable.  Pixels that are bad in all
        bands, and bands that are bad everywhere, stay as they are.
    """
    there = np.asarray(~bad.all(axis=(1, 2)))
    holes = bad & there[:, None, None] & ~bad.all(axis=0)
    if not holes.any():
        return image
    good = (~bad).astype(np.float32)
    filled = image.copy()
    for band in np.flatnonzero(holes.any(axis=(1, 2))):
        total, weights = np.zeros((2, *image.shape[1:]))
        for other in np.flatnonzero(there & (np.arange(len(image)) != band)):
            color = _color(image[band], image[other], good[band] * good[other])
            # Its noise is that of the other band times the color.
            weight = good[other] / color**2
            total += weight * color * image[other]
            weights += weight
        filled[band] = np.where(holes[band], total / np.where(weights > 0, weights, 1), image[band])
    return filled


def fill_from_models(
    image: FloatArray, holes: BoolArray, light: Callable[[NDArray[np.intp]], FloatArray]
) -> FloatArray:
    """Return stamps ``(n, bands, y, x)`` whose holes hold the light of a network's models.

    Parameters
    ----------
    light
        From the numbers of stamps to the sums of their models; it is asked for those with holes.
    """
    rows = np.flatnonzero(holes.any(axis=(1, 2, 3)))
    if not len(rows):
        return image
    filled = image.copy()
    filled[rows] = np.where(holes[rows], light(rows), image[rows])
    return filled


def _smoothed(band: FloatArray, good: FloatArray) -> FloatArray:
    near = gaussian_filter(good, HOLES.smoothing)
    return np.asarray(gaussian_filter(band * good, HOLES.smoothing) / np.maximum(near, 1e-3))


def _color(band: FloatArray, other: FloatArray, both: FloatArray) -> FloatArray:
    """Return the local ratio ``(y, x)`` of two bands, by least squares where both are good."""
    # Smoothed over the same pixels, or a slope at the edge of one would be taken for a color.
    one, two = _smoothed(band, both), _smoothed(other, both)
    product, square = both * one * two, both * two**2
    prior, radius = HOLES.prior_squares, HOLES.color_radius
    whole = (prior + product.sum()) / (prior + square.sum())
    area = 2 * np.pi * radius**2
    near = (prior * whole + area * gaussian_filter(product, radius)) / (
        prior + area * gaussian_filter(square, radius)
    )
    return np.asarray(np.clip(near, *HOLES.colors))
