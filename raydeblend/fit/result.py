"""What a measurement returns, whatever the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    snr
        Of the fitted model over all bands, (Σ model² / variance)^½.
    T, T_err
        <x²> + <y²> of the profile before the PSF, in arcsec².
    g1, g2, g1_err, g2_err
        Reduced shear.
    chi2
        Per degree of freedom.
    flags
        ``(k,)`` bits of `raydeblend.flags.Flag`.
    model, photometry
        The profile and the engine.
    """

    flux: Array
    flux_err: Array
    snr: Array
    T: Array
    T_err: Array
    g1: Array
    g2: Array
    g1_err: Array
    g2_err: Array
    chi2: Array
    flags: NDArray[np.int32]
    model: str
    photometry: str

    def take(self, index: slice | NDArray[np.intp]) -> Measurements:
        """Return the chosen sources."""
        return replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})


ARRAYS = tuple(f.name for f in fields(Measurements) if f.name not in ("model", "photometry"))


def not_attempted(n: int, bands: int, model: str, photometry: str) -> Measurements:
    """Return `n` rows without any value, flagged NOT_ATTEMPTED."""
    arrays = {name: np.full(n, np.nan) for name in ARRAYS}
    arrays["flux"], arrays["flux_err"] = np.full((2, n, bands), np.nan)
    flags = np.full(n, int(Flag.NOT_ATTEMPTED), dtype=np.int32)
    return Measurements(**(arrays | {"flags": flags}), model=model, photometry=photometry)


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
