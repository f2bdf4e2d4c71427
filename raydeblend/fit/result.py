"""What a measurement returns, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.parameters import PARAMETERS, POSITION
from raydeblend.flags import Flag

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measurements:
    """Photometry of k sources, one array row each; NaN where a value could not be measured.

    Shapes follow ngmix and GalSim: an ellipse of axis ratio q at angle β from the +x axis
    towards +y has g1 + i g2 = (1 − q) / (1 + q) exp(2iβ), in the pixel frame.

    Attributes
    ----------
    flux, flux_err
        ``(k, bands)`` in the unit of the image (nJy); errors from the inverse curvature.
    flux_cov
        ``(k, bands, bands)`` covariances of the fluxes, the squared errors on the diagonal; NaN
        off it where the method does not know them.
    snr
        Of the fitted model over all bands, (Σ model² / variance)^½.
    r50
        Circularized half-light radius of the whole before the PSF, in arcsec.
    bulge_fraction
        ``(k, bands)`` part of a de Vaucouleurs bulge in the flux; NaN for models without one.
    T, T_err
        <x²> + <y²> of an exponential disk with that half-light radius and the shear below, in
        arcsec²; from the engines, of their own profile, see `raydeblend.measure.sizes`.
    g1, g2, g1_err, g2_err
        Reduced shear.
    response
        ``(k, 3)`` derivatives of g1 by a shear γ1 of the sky (R11), of g2 by γ2 (R22), and of each
        by the other (R12, their mean); NaN where the method does not know them.
    profile
        ``(k, 7)`` shape of disk and bulge, as `fit.parameters` orders it behind the position; NaN
        for models without these.
    chi2
        Per degree of freedom.
    shift, position_cov
        ``(k, 2)`` fitted less given position (x, y), in pixels, and the covariance ``(k, 2, 2)``
        of the fitted one.
    flags
        ``(k,)`` bits of `raydeblend.flags.Flag`.
    model, photometry
        The profile and the engine.
    """

    flux: Array
    flux_err: Array
    flux_cov: Array
    snr: Array
    r50: Array
    bulge_fraction: Array
    T: Array
    T_err: Array
    g1: Array
    g2: Array
    g1_err: Array
    g2_err: Array
    response: Array
    profile: Array
    chi2: Array
    shift: Array
    position_cov: Array
    flags: NDArray[np.int32]
    model: str
    photometry: str

    def take(self, index: slice | NDArray[np.intp]) -> Measurements:
        """Return the chosen sources."""
        return replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})


ARRAYS = tuple(f.name for f in fields(Measurements) if f.name not in ("model", "photometry"))


PER_BAND = ("flux", "flux_err", "bulge_fraction")
ROW_SHAPES = {
    "shift": (2,),
    "position_cov": (2, 2),
    "response": (3,),
    "profile": (PARAMETERS - POSITION.stop,),
}


def not_attempted(n: int, bands: int, model: str, photometry: str) -> Measurements:
    """Return `n` rows without any value, flagged NOT_ATTEMPTED."""
    arrays = {name: np.full((n, *_row_shape(name, bands)), np.nan) for name in ARRAYS}
    flags = np.full(n, int(Flag.NOT_ATTEMPTED), dtype=np.int32)
    return Measurements(**(arrays | {"flags": flags}), model=model, photometry=photometry)


def _row_shape(name: str, bands: int) -> tuple[int, ...]:
    """Return the shape of one source's values."""
    if name in PER_BAND:
        return (bands,)
    if name == "flux_cov":
        return (bands, bands)
    return ROW_SHAPES.get(name, ())


def fill(target: Measurements, index: NDArray[np.intp], source: Measurements) -> None:
    """Write the rows of `source` to `target` at `index`, in place."""
    for name in ARRAYS:
        getattr(target, name)[index] = getattr(source, name)


def concatenate(parts: Sequence[Measurements]) -> Measurements:
    """Join measurements of one model and engine."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS
    }
    return replace(parts[0], **arrays)


def errors_of(covariance: Array) -> Array:
    """Return the roots ``(..., m)`` of the diagonals of covariances ``(..., m, m)``."""
    return np.asarray(np.sqrt(np.maximum(np.diagonal(covariance, axis1=-2, axis2=-1), 0)))
