"""Networks' models corrected where the pixels contradict them.

A network draws galaxies as those of its training are.  A real one may be broader, since the seeing
was worse, or have other colors in its middle than outside.  Each model t is given a few ways to
be wrong, D_j: too faint or bright, narrow, little concentrated, displaced, and of another band's
shape.  It becomes  t + Σ_j c_j D_j  with a prior  c_j ~ N(0, s²);  how probable each s makes the
pixels (the evidence, MacKay 1992, "Bayesian interpolation", section 3) is its weight in the mean.
A model that agrees with its pixels, or whose pixels cannot tell, so stays nearly as it was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.special import softmax

from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.sources import significances
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

CONFIG = PEELING.correction


@dataclass(frozen=True)
class Deviations:
    """Ways in which the model of one source may be wrong.

    Attributes
    ----------
    window
        The pixels (y, x) in which there is any model.
    shapes
        ``(bands, j, y, x)`` the D_j there.
    normal
        ``(bands, j, j)`` their weighted inner products.
    """

    window: tuple[slice, slice]
    shapes: Array
    normal: Array


def correct_residuals(
    image: FloatArray, weight: FloatArray, models: FloatArray, bands: Sequence[int]
) -> FloatArray:
    """Return the models ``(k, bands, y, x)`` of one stamp as its pixels would have them.

    Parameters
    ----------
    image, weight
        ``(bands, y, x)`` and its inverse variance, 0 where unusable.
    models
        ``(k, bands, y, x)``, not negative.
    bands
        Those that the network knows; the others' models have the shape of one of them.

    Returns
    -------
    models
        Of the same shape; never negative.
    """
    corrected = models.astype(np.float64)
    snr = significances(models, weight)
    sure = [k for k in np.argsort(-snr) if snr[k] > CONFIG.min_snr]
    deviations = {k: _deviations(models[k], weight, bands) for k in sure}
    rest = image - corrected.sum(axis=0)
    for k in sure * CONFIG.sweeps:
        here = (..., *deviations[k].window)
        target = rest[here] + corrected[k][here] - models[k][here]
        change = _change(deviations[k], target * weight[here])
        rest[here] = target - change
        corrected[k][here] = models[k][here] + change
    return np.maximum(corrected, 0).astype(np.float32)


def _deviations(model: FloatArray, weight: FloatArray, bands: Sequence[int]) -> Deviations:
    y, x = np.nonzero(np.any(model, axis=0))
    window = slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1)
    cut = model[(..., *window)].astype(np.float64)
    shapes = np.stack([_shapes(cut, band, bands) for band in range(len(cut))])
    weighted = shapes * weight[(..., *window)][:, np.newaxis]
    return Deviations(window, shapes, np.einsum("bjyx,blyx->bjl", shapes, weighted, optimize=True))


def _shapes(model: Array, band: int, bands: Sequence[int]) -> Array:
    """Return the D_j ``(j, y, x)`` of one band of a model ``(bands, y, x)``."""
    own = model[band]
    broader = [gaussian_filter(own, width) - own for width in CONFIG.blurs]
    concentrated = own * np.sqrt(own / max(own.max(), 1e-9))
    slopes = [correlate1d(own, [-0.5, 0, 0.5], axis, mode="constant") for axis in (0, 1)]
    others = [model[other] for other in dict.fromkeys(bands) if other != band]
    colors = [own.sum() / max(other.sum(), 1e-9) * other - own for other in others]
    # A band that the network does not know has the very shape of one that it knows.
    colors.sort(key=lambda color: -float(np.abs(color).sum()))
    return np.stack([own, *broader, concentrated, *slopes, *colors[: len(set(bands)) - 1]])


def _change(deviations: Deviations, weighted: Array) -> Array:
    """Return Σ_j c_j D_j ``(bands, y, x)`` for the weighted residual, mean over the values of s."""
    signal = np.einsum("bjyx,byx->bj", deviations.shapes, weighted)
    unit = np.eye(signal.shape[1])
    evidence: list[float] = []
    found: list[Array] = []
    for s in CONFIG.prior_widths:
        # 2 ln of p(residual | s) / p(residual | 0): c·v − ln det(1 + s² N), over all bands.
        c = np.linalg.solve(deviations.normal + unit / s**2, signal[..., np.newaxis])[..., 0]
        spread = np.linalg.slogdet(unit + s**2 * deviations.normal)[1]
        evidence.append(float((c * signal).sum() - spread.sum()))
        found.append(c)
    probability = softmax(np.array(evidence) / 2)
    mean = np.tensordot(probability, np.array(found), 1)
    return np.asarray(np.einsum("bj,bjyx->byx", mean, deviations.shapes))
