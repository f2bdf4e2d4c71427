"""Covariances of the fluxes of galaxies: those of the curvature, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.config import PhotometryConfig
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.galaxies import Galaxies
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import LOG_INDEX
from raydeblend.fit.sersic import BULGE_INDEX

Array = NDArray[np.float64]


def summed_covariance(
    galaxies: Galaxies, by_source: Array, known_shape: Array, most: float
) -> Array:
    """Return the covariances ``(m, bands, bands)`` of the light of all parts together.

    Parts of a galaxy take from each other, which the sum of their variances ``by_source``
    ``(k, bands, bands)`` counts as if all of it were lost.  The whole is no less known than `most`
    times the error ``known_shape`` ``(m, bands)`` that it has where its shape is given.
    """
    covariance = galaxies.sums(by_source)
    several = np.bincount(galaxies.part_of, minlength=len(covariance)) > 1
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    excess = error[several] / (most * known_shape[several])
    less = 1 / np.fmax(excess, 1)
    covariance[several] *= less[:, :, None] * less[:, None]
    return covariance


def known_shape_error(stamp: Stamp, patches: Sequence[Patch], flux: Array) -> Array:
    """Return the errors ``(m, bands)`` of fluxes ``(m, bands)`` if only they were unknown."""
    square = [
        (stamp.weight[:, *patch.box.slices] * patch.light.astype(np.float64) ** 2).sum((1, 2))
        for patch in patches
    ]
    significance = np.sqrt(np.array(square).reshape(flux.shape))
    return np.asarray(flux / np.where(significance > 0, significance, np.nan))


def faint_part(stamp: Stamp, patches: Sequence[Patch], flux: Array, sigma: float) -> Array:
    """Return the part ``(m, bands)`` of the light where all bands together are below `sigma`.

    Of the noise; `flux` ``(m, bands)`` is the whole light of the galaxies, also beyond their
    patches.
    """
    bright = np.zeros_like(flux)
    for own, patch in zip(bright, patches, strict=True):
        square = stamp.weight[:, *patch.box.slices] * patch.light**2
        seen = square.sum(0) > sigma**2
        own[:] = np.where(seen, patch.light, 0).sum((1, 2), dtype=np.float64)
    return np.clip(1 - bright / np.where(flux > 0, flux, np.inf), 0, 1)


def mean_index(theta: Array, bulge_fraction: Array) -> Array:
    """Return the Sérsic index ``(m, bands)`` of disks and bulges, by their light.

    Of galaxies ``(m, 9)`` with bulges of ``(m, bands)`` of the light; without light, the disk's.
    """
    bulge = np.nan_to_num(bulge_fraction)
    return np.asarray((1 - bulge) * np.exp(theta[:, [LOG_INDEX]]) + bulge * BULGE_INDEX)


def whole_covariance(
    flux: Array,
    covariance: Array,
    neighbors: Array,
    faint: Array,
    index: Array,
    config: PhotometryConfig,
) -> Array:
    """Return the covariances of fluxes with what the curvature leaves out, ``(k, bands, bands)``.

    A neighbor's light in the wrong hands, or another profile than the model's, moves the fluxes of
    all bands alike.

    Parameters
    ----------
    flux, covariance
        ``(k, bands)`` and ``(k, bands, bands)``, from the curvature.
    neighbors
        ``(k, bands)`` flux of the other sources under each, see `neighbor_flux`.
    faint
        ``(k, bands)``, see `faint_part`.
    index
        ``(k, bands)``, see `mean_index`.
    """
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    known = np.minimum(neighbors, config.max_neighbor_errors * error)
    out = covariance.copy()
    unseen = config.faint_fraction * index * faint * (1 - faint)
    for common in (config.neighbor_fraction * known, config.own_fraction * flux, unseen * flux):
        out += common[:, :, None] * common[:, None, :]
    return out
