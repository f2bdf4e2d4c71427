"""All sources of a blend at once, from where the fits of single sources end.

The fluxes of all sources go jointly in each band, by weighted least squares with the fitted
models as templates, and the shapes of all sources by damped Gauss–Newton steps with the fluxes
eliminated, in compiled code (`compiled.refit`); a step that does not lower χ² is not taken.  The
inverse curvature of the whole blend gives the errors, so that they include what the neighbors'
fluxes and shapes leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.refit import Refitted, refit
from raydeblend.fit.compiled.samples import make_samples
from raydeblend.fit.compiled.sources import Pixels
from raydeblend.fit.compiled.start_photometry import prepare_photometry
from raydeblend.fit.config import PROFILE_FIT
from raydeblend.fit.parameters import LOG_T, POSITION
from raydeblend.fit.profile_model import make_family, size_class
from raydeblend.fit.profiles import profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.result import errors_of
from raydeblend.fit.single_priors import DEFAULT_PRIORS, Priors

Array = NDArray[np.float64]

CONFIG = PROFILE_FIT.blend


@dataclass(frozen=True)
class Sources:
    """The fitted sources of one blend, all of which take part.

    Attributes
    ----------
    image
        ``(bands, y, x)`` without the sources that take no part.
    weight
        ``(bands, y, x)`` inverse variance, 0 where unusable.
    xy
        ``(k, 2)`` deblended positions.
    theta
        ``(k, q)`` of the fits of single sources.
    measured
        ``(k, bands)``: which fluxes to fit.
    """

    image: Array
    weight: Array
    xy: Array
    theta: Array
    measured: NDArray[np.bool_]


@dataclass(frozen=True)
class FittedSources:
    """Joint solution of one blend of k sources.

    Attributes
    ----------
    theta, theta_err
        ``(k, q)``.
    position_cov
        ``(k, 2, 2)`` in pixels².
    flux, flux_err
        ``(k, bands)``; NaN where not measured.
    flux_cov
        ``(k, bands, bands)``.
    snr
        ``(k,)``.
    chi2
        Per degree of freedom, of the blend.
    """

    theta: Array
    theta_err: Array
    position_cov: Array
    flux: Array
    flux_err: Array
    flux_cov: Array
    snr: Array
    chi2: float


def fit_blends(
    blends: Sequence[Sources],
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    model: str = "exp",
    priors: Priors = DEFAULT_PRIORS,
) -> list[FittedSources]:
    """Fit the sources of each blend jointly.

    Parameters
    ----------
    psf
        One mixture per band.
    pixel_scale
        Arcsec per pixel.
    """
    prepare_photometry()
    shape = profile(model)
    families = {}
    out = []
    for blend in blends:
        number, half_t = size_class(blend.theta[:, LOG_T].max(), pixel_scale)
        if int(number) not in families:
            families[int(number)] = make_family(shape, psf, pixel_scale, priors, float(half_t))
        window = _window(blend, _side(blend, pixel_scale))
        steps = CONFIG.rounds, CONFIG.damping, CONFIG.ridge
        fitted = refit(families[int(number)], window.pixels, blend.theta, *steps)
        out.append(_fitted_sources(fitted, window, blend))
    return out


@dataclass(frozen=True)
class _Window:
    """Pixels of a blend, the noise ``(b,)`` that is their unit, and how many are used."""

    pixels: Pixels
    unit: Array
    used: int


def _side(blend: Sources, pixel_scale: float) -> int:
    """Return the side of a window that holds the light of all sources."""
    width = np.sqrt(0.5 * np.exp(blend.theta[:, LOG_T])) / pixel_scale
    reach = (CONFIG.reach + CONFIG.reach_widths * width)[:, None]
    span = (blend.xy + reach).max(0) - (blend.xy - reach).min(0)
    most = max(blend.image.shape[1:])
    return CONFIG.side_step * int(np.ceil(min(float(span.max()), most) / CONFIG.side_step))


def _window(blend: Sources, side: int) -> _Window:
    """Cut image and weight, in units of the noise."""
    middle = 0.5 * (blend.xy.max(0) + blend.xy.min(0))
    corner = np.floor(middle[::-1] - 0.5 * (side - 1) + 0.5).astype(int)
    room = np.array(blend.image.shape[1:]) - side
    low = np.clip(corner, np.minimum(0, room), np.maximum(0, room))
    inside = tuple(slice(max(0, a), a + side) for a in low)
    image, weight = blend.image[:, *inside], blend.weight[:, *inside]
    used = weight > 0
    counts = used.sum((1, 2))
    mean = weight.sum((1, 2)) / np.maximum(counts, 1)
    unit = np.where(counts > 0, mean, 1.0) ** -0.5
    scale = unit[:, None, None]
    y, x = (np.indices(image.shape[1:]) + np.maximum(low, 0)[:, None, None]).reshape(2, -1)
    data, inverse = (
        a.reshape(len(a), -1).astype(np.float32) for a in (image / scale, weight * scale**2)
    )
    samples = make_samples(data, inverse, np.stack([x, y]).astype(np.float32))
    pixels = Pixels(*samples, blend.xy, np.ascontiguousarray(blend.measured.T))
    return _Window(pixels, unit, int(counts.sum()))


def _fitted_sources(fitted: Refitted, window: _Window, blend: Sources) -> FittedSources:
    k, q = fitted.theta.shape
    unit = np.where(blend.measured, window.unit, np.nan)
    flux_cov = fitted.flux_cov.transpose(2, 0, 1) * unit[:, :, None] * unit[:, None]
    # Of all fluxes that were fitted.
    freedom = window.used - k * q - blend.measured.sum()
    return FittedSources(
        theta=fitted.theta,
        theta_err=errors_of(fitted.theta_cov),
        position_cov=fitted.theta_cov[:, POSITION, POSITION],
        flux=fitted.flux.T * unit,
        flux_err=errors_of(flux_cov),
        flux_cov=flux_cov,
        snr=np.sqrt((fitted.norm * fitted.flux**2).sum(0)),
        chi2=float(fitted.chi2 / freedom),
    )
