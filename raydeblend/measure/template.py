"""Photometry with the deblended models as templates: one amplitude per source and band.

All sources of a blend at once, by weighted least squares (T-PHOT, Merlin et al. 2015; Nemani et
al., section 4).  Sizes and shapes are those of the models, which already share out the light.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.fit.amplitudes import Amplitudes, are_hidden, solve_amplitudes
from raydeblend.fit.result import Measurements, not_attempted
from raydeblend.fit.stamps import weight_of
from raydeblend.flags import Flag
from raydeblend.measure.moments import adaptive_moments, shape_of
from raydeblend.tile import Blend

Array = NDArray[np.float64]

TEMPLATE = "template"

# A source's χ² is that of the pixels where its model has this part of its brightest pixel.
BRIGHT = 0.01


def fit_templates(
    blend: Blend, models: ArrayLike, xy: ArrayLike, psf: Sequence[ArrayLike], pixel_scale: float
) -> Measurements:
    """Scale the models of one blend to its image.

    The flux is the amplitude times the model's sum over the stamp; its error comes from the
    joint covariance of all amplitudes of the band, so that sources which can hardly be told
    apart have large errors.  ``T, g1, g2`` are those of the model's adaptive moments less the
    PSF's, both stacked over the bands by the flux: exact for Gaussians; without errors, since
    the models have none.  A band in which a model has no light is missing, and so is one that
    hardly shows it, though its light on this side is fitted with that of the others.

    Parameters
    ----------
    models
        ``(k, bands, y, x)`` deblended models in the unit of the image.
    xy
        ``(k, 2)`` positions (x, y) in pixels of the blend's stamp.
    psf
        One stamp ``(py, px)`` per band.
    """
    light, places = np.asarray(models, dtype=float), np.asarray(xy, dtype=float)
    usable = np.isfinite(light).all((2, 3)) & (light.sum((2, 3)) > 0)
    light = np.where(usable[..., None, None], light, 0.0)
    weight = np.where(np.isfinite(blend.image), weight_of(blend), 0.0)
    image = np.where(weight > 0, blend.image, 0.0).astype(float)
    out = not_attempted(len(light), len(image), TEMPLATE, TEMPLATE)
    if not len(light):
        return out
    shown = ~are_hidden(weight[None], light[None])[0]
    solution = solve_amplitudes(image[None], weight[None], light[None])
    measured = usable & shown & (solution.norm[0] > 0)
    _write_fluxes(out, light, solution, measured)
    _write_shapes(out, light * measured[..., None, None], places, psf, pixel_scale)
    out.chi2[:] = _chi2(image, weight, light, solution.value[0])
    _write_flags(out, measured)
    return out


def _write_fluxes(
    out: Measurements, light: Array, solution: Amplitudes, measured: NDArray[np.bool_]
) -> None:
    total = np.where(measured, light.sum((2, 3)), np.nan)
    amplitude = solution.value[0]
    variance = np.diagonal(solution.covariance[0], axis1=1, axis2=2).T
    out.flux[:] = total * amplitude
    out.flux_err[:] = total * np.sqrt(np.maximum(variance, 0))
    out.snr[:] = np.sqrt((solution.norm[0] * amplitude**2 * measured).sum(1))


def _write_shapes(
    out: Measurements, light: Array, xy: Array, psf: Sequence[ArrayLike], pixel_scale: float
) -> None:
    flux = light.sum((2, 3))
    for k, (image, at) in enumerate(zip(light.sum(1), xy, strict=True)):
        moments = adaptive_moments(image, at) - _psf_moments(psf, flux[k])
        out.T[k], out.g1[k], out.g2[k] = shape_of(moments)
    out.T[:] *= pixel_scale**2


def _psf_moments(psf: Sequence[ArrayLike], flux: Array) -> Array:
    """Return the covariance ``(2, 2)`` of the PSFs stacked by the source's flux."""
    stamps = [np.asarray(stamp, dtype=float) for stamp in psf]
    shapes = {stamp.shape for stamp in stamps}
    if len(shapes) > 1:
        stamps = _padded(stamps)
    stack: Array = np.einsum("b,byx->yx", np.maximum(flux, 0), np.stack(stamps))
    middle = (np.array(stack.shape[::-1]) - 1) / 2
    return adaptive_moments(stack, middle)


def _padded(stamps: list[Array]) -> list[Array]:
    """Return stamps of one size, middle on middle."""
    side = max(max(stamp.shape) for stamp in stamps)
    out = []
    for stamp in stamps:
        low = [(side - n) // 2 for n in stamp.shape]
        out.append(
            np.pad(stamp, [(a, side - n - a) for a, n in zip(low, stamp.shape, strict=True)])
        )
    return out


def _chi2(image: Array, weight: Array, light: Array, amplitude: Array) -> Array:
    """Return ``(k,)`` χ² per pixel of the blend's model where each source is bright."""
    residual = image - np.einsum("kb,kbyx->byx", amplitude, light)
    chi2 = weight * residual**2
    peak = light.max((2, 3), keepdims=True)
    bright = (light > BRIGHT * peak) & (weight > 0)
    freedom = bright.sum((1, 2, 3)) - (bright.any((2, 3))).sum(1)
    total = (chi2 * bright).sum((1, 2, 3))
    return np.where(freedom > 0, total / np.maximum(freedom, 1), np.nan)


def _write_flags(out: Measurements, measured: NDArray[np.bool_]) -> None:
    """Set the flags, and null all values of sources without any flux."""
    failed = ~(measured & np.isfinite(out.flux) & np.isfinite(out.flux_err)).any(1)
    failed |= ~np.isfinite(out.chi2)
    for name in ("flux", "flux_err", "snr", "T", "g1", "g2", "chi2"):
        getattr(out, name)[failed] = np.nan
    out.flags[:] = np.where(failed, Flag.FIT_FAILED, 0)
    out.flags[:] |= np.where(measured.all(1), 0, Flag.BAND_MISSING).astype(np.int32)
