"""What the measurement of a blend takes from all its sources at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.fit.half_light import bulge_fraction
from raydeblend.fit.parameters import G1, G2, LOG_T, POSITION
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.result import Measurements
from raydeblend.fit.stamps import weight_of
from raydeblend.flags import Flag
from raydeblend.measure.blendedness import neighbor_flux
from raydeblend.measure.config import ErrorParts
from raydeblend.tile import Blend

if TYPE_CHECKING:
    from raydeblend.fit.blend import FittedSources, Sources

Array = NDArray[np.float64]


def refit_jointly(
    single: Sequence[Measurements],
    theta: Sequence[Array],
    blends: Sequence[Blend],
    models: Sequence[ArrayLike],
    xy: Sequence[ArrayLike],
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    model: str,
    max_values: int,
) -> list[Measurements]:
    """Return the measurements of each blend after a joint fit of its sources.

    Sources without a usable fit take no part; their deblended models are taken out.  A blend
    with fewer than two fitted sources stays as it is, and so does, with the flag DEBLEND_LIMITED,
    one of more than `max_values` sources times bands times pixels.

    Parameters
    ----------
    single, theta
        Per blend, of the fits of single sources.
    """
    # Imported here, so that workers that measure with ngmix start without a compiler.
    from raydeblend.fit.blend import fit_blends

    good = [(m.flags & Flag.FIT_FAILED) == 0 for m in single]
    several = [i for i, g in enumerate(good) if g.sum() > 1]
    rows = [i for i in several if good[i].sum() * blends[i].image.size <= max_values]
    parts = [_sources(blends[i], models[i], xy[i], theta[i], single[i], good[i]) for i in rows]
    fits = fit_blends(parts, psf, pixel_scale, model)
    out = list(single)
    for i, fit in zip(rows, fits, strict=True):
        out[i] = _with_fit(single[i], good[i], fit)
    for i in set(several) - set(rows):
        out[i] = replace(single[i], flags=single[i].flags | np.int32(Flag.DEBLEND_LIMITED))
    return out


def _sources(
    blend: Blend,
    models: ArrayLike,
    xy: ArrayLike,
    theta: Array,
    single: Measurements,
    good: NDArray[np.bool_],
) -> Sources:
    from raydeblend.fit.blend import Sources

    # Of a source that a band hides the light on this side is fitted with the others', not known.
    fitted = good[:, None] & np.isfinite(single.flux[good]).any(0)
    light = np.asarray(models, dtype=float)
    image = blend.image - np.where(fitted[..., None, None], 0.0, light).sum(0)
    weight = np.where(np.isfinite(image), weight_of(blend), 0.0)
    image = np.where(weight > 0, image, 0.0)
    places = np.asarray(xy, dtype=float)[good]
    return Sources(image, weight, places, theta[good], fitted[good])


def _with_fit(single: Measurements, good: NDArray[np.bool_], fit: FittedSources) -> Measurements:
    """Return the rows of `single` with the joint fit's values, if these are usable."""
    measured = np.isfinite(single.flux[good])
    usable = np.isfinite(np.where(measured, fit.flux + fit.flux_err, 0.0)).all()
    if not (usable and np.isfinite(fit.theta_err).all() and np.isfinite(fit.chi2)):
        return single
    size = np.exp(fit.theta[:, LOG_T])
    values = {
        "flux": np.where(measured, fit.flux, np.nan),
        "flux_err": np.where(measured, fit.flux_err, np.nan),
        "flux_cov": np.where(measured[:, :, None] & measured[:, None], fit.flux_cov, np.nan),
        "snr": fit.snr,
        "bulge_fraction": np.where(measured, bulge_fraction(fit.theta), np.nan),
        "T": size,
        "T_err": size * fit.theta_err[:, LOG_T],
        "g1": fit.theta[:, G1],
        "g2": fit.theta[:, G2],
        "g1_err": fit.theta_err[:, G1],
        "g2_err": fit.theta_err[:, G2],
        "chi2": np.full(len(size), fit.chi2),
        "shift": fit.theta[:, POSITION],
        "position_cov": fit.position_cov,
    }
    arrays = {name: getattr(single, name).copy() for name in values}
    for name, array in arrays.items():
        array[good] = values[name]
    return replace(single, **arrays)


def add_model_errors(
    measured: Measurements, blend: Blend, models: ArrayLike, parts: ErrorParts
) -> Measurements:
    """Return the measurements with errors for what the models of the light get wrong.

    Each of the parts is added in quadrature to the error of each flux; in all bands at once, so
    that it is common to them.
    """
    under = neighbor_flux(np.nan_to_num(np.asarray(models, dtype=float)), weight_of(blend))
    own = parts.own_in_blend if len(under) > 1 else parts.own
    wrong = (parts.neighbors * under, own * measured.flux)
    return replace(
        measured,
        flux_err=np.sqrt(sum((part**2 for part in wrong), measured.flux_err**2)),
        flux_cov=sum((part[:, :, None] * part[:, None] for part in wrong), measured.flux_cov),
    )
