"""What the joint fit measures: fluxes, sizes and shapes of its sources, with their errors.

Disk and bulge count by their light: the shear is their mean, and T that of exponentials of their
half-light radii.  Second moments of the whole would be those of the bulge's far wings, which no
image shows: they hold ten times as much for the same light, and a tenth of the light in a bulge
that the prior makes round would take an eighth off the shear.  Errors come from the curvature of
the whole blend, so that they hold the neighbors' part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import PhotometryConfig
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import SHAPES
from raydeblend.fit.profiles import profile
from raydeblend.measure.blendedness import neighbor_flux
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

PER_SOURCE = ("snr", "T", "T_err", "g1", "g2", "g1_err", "g2_err", "chi2")
PER_BAND = ("flux", "flux_err")
_T_PER_RADIUS2 = profile("exp").t_per_radius2
# Step of the numerical derivative of T and shear by theta.
_STEP = 1e-4


def measure_fits(
    stamps: Sequence[Stamp],
    fits: Sequence[BlendFit],
    orders: Sequence[NDArray[np.intp]],
    sigma: NDArray[np.floating],
    models: Sequence[FloatArray],
    config: PhotometryConfig,
) -> dict[str, Array]:
    """Return the measurements of all stamps, padded with NaN to the most sources in any.

    Parameters
    ----------
    orders
        Per stamp the order of its sources.
    sigma
        ``(n, bands)`` unit of the stamps.
    models
        Per stamp the images ``(k, bands, y, x)`` of its sources, in that order and unit.

    Returns
    -------
    ``flux`` and ``flux_err`` ``(n, k, bands)``; signal to noise, ``T`` (arcsec²), ``g1``, ``g2``,
    their errors and the blend's reduced χ², ``(n, k)``.
    """
    most = max([1, *(len(fit.theta) for fit in fits)])
    out = {name: np.full((len(fits), most, sigma.shape[1]), np.nan) for name in PER_BAND}
    out |= {name: np.full((len(fits), most), np.nan) for name in PER_SOURCE}
    columns = zip(stamps, fits, orders, sigma, models, strict=True)
    for row, (stamp, fit, order, unit, light) in enumerate(columns):
        values = {name: own[order] for name, own in _measure(stamp, fit, unit).items()}
        under = neighbor_flux(light, stamp.weight)
        values["flux_err"] = whole_error(values["flux"], values["flux_err"], under, config)
        for name, own in values.items():
            out[name][row, : len(order)] = own
    return out


def whole_error(flux: Array, error: Array, neighbors: Array, config: PhotometryConfig) -> Array:
    """Return the error of fluxes with what the curvature leaves out; all ``(k, bands)``.

    `neighbors` is the flux of the other sources under each, see `neighbor_flux`.
    """
    known = np.minimum(neighbors, config.max_neighbor_errors * error)
    blend, own = config.neighbor_fraction * known, config.own_fraction * flux
    return np.asarray(np.sqrt(error**2 + blend**2 + own**2))


def _measure(stamp: Stamp, fit: BlendFit, unit: NDArray[np.floating]) -> dict[str, Array]:
    used = (stamp.at_pixels(stamp.weight) > 0).any(1)
    unit = np.where(used & ~stamp.hidden(fit.theta).T, unit, np.nan)
    freedom = max(stamp.n_values - fit.theta.size - fit.flux.size, 1)
    shape, error = _shapes(fit.theta, _shares(fit)), _shape_errors(fit)
    return {
        "flux": fit.total.T * unit,
        "flux_err": fit.flux_err.T * unit,
        "snr": fit.snr,
        "chi2": np.full(len(fit.theta), fit.chi2 / freedom),
        **dict(zip(("T", "g1", "g2"), shape, strict=True)),
        **dict(zip(("T_err", "g1_err", "g2_err"), error, strict=True)),
    }


def _shares(fit: BlendFit) -> Array:
    """Return the parts ``(k, 2)`` of disk and bulge in the light of each source."""
    light = np.maximum(fit.flux.sum(0), 0)
    return np.asarray(light / np.maximum(light.sum(1, keepdims=True), 1e-30))


def _shapes(theta: Array, shares: Array) -> Array:
    """Return T (arcsec²), g1 and g2, ``(3, ..., k)``, of theta ``(..., k, 9)``."""
    out = np.zeros((3, *theta.shape[:-1]))
    for columns, share in zip(SHAPES, shares.T, strict=True):
        g1, g2, log_radius = np.moveaxis(theta[..., columns], -1, 0)
        square = g1**2 + g2**2
        size = _T_PER_RADIUS2 * np.exp(2 * log_radius) * (1 + square) / (1 - square)
        out += share * np.stack([size, g1, g2])
    return out


def _shape_errors(fit: BlendFit) -> Array:
    """Propagate the covariance of theta, for fixed fluxes, to T, g1 and g2; ``(3, k)``."""
    steps = _STEP * np.eye(fit.theta.shape[1])[:, None]
    ahead, behind = (_shapes(fit.theta + sign * steps, _shares(fit)) for sign in (1, -1))
    slopes = (ahead - behind) / (2 * _STEP)  # (3, 9, k)
    variance = np.einsum("aik,kij,ajk->ak", slopes, fit.theta_cov, slopes)
    return np.asarray(np.sqrt(np.maximum(variance, 0)))
