"""A PSF whose pixels are polynomials in the place, fitted to stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.stellar_psf.config import StellarPsfConfig
from raydeblend.stellar_psf.polynomial import Polynomial, order_for
from raydeblend.stellar_psf.stars import Candidates
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

_SPLINE = 5
"""Order of the splines that bring stars to the middle of a pixel, see `measure.point_sources`."""


@dataclass(frozen=True)
class StellarPsf:
    """The PSF of one band of a tile, and the stars that it was fitted to.

    Attributes
    ----------
    terms
        Of the place.
    coefficients
        ``(t, side, side)``.
    stars
        Those that were used.
    residual
        ``(side, side)`` mean of star less PSF, both of unit flux, weighted as in the fit.
    """

    terms: Polynomial
    coefficients: Array
    stars: Candidates
    residual: Array

    def at(self, xy: Array) -> FloatArray:
        """Return stamps ``(n, side, side)`` of sum 1 at positions ``(n, 2)``."""
        light = _evaluate(self.terms, self.coefficients, xy)
        return np.asarray(light / light.sum((1, 2), keepdims=True), dtype=np.float32)


def fit_psf_to_stars(
    stars: Candidates, shape: tuple[int, int], config: StellarPsfConfig
) -> StellarPsf:
    """Fit stars, leaving out those that the others contradict.

    In turn each star's flux follows from the PSF at its place, and each pixel of the PSF, a
    polynomial of the place, by weighted least squares from the stars of unit flux.

    Parameters
    ----------
    shape
        Rows and columns of the tile.
    """
    image, weight = _centered(stars), stars.weight
    flux = (image * _disc(config.side, config.clear_radius)).sum((1, 2))
    kept = np.flatnonzero(flux > 0)
    for _ in range(config.rounds):
        terms = Polynomial(order_for(len(kept), config), shape)
        unit = image[kept] / flux[kept, None, None]
        known = _known(weight[kept], flux[kept], unit, config)
        core = _disc(config.side, config.core * float(np.median(stars.size[kept])))
        coefficients = _solve(terms.basis(stars.xy[kept]), unit, known, core)
        light = _evaluate(terms, coefficients, stars.xy)
        flux = _fluxes(image, weight, light)
        residual = image[kept] / flux[kept, None, None] - light[kept]
        mean = (known * residual).sum(0) / np.maximum(known.sum(0), 1e-300)
        chi2 = (known * residual**2 * core).sum((1, 2)) / core.sum()
        good = chi2 < np.median(chi2) * config.clip**2
        if good.all() or good.sum() < config.least_stars:
            break
        kept = kept[good]
    return StellarPsf(terms, coefficients, stars.take(kept), mean)


def _centered(stars: Candidates) -> Array:
    """Return the images of stars moved to the middle of their stamps, by a part of a pixel."""
    pairs = zip(stars.image, -stars.offset[:, ::-1], strict=True)
    return np.array(
        [ndimage.shift(image, by, order=_SPLINE, mode="constant") for image, by in pairs]
    )


def _disc(side: int, radius: float) -> NDArray[np.bool_]:
    y, x = np.indices((side, side)) - side // 2
    return np.asarray(np.hypot(x, y) < radius)


def _known(weight: Array, flux: Array, unit: Array, config: StellarPsfConfig) -> Array:
    """Return the inverse variance ``(n, side, side)`` of stars of unit flux."""
    floor = (config.model_error * unit.max((1, 2), keepdims=True)) ** 2
    square = flux[:, None, None] ** 2
    return np.where(weight > 0, 1 / (1 / np.where(weight > 0, weight * square, 1) + floor), 0)


def _solve(basis: Array, unit: Array, known: Array, core: NDArray[np.bool_]) -> Array:
    """Return coefficients ``(t, side, side)``; beyond the core only the constant one."""
    out = np.zeros((basis.shape[1], *core.shape))
    out[0] = (known * unit).sum(0) / np.maximum(known.sum(0), 1e-300)
    inside, weight = unit[:, core], known[:, core]
    matrix = np.einsum("it,ip,iu->ptu", basis, weight, basis)
    right = np.einsum("it,ip->pt", basis, weight * inside)
    out[:, core] = np.linalg.solve(matrix, right[..., None])[..., 0].T
    return out


def _evaluate(terms: Polynomial, coefficients: Array, xy: Array) -> Array:
    return np.asarray(np.einsum("it,tyx->iyx", terms.basis(xy), coefficients))


def _fluxes(image: Array, weight: Array, light: Array) -> Array:
    norm = (weight * light**2).sum((1, 2))
    return np.asarray((weight * image * light).sum((1, 2)) / norm)
