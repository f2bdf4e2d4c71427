"""What the joint fit measures: fluxes, sizes, shapes and places of its sources, with their errors.

Disk and bulge count by their light: the shear is their mean, and the size is the half-light radius
of the whole, of which T is that of an exponential.  Second moments of the whole would be those of
the bulge's far wings, which no image shows: they hold ten times as much for the same light, and a
tenth of the light in a bulge that the prior makes round would take an eighth off the shear.  Errors
come from the curvature of the whole blend, so that they hold the neighbors' part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import JointConfig, ShearConfig
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.flux_errors import (
    faint_part,
    known_shape_error,
    mean_index,
    summed_covariance,
    whole_covariance,
)
from raydeblend.deblend.joint.galaxies import Galaxies
from raydeblend.deblend.joint.shear import shear_response
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.half_light import SERSIC, Components, exponential_t, half_light_radius
from raydeblend.fit.parameters import BULGE, LOG_INDEX, POSITION, SHAPES

Array = NDArray[np.float64]

PROFILES = (SERSIC, "dev")
"""Of disk and bulge, in the order of `SHAPES`."""


def measure_galaxies(
    stamp: Stamp,
    fit: BlendFit,
    galaxies: Galaxies,
    patches: Sequence[Patch],
    neighbors: Array,
    unit: NDArray[np.floating],
    config: JointConfig,
) -> dict[str, Array]:
    """Return the measurements of the m galaxies of a stamp.

    A galaxy has the light of all its parts and its center; shape and size are its brightest's.

    Parameters
    ----------
    patches
        The light of each galaxy.
    neighbors
        ``(m, bands)`` flux of other galaxies under each, see `measure.blendedness.neighbor_flux`.
    unit
        ``(bands,)`` of the stamp.

    Returns
    -------
    ``flux``, ``flux_err`` and ``bulge_fraction`` ``(m, bands)``; ``flux_cov``
    ``(m, bands, bands)``; ``shift`` ``(m, 2)`` in pixels (x, y) from the brightest part to the
    center of the light, and the ``position_cov`` ``(m, 2, 2)`` of that; ``response`` ``(m, 3)`` of
    the shape to shear (R11, R22, R12); ``profile`` ``(m, 7)``, theta without the position;
    signal to noise, ``r50`` (arcsec), ``T`` (arcsec²), ``g1``, ``g2``, their errors and the blend's
    reduced χ², ``(m,)``.
    """
    parts = _measure(stamp, fit, unit, config.shear)
    values = {name: own[galaxies.brightest] for name, own in parts.items()}
    values["shift"], values["position_cov"] = _centers(
        fit, galaxies, np.nansum(parts["flux"], axis=1), config.structure.flux_error
    )
    attached = galaxies.sums(parts["flux"]) - values["flux"]
    values["flux"] = values["flux"] + attached
    doubt = config.structure.flux_error * attached
    whole = galaxies.sums(np.asarray(fit.total.T))
    alone = known_shape_error(stamp, patches, whole) * unit
    covariance = summed_covariance(
        galaxies, parts["flux_cov"], alone, config.structure.most_curvature
    )
    values["flux_cov"] = whole_covariance(
        values["flux"],
        covariance + doubt[:, :, None] * doubt[:, None],
        neighbors,
        faint_part(stamp, patches, whole, config.photometry.faint_sigma),
        mean_index(fit.theta[galaxies.brightest], values["bulge_fraction"]),
        config.photometry,
    )
    values["flux_err"] = np.sqrt(np.diagonal(values["flux_cov"], axis1=1, axis2=2))
    ratio = values["flux"] / np.where(values["flux_err"] > 0, values["flux_err"], np.inf)
    values["snr"] = np.sqrt(np.nansum(ratio**2, axis=1))
    return values


def _centers(
    fit: BlendFit, galaxies: Galaxies, light: Array, flux_error: float
) -> tuple[Array, Array]:
    """Return where the light of each galaxy is centered, and the covariances of that.

    From its brightest part, ``(m, 2)`` in pixels (x, y); covariances ``(m, 2, 2)``.

    Parameters
    ----------
    light
        ``(k,)`` flux of each source, all bands together.
    flux_error
        Part of the light of the other parts that may not be the galaxy's.
    """
    total = galaxies.sums(light)[galaxies.part_of]
    share = np.zeros(len(light))
    share[galaxies.brightest] = 1.0
    np.divide(light, total, out=share, where=total > 0)
    away = fit.xy - fit.xy[galaxies.brightest[galaxies.part_of]]
    shift = galaxies.sums(share[:, None] * away)
    covariance = galaxies.sums(share[:, None, None] ** 2 * fit.theta_cov[:, POSITION, POSITION])
    doubt = flux_error * shift
    return shift, covariance + doubt[:, :, None] * doubt[:, None]


def _measure(
    stamp: Stamp, fit: BlendFit, unit: NDArray[np.floating], config: ShearConfig
) -> dict[str, Array]:
    used = (stamp.at_pixels(stamp.weight) > 0).any(1)
    known: Array = np.where(used & ~stamp.hidden(fit.theta).T, unit, np.nan)
    freedom = max(stamp.n_values - fit.theta.size - fit.flux.size, 1)
    parts = components(fit, known)
    r50, slopes = half_light_radius(parts)
    # Of shears by what the pixels tell of them, in units of the noise.
    shares = components(fit, np.ones(known.shape)).shares
    # A shape that stays where the descent left it would be too round, since that begins so.
    shape = _shapes(fit.theta + fit.rest, shares, r50)
    by_theta = np.zeros_like(fit.theta)
    by_theta[:, [shape[-1] for shape in SHAPES]] = slopes
    error = _shape_errors(fit, shares, r50, by_theta)
    return {
        "flux": fit.total.T * known,
        "flux_cov": fit.flux_cov.transpose(2, 0, 1) * known[:, :, None] * known[:, None],
        "bulge_fraction": parts.fraction(BULGE),
        "r50": r50,
        "response": shear_response(fit, shares, by_theta, config),
        "profile": fit.theta[:, POSITION.stop :],
        "chi2": np.full(len(fit.theta), fit.chi2 / freedom),
        **dict(zip(("T", "g1", "g2"), shape, strict=True)),
        **dict(zip(("T_err", "g1_err", "g2_err"), error, strict=True)),
    }


def components(fit: BlendFit, unit: Array) -> Components:
    """Return profiles, half-light radii (arcsec) and fluxes of the components of each source.

    `unit` ``(k, bands)`` is that of the fluxes; NaN where one is not measured.
    """
    log_radius = fit.theta[:, [shape[-1] for shape in SHAPES]]
    flux = fit.flux * unit.T[..., None]
    return Components(PROFILES, np.exp(log_radius), flux, fit.theta[:, LOG_INDEX])


def _shapes(theta: Array, shares: Array, r50: Array) -> Array:
    """Return T (arcsec²), g1 and g2, ``(3, k)``, of theta ``(k, 9)`` and r50."""
    shear = np.zeros((2, len(theta)))
    for columns, share in zip(SHAPES, shares.T, strict=True):
        shear += share * theta[:, columns[:2]].T
    return np.stack([exponential_t(r50, *shear), *shear])


def _shape_errors(fit: BlendFit, shares: Array, r50: Array, by_theta: Array) -> Array:
    """Propagate the covariance of theta, for fixed fluxes, to T, g1 and g2; ``(3, k)``.

    `by_theta` ``(k, 9)`` are the derivatives of ln r50.
    """
    t, g1, g2 = _shapes(fit.theta, shares, r50)
    change = np.zeros((3, *fit.theta.shape))
    for columns, share in zip(SHAPES, shares.T, strict=True):
        change[1, :, columns[0]] = change[2, :, columns[1]] = share
    # T is that of `exponential_t`: r50² (1 + g²) / (1 − g²) times a constant.
    by_shear = 4 * t / (1 - (g1**2 + g2**2) ** 2)
    change[0] = 2 * t[:, None] * by_theta
    change[0] += (by_shear * g1)[:, None] * change[1] + (by_shear * g2)[:, None] * change[2]
    variance = (change[:, :, None] @ fit.theta_cov @ change[..., None])[..., 0, 0]
    return np.asarray(np.sqrt(np.maximum(variance, 0)))
