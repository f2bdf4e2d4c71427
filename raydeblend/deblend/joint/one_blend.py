"""One blend on its way to the compiled fit: fitted, drawn, and asked for one more source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.compiled import kernel, score
from raydeblend.fit.compiled.blend import Blend, make_prior
from raydeblend.fit.compiled.gaussians import BLOCK
from raydeblend.fit.compiled.start import prepare_fit
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.tile import BoolArray, FloatArray

Array = NDArray[np.float64]


def make_blend(
    stamp: Stamp,
    start: Array,
    compact: BoolArray,
    bulge: NDArray[np.intp],
    priors: BulgeDiskPriors,
    theta: Array | None = None,
) -> Blend:
    """Return a stamp with sources as the compiled fit takes them.

    Parameters
    ----------
    start
        ``(K, 2)`` expected positions.
    compact
        ``(K,)`` sources that were found as points.
    bulge
        ``(K,)`` which of `BulgeDiskPriors.bulges` is expected of each.
    theta
        ``(K, 8)`` the sources as known before, to tell which bands hide them.
    """
    return Blend(
        samples=stamp.samples,
        mixture=stamp.mixture,
        prior=make_prior(priors),
        start=_copy(start),
        compact=np.array(compact, dtype=bool, order="C"),
        bulge=np.array(priors.bulges, dtype=np.float64)[bulge],
        hidden=np.ascontiguousarray(stamp.hidden(start if theta is None else theta)),
    )


def fit(blend: Blend, theta: Array | None, goal: float) -> kernel.Fitted:
    """Fit a blend; see `kernel.fit_blend`.  Without theta it starts from usual galaxies."""
    prepare_fit()
    warm = theta is not None
    first = np.zeros((len(blend.start), 8)) if theta is None else _copy(theta)
    return kernel.fit_blend(blend, first, warm, float(goal))


def draw(stamp: Stamp, theta: Array, flux: Array) -> FloatArray:
    """Return the images ``(k, bands, y, x)`` of sources ``(k, 8)``, fluxes ``(bands, k, 2)``."""
    prepare_fit()
    shape = stamp.image.shape
    size = -(-shape[1] * shape[2] // BLOCK) * BLOCK
    y, x = np.zeros((2, size), dtype=np.float32)
    y[: shape[1] * shape[2]], x[: shape[1] * shape[2]] = np.indices(shape[1:]).reshape(2, -1)
    images = kernel.render(stamp.mixture, _copy(theta), _copy(flux), x, y)
    return images[..., : shape[1] * shape[2]].reshape(-1, *shape)


def score_gains(blend: Blend, theta: Array, scale: Array, xy: Array, width: float) -> Array:
    """Return what ln L would gain by another source at each place; see `score.score_gains`."""
    prepare_fit()
    theta, scale, xy = (_copy(each) for each in (theta, scale, xy))
    return score.score_gains(blend, theta, scale, xy, float(width))


def _copy(array: Array) -> Array:
    """Return what the code was compiled for: writable, float64 and contiguous."""
    return np.array(array, dtype=np.float64, order="C")
