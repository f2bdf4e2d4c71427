"""One blend on its way to the compiled fit: fitted, rendered, and asked for one more source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.compiled import kernel, score
from raydeblend.fit.compiled.blend import Blend, make_prior
from raydeblend.fit.compiled.gaussians import BLOCK
from raydeblend.fit.compiled.start import prepare_fit
from raydeblend.fit.parameters import COMPONENTS, PARAMETERS
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]


def fit(request: FitRequest, priors: BulgeDiskPriors) -> BlendFit:
    """Fit a blend; see `kernel.fit_blend`.  Without a base it starts from usual galaxies."""
    prepare_fit()
    k, bands, base = len(request.start), len(request.stamp.image), request.base
    first = np.zeros((k, PARAMETERS)) if base is None else _copy(base.theta)
    goal = request.sample_goal if np.isfinite(request.sample_goal) else np.inf
    fitted = kernel.fit_blend(_blend(request, priors), first, base is not None, float(goal))
    return BlendFit(
        theta=fitted.theta,
        theta_cov=fitted.theta_cov,
        flux=fitted.flux.reshape(bands, k, COMPONENTS),
        flux_cov=fitted.flux_cov,
        response=fitted.response,
        rest=fitted.rest if fitted.converged else np.zeros_like(fitted.rest),
        compact=request.compact,
        place=request.place,
        prior=fitted.prior,
        chi2=fitted.chi2 + request.stamp.scatter,
        converged=fitted.converged,
        work=float(fitted.evaluations * request.values),
    )


def render(stamp: Stamp, fit: BlendFit) -> FloatArray:
    """Return the images ``(k, bands, y, x)`` of the sources of a fit."""
    prepare_fit()
    shape = stamp.image.shape
    size = -(-shape[1] * shape[2] // BLOCK) * BLOCK
    y, x = np.zeros((2, size), dtype=np.float32)
    y[: shape[1] * shape[2]], x[: shape[1] * shape[2]] = np.indices(shape[1:]).reshape(2, -1)
    place, theta, flux = _numbers(fit.place), _copy(fit.theta), _copy(fit.flux)
    images = kernel.render(stamp.mixture, place, theta, flux, x, y)
    return images[..., : shape[1] * shape[2]].reshape(-1, *shape)


def score_gains(
    request: FitRequest,
    priors: BulgeDiskPriors,
    theta: Array,
    scale: Array,
    xy: Array,
    width: float,
) -> Array:
    """Return what ln L would gain by another source at each place; see `score.score_gains`."""
    prepare_fit()
    theta, scale, xy = (_copy(each) for each in (theta, scale, xy))
    return score.score_gains(_blend(request, priors), theta, scale, xy, float(width))


def _blend(request: FitRequest, priors: BulgeDiskPriors) -> Blend:
    return Blend(
        samples=request.stamp.samples,
        mixture=request.stamp.mixture,
        prior=make_prior(priors),
        start=_copy(request.start),
        place=_numbers(request.place),
        compact=np.array(request.compact, dtype=bool, order="C"),
        hidden=np.ascontiguousarray(request.hidden),
    )


def _numbers(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what the code was compiled for, as `_copy` does."""
    return np.array(array, dtype=np.int64, order="C")


def _copy(array: Array) -> Array:
    """Return what the code was compiled for: writable, float64 and contiguous."""
    return np.array(array, dtype=np.float64, order="C")
