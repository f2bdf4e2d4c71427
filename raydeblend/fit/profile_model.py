"""The Gaussians of galaxies of one profile: those of the profile, each with one of the PSF.

A galaxy is a profile of concentric Gaussians (`profiles.py`), convolved analytically with the
Gaussians of the PSF.  Its parameters are theta = (x, y, g1, g2, ln T) and, for ``bdf``, the
concentration; x and y in pixels from the deblended position, T in arcsec².
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.config import PROFILE_FIT
from raydeblend.fit.profiles import DISK, FLAT, Profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.single_priors import Priors

CONFIG = PROFILE_FIT.family

Array = NDArray[np.float64]


def make_family(
    shape: Profile,
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    priors: Priors,
    half_t: float | None = None,
    square: float = 0.0,
) -> Family:
    """Pair the Gaussians of profile and PSF; merge those that the PSF makes all but equal.

    Parameters
    ----------
    half_t
        T/2 in pixels² of the largest galaxy that the pairs are for; None merges nothing.
    square
        Second moment in pixels², along an axis, of what the PSF does not hold of a pixel.
    """
    psf_weight, psf_cov = _psf_arrays(psf)
    variance = 0.5 * (psf_cov[:, :, 0] + psf_cov[:, :, 2]).min(0)
    light = shape.light
    columns = []
    for c, (most, size) in enumerate(zip(psf_weight.max(0), variance, strict=True)):
        for group in _groups(shape, most, np.inf if half_t is None else half_t / size):
            own = light[group]
            columns.append(
                (int(shape.part[group[0]]), c, own.sum(), own @ shape.fractions[group] / own.sum())
            )
    columns.sort(key=lambda column: column[0])
    part, which, weight, fraction = (np.array(column) for column in zip(*columns, strict=True))
    # In the order of memory that the fit is compiled for.
    return Family(
        weight=np.ascontiguousarray(psf_weight[:, which] * weight),
        fraction=fraction,
        psf_cov=np.ascontiguousarray(psf_cov[:, which] + square * np.array([1.0, 0.0, 1.0])),
        disk=int((part == DISK).sum()),
        bulge=int((part != FLAT).sum()),
        mean=priors.mean(shape),
        precision=priors.precision(shape),
        pixel_scale=float(pixel_scale),
    )


def size_class(log_t: Array, pixel_scale: float) -> tuple[NDArray[np.int_], Array]:
    """Return the class of size of each galaxy, and the T/2 in pixels² that all in it are below.

    Fixed classes, so that which Gaussians are merged for a source does not depend on the others.
    """
    number = np.ceil(np.nan_to_num(log_t) / CONFIG.class_width).astype(int)
    return number, 0.5 * np.exp(number * CONFIG.class_width) / pixel_scale**2


def _groups(shape: Profile, light: float, relative: float) -> list[NDArray[np.intp]]:
    """Return which Gaussians of the galaxy to merge behind one of the PSF.

    Gaussians of variances C_i, merged at their mean C, miss their central brightness by the
    part Var(C_i) / C² of it.

    Parameters
    ----------
    light
        Weight of the PSF's Gaussian.
    relative
        T/2 over its variance.
    """
    groups = []
    for family in (np.flatnonzero(shape.part == part) for part in np.unique(shape.part)):
        merged = 1
        for end in range(2, len(family) + 1) if np.isfinite(relative) else ():
            part = family[:end]
            mass, size = shape.light[part], relative * shape.fractions[part]
            mean = mass @ size / mass.sum()
            error = light * mass @ (size - mean) ** 2 / (1 + mean) ** 2
            merged = end if error < CONFIG.merging_error else merged
        groups += [family[:merged], *(family[i : i + 1] for i in range(merged, len(family)))]
    return groups


def _psf_arrays(psf: Sequence[PsfMixture]) -> tuple[Array, Array]:
    """Return weights ``(b, c)`` and covariances ``(b, c, 3)``, padded with weight 0."""
    most = max(len(mixture.weights) for mixture in psf)
    weight = np.zeros((len(psf), most))
    cov = np.tile([1.0, 0.0, 1.0], (len(psf), most, 1))
    for band, mixture in enumerate(psf):
        k, c = len(mixture.weights), mixture.covariances
        order = np.argsort(c[:, 0, 0])
        weight[band, :k] = mixture.weights[order]
        cov[band, :k] = np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1)[order]
    return weight, cov
