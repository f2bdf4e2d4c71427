"""A galaxy of one center and shape as Gaussians: its image and derivatives, in compiled loops.

For the photometry of single sources (`fit.single`, `fit.blend`): theta is (x, y, g1, g2, ln T) and,
of ``bdf``, the concentration c.  The sums are those of `gaussians`, with s the part of T/2 that a
Gaussian has, and N by c.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import part
from raydeblend.fit.compiled.gaussians import (
    BLOCK,
    COLUMNS,
    MOST_EXPONENT,
    SHAPES,
    SUMS,
    all_sums,
    within_reach,
)

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
Indices = NDArray[np.int64]

_CONCENTRATION = 5
SOFTENING = 0.05
"""Of |c| at 0, so that a fit comes from bulges to flat disks smoothly."""


class Family(NamedTuple):
    """The galaxies that a fit chooses from: Gaussians of profile and PSF, and priors.

    Attributes
    ----------
    weight
        ``(b, g)`` of each Gaussian in its part, of unit flux: disk, bulge or flat core.
    fraction
        ``(g,)`` its variance along an axis over T/2.
    psf_cov
        ``(b, g, 3)`` (xx, xy, yy) in pixels² of the PSF's Gaussian behind it.
    disk, bulge
        Where the Gaussians of the disk end, which come first, and those of the bulge; those of the
        flat core are the last.  Both are g for a profile without such parts.
    mean, precision
        ``(q,)`` of the Gaussian priors on theta.
    pixel_scale
        Arcsec per pixel.
    """

    weight: Array
    fraction: Array
    psf_cov: Array
    disk: int
    bulge: int
    mean: Array
    precision: Array
    pixel_scale: float


class Brush(NamedTuple):
    """Working memory for one image of a galaxy."""

    dx: FloatArray
    dy: FloatArray
    nearest: Array
    table: FloatArray
    near: Indices
    sums: FloatArray
    cov: Array
    by_shape: Array


@part()
def make_brush(family: Family, samples: int) -> Brush:
    """Return memory for images of whole blocks of samples."""
    g = len(family.fraction)
    return Brush(
        np.empty(samples, dtype=np.float32),
        np.empty(samples, dtype=np.float32),
        np.empty(samples // BLOCK),
        np.empty((COLUMNS, g), dtype=np.float32),
        np.empty(g, dtype=np.int64),
        np.empty((SUMS, BLOCK), dtype=np.float32),
        np.empty(3),
        np.empty((3, 3)),
    )


@part()
def shape_covariance(theta: Array, pixel_scale: float, cov: Array, slopes: Array) -> None:
    """Write the covariance ``(3,)`` in pixels² and its derivatives ``(3, 3)`` by (g1, g2, ln T).

    C = T/2 [[1 + e1, e2], [e2, 1 − e1]] with e = 2g / (1 + |g|²).
    """
    g1, g2 = theta[2], theta[3]
    half = 0.5 * np.exp(theta[4]) / pixel_scale**2
    norm = 1 + g1 * g1 + g2 * g2
    e1, e2 = 2 * g1 / norm, 2 * g2 / norm
    cov[0], cov[1], cov[2] = half * (1 + e1), half * e2, half * (1 - e1)
    for i in range(2):
        own = g1 if i == 0 else g2
        d1 = 2 * ((1.0 if i == 0 else 0.0) - e1 * own) / norm
        d2 = 2 * ((0.0 if i == 0 else 1.0) - e2 * own) / norm
        slopes[i, 0], slopes[i, 1], slopes[i, 2] = half * d1, half * d2, -half * d1
        slopes[2, i] = cov[i]
    slopes[2, 2] = cov[2]


@part()
def convolve(family: Family, cov: Array, c: float, band: int, table: FloatArray) -> None:
    """Write the `COLUMNS` of each Gaussian, see `gaussians.convolve`, at a concentration.

    With |c| = √(c² + `SOFTENING`²) the disk has 1 − |c| of the light, the bulge (|c| + c)/2 and the
    flat core (|c| − c)/2.
    """
    root = np.sqrt(c * c + SOFTENING * SOFTENING) if family.disk < len(family.fraction) else 0.0
    slope = c / root if root > 0 else 0.0
    for g in range(len(family.fraction)):
        own, seeing = family.fraction[g], family.psf_cov[band, g]
        xx, xy, yy = own * cov[0] + seeing[0], own * cov[1] + seeing[1], own * cov[2] + seeing[2]
        determinant = xx * yy - xy * xy
        largest = 0.5 * (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy))
        peak = family.weight[band, g] / (2 * np.pi * np.sqrt(determinant))
        if g < family.disk:
            light, change = 1 - root, -slope
        elif g < family.bulge:
            light, change = 0.5 * (root + c), 0.5 * (slope + 1)
        else:
            light, change = 0.5 * (root - c), 0.5 * (slope - 1)
        table[0, g] = yy / determinant
        table[1, g] = -xy / determinant
        table[2, g] = xx / determinant
        table[3, g] = peak * light
        table[4, g] = own
        table[5, g] = peak * change
        table[6, g] = 2 * MOST_EXPONENT * largest if peak != 0 else -1.0


@part()
def draw_galaxy(
    family: Family, theta: Array, band: int, brush: Brush, image: FloatArray, slopes: FloatArray
) -> None:
    """Write the image ``(p,)`` of unit flux and its derivatives ``(q, p)`` by theta.

    The brush holds the shape and the offsets of all samples from the center.
    """
    count = len(family.fraction)
    c = theta[_CONCENTRATION] if count > family.disk else 0.0
    convolve(family, brush.cov, c, band, brush.table)
    for block in range(len(brush.nearest)):
        at = slice(block * BLOCK, (block + 1) * BLOCK)
        near = within_reach(brush.table, 0, count, brush.nearest[block], brush.near)
        all_sums(brush.dx[at], brush.dy[at], brush.table, brush.near, near, brush.sums)
        _write_block(brush.sums, brush.by_shape, block * BLOCK, image, slopes)


@part()
def _write_block(
    sums: FloatArray, by_shape: Array, first: int, image: FloatArray, slopes: FloatArray
) -> None:
    """Write image and derivatives at one block, from the sums as `gaussians` has them."""
    at = slice(first, first + BLOCK)
    _copy(sums[0], image[at])
    _copy(sums[1], slopes[0, at])
    _copy(sums[2], slopes[1, at])
    for q in range(SHAPES):
        a = np.float32(0.5 * by_shape[q, 0])
        b = np.float32(by_shape[q, 1])
        c = np.float32(0.5 * by_shape[q, 2])
        out = slopes[2 + q, at]
        for i in range(BLOCK):
            out[i] = a * sums[3, i] + b * sums[4, i] + c * sums[5, i]
    if len(slopes) > _CONCENTRATION:
        _copy(sums[6], slopes[_CONCENTRATION, at])


@part()
def _copy(values: FloatArray, to: FloatArray) -> None:
    for i in range(BLOCK):
        to[i] = values[i]
