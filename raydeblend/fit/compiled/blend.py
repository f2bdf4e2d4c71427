"""The input of the compiled fit: one blend's samples, PSF and priors, contiguous in memory."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.bulge_disk import gaussian_pairs
from raydeblend.fit.compiled.prior import Prior
from raydeblend.fit.compiled.samples import Samples
from raydeblend.fit.priors import BulgeDiskPriors

Array = NDArray[np.float64]


class Mixture(NamedTuple):
    """Gaussians of disk and bulge, each with one of the PSF.

    Attributes
    ----------
    psf
        ``(g,)`` which Gaussian of the PSF.
    weight, slope
        ``(g, d)`` and ``(g, d - 1)`` series in ln n, see `bulge_disk.GaussianPairs`.
    variance
        ``(g,)`` along an axis in pixels² for a half-light radius of 1 arcsec.
    disk
        How many of them, the first ones, are the disk's.
    psf_weight, psf_cov
        ``(b, m, c)`` and ``(b, m, c, 3)`` (xx, xy, yy in pixels²) at m places, narrowest first.
    """

    psf: NDArray[np.int64]
    weight: Array
    slope: Array
    variance: Array
    disk: int
    psf_weight: Array
    psf_cov: Array


class Blend(NamedTuple):
    """A blend of K sources.

    Attributes
    ----------
    start
        ``(K, 2)`` expected positions (x, y).
    place
        ``(b, K)`` which of the mixture's places a source is seen at.
    compact
        ``(K,)`` sources that were found as points, see `BulgeDiskPriors`.
    hidden
        ``(b, K)`` sources that a band hardly shows though others do, see `fit.scene.Scene`.
    """

    samples: Samples
    mixture: Mixture
    prior: Prior
    start: Array
    place: NDArray[np.int64]
    compact: NDArray[np.bool_]
    hidden: NDArray[np.bool_]


def make_mixture(psf_weight: Array, psf_cov: Array, pixel_scale: float) -> Mixture:
    """Return the Gaussians for PSFs ``(b, m, c)``, ``(b, m, c, 3)``, with pixels in arcsec."""
    pairs = gaussian_pairs(psf_weight.shape[2])
    return Mixture(
        psf=pairs.psf,
        weight=pairs.weights,
        slope=pairs.slopes,
        variance=pairs.variances / pixel_scale**2,
        disk=pairs.disk,
        psf_weight=np.ascontiguousarray(psf_weight, dtype=np.float64),
        psf_cov=np.ascontiguousarray(psf_cov, dtype=np.float64),
    )


@cache
def make_prior(priors: BulgeDiskPriors) -> Prior:
    """Return the numbers of the priors."""
    return Prior(*(float(getattr(priors, name)) for name in Prior._fields))
