"""Our Gaussian-mixture fitter: many stamps at once, by variable projection.

The model is in `profile_model`, the solver in `levenberg_marquardt`.  Here is what makes it
fast: each stamp is first fitted with its pixels summed 3×3, a ninth of the work, and then, from
that solution, on the pixels themselves, in the window that holds the light.  This second fit
iterates to the same convergence as one without the first, which can cost time but not accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.fit.levenberg_marquardt import State, best_start, solve
from raydeblend.fit.parameters import FRACTION, G1, G2, LOG_T, POSITION
from raydeblend.fit.profile_model import (
    Problem,
    make_pairs,
    make_problem,
    model_maps,
    size_class,
)
from raydeblend.fit.profiles import profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.result import PER_BAND, Measurements, fill, not_attempted
from raydeblend.fit.single_priors import DEFAULT_PRIORS, Priors
from raydeblend.fit.stamps import Stamps
from raydeblend.flags import Flag

BIN = 3
"""Side of the squares of pixels that are summed for the first fit."""
COARSE_TOLERANCE = 0.05
"""Promised fall of χ²/2 at which the first fit stops: parameters are within 0.3 σ then."""
COARSE_STEPS = 25
COARSE_CHUNK = 64
"""Stamps in one batch of the first fit; small enough for a CPU's cache."""
FINE_CHUNK = 16
"""Fewest stamps in one batch of the second fit."""
FINE_PIXELS = 20_000
"""Pixels of one band in a batch of the second fit."""
GPU_CHUNKS = 64
"""So many times larger are batches on a GPU."""
WINDOWS = (17, 21, 25, 29, 33, 37, 41, 49, 57, 65, 81)
"""Sides of the windows for the second fit, if smaller than the stamp."""
OUTSIDE = 1e-3
"""Part of the information on flux and size that may lie outside of the window: errors grow by half
of it."""
GROWTH = 0.4
"""By how much ln T may grow in the second fit before the window is too small for it."""


@dataclass(frozen=True)
class Fit:
    """Solutions of n stamps and what only their pixels tell."""

    state: State
    converged: Tensor  # (n,)
    chi2: Tensor  # (n,), of all pixels of the stamp
    used: Tensor  # (n, b): pixels of positive weight


def fit_shapes(
    stamps: Stamps,
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    model: str = "exp",
    priors: Priors = DEFAULT_PRIORS,
    device: str = "cpu",
) -> tuple[Measurements, NDArray[np.float64]]:
    """Fit every stamp; a stamp that cannot be fitted gets NaN and a flag, never an exception.

    Parameters
    ----------
    stamps
        n > 0 stamps of one size.
    psf
        One mixture per band.
    pixel_scale
        Arcsec per pixel.
    model
        One of `profiles.MODELS`.

    Returns
    -------
    The measurements, and theta ``(n, q)`` where each fit ended, usable or not.
    """
    shape = profile(model)
    problem = make_problem(stamps, psf, pixel_scale, shape, priors, device)
    n = len(stamps.offset)
    out = not_attempted(n, len(psf), model, "mixture")
    theta = np.full((n, problem.parameters), np.nan)
    # Galaxies of the first fit are rarely larger than this, and those that are lose little.
    usual = 0.5 * float(np.exp(priors.log_t(shape) + priors.log_size)) / pixel_scale**2
    start, windows = _start(replace(problem, pairs=make_pairs(shape, psf, usual, device)))
    for side, half_t, rows in _batches(windows, start[:, LOG_T], pixel_scale):
        part = replace(problem.take(rows), pairs=make_pairs(shape, psf, half_t, device))
        fit = _finish(part, start[rows], side)
        index = rows.cpu().numpy()
        fill(out, index, _measurements(fit, stamps.unit[index], model))
        theta[index] = fit.state.theta.cpu().numpy()
    return out, theta


def _batches(
    windows: Tensor, log_t: Tensor, pixel_scale: float
) -> Iterator[tuple[int, float, Tensor]]:
    """Yield windows, the T/2 in pixels² of the largest galaxies, and the stamps to fit so."""
    number, half_t = size_class(log_t.cpu().numpy(), pixel_scale)
    groups = np.column_stack([windows.cpu().numpy(), number])
    for side, size in np.unique(groups, axis=0).tolist():
        rows = np.flatnonzero((groups == (side, size)).all(1))
        most = max(FINE_CHUNK, FINE_PIXELS // side**2) * _chunks(windows)
        for chunk in torch.split(torch.as_tensor(rows, device=windows.device), most):
            yield side, float(half_t[rows[0]]), chunk


def _chunks(tensor: Tensor) -> int:
    """Return how many of a CPU's chunks to fit together on the device of `tensor`."""
    return 1 if tensor.device.type == "cpu" else GPU_CHUNKS


def _start(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return theta ``(n, q)`` of the fit to the summed pixels, and the window's side ``(n,)``."""
    thetas, windows = [], []
    every = torch.arange(len(problem.start), device=problem.start.device)
    for rows in torch.split(every, COARSE_CHUNK * _chunks(every)):
        coarse = summed(problem.take(rows))
        state, _ = solve(coarse, best_start(coarse), COARSE_TOLERANCE, COARSE_STEPS)
        thetas.append(state.theta)
        windows.append(_window(coarse, state.theta, problem.side))
    return torch.cat(thetas), torch.cat(windows)


def summed(problem: Problem) -> Problem:
    """Return the problem with pixels averaged in squares of BIN², by their weights.

    The model is taken at the middle of a square, with the square's own second moment added to
    the PSF's: exact to second order where weights are equal.
    """
    side = problem.side // BIN
    keep = side * BIN

    def squares(array: Tensor) -> Tensor:
        shape = array.shape[:-1]
        pixels = array.reshape(*shape, problem.side, problem.side)[..., :keep, :keep]
        return pixels.reshape(*shape, side, BIN, side, BIN).sum((-3, -1))

    weight = squares(problem.weight)
    data = squares(problem.weight * problem.data) / torch.where(weight > 0, weight, 1.0)
    area = BIN * BIN
    x, y = (squares(axis).flatten() / area for axis in (problem.x, problem.y))
    moment = problem.start.new_tensor([1.0, 0.0, 1.0]) * (area - 1) / 12
    pairs = replace(problem.pairs, psf_cov=problem.pairs.psf_cov + moment)
    return replace(problem.with_pixels(data, weight, x, y), pairs=pairs)


def _window(coarse: Problem, theta: Tensor, largest: int) -> Tensor:
    """Return ``(n,)`` the smallest window that leaves out little information."""
    maps = model_maps(coarse, theta)[:, :, [0, 1 + LOG_T]]
    information = (coarse.weight[:, :, None] * maps**2).sum(1)  # (n, 2, p)
    total = information.sum(2)
    reach = torch.maximum(coarse.x.abs(), coarse.y.abs()) + 0.5 * BIN
    window = torch.full((len(theta),), largest, device=theta.device)
    for side in sorted((s for s in WINDOWS if s < largest), reverse=True):
        outside = (information * (reach > 0.5 * side)).sum(2)
        window = torch.where((outside <= OUTSIDE * total).all(1), side, window)
    return window


def _finish(problem: Problem, start: Tensor, side: int) -> Fit:
    """Fit the pixels of a window from `start`; the whole stamp where the galaxy outgrew it."""
    inner, beyond = _crop(problem, side)
    state, converged = solve(inner, start)
    chi2 = state.chi2 + beyond
    grown = torch.nonzero(state.theta[:, LOG_T] > start[:, LOG_T] + GROWTH)[:, 0]
    if side < problem.side and len(grown):
        whole, converged[grown] = solve(problem.take(grown), state.theta[grown])
        state.put(grown, whole)
        chi2[grown] = whole.chi2
    return Fit(state, converged, chi2, (problem.weight > 0).sum(2))


def _crop(problem: Problem, side: int) -> tuple[Problem, Tensor]:
    """Return the problem in a central window, and ``(n,)`` χ² of the empty sky outside."""
    if side >= problem.side:
        return problem, problem.start.new_zeros(len(problem.start))
    low = (problem.side - side) // 2
    inner = slice(low, low + side)

    def window(array: Tensor) -> Tensor:
        pixels = array.reshape(*array.shape[:-1], problem.side, problem.side)
        return pixels[..., inner, inner].contiguous()

    data, weight = window(problem.data), window(problem.weight)
    x, y = window(problem.x).flatten(), window(problem.y).flatten()
    total = (problem.weight * problem.data**2).sum((1, 2), dtype=torch.float64)
    within = (weight * data**2).sum((1, 2, 3), dtype=torch.float64)
    return problem.with_pixels(data, weight, x, y), total - within


def bulge_fraction(theta: Tensor, bands: int) -> Tensor:
    """Return the bulge's part of the light ``(..., bands)``, the same in all; NaN without one."""
    if theta.shape[-1] <= FRACTION:
        return torch.full((*theta.shape[:-1], bands), torch.nan, dtype=theta.dtype)
    return theta[..., FRACTION, None].clamp(0, 1).expand(*theta.shape[:-1], bands)


def _measurements(fit: Fit, unit: NDArray[np.float64], model: str) -> Measurements:
    state = fit.state
    covariance, info = torch.linalg.inv_ex(state.curvature)
    error = covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    # Cov(flux) = 1 / Σ w m² + cross · Cov(theta) · cross: the block inverse of the whole problem.
    flux_cov = torch.einsum("nbi,nij,ncj->nbc", state.cross, covariance, state.cross)
    flux_cov = flux_cov + torch.diag_embed(1 / state.unit)
    measured = fit.used > 0
    freedom = fit.used.sum(1) - state.theta.shape[1] - measured.sum(1)
    size = state.theta[:, LOG_T].exp()
    good = (info == 0) & measured.any(1) & (freedom > 0) & state.objective.isfinite()
    good &= fit.chi2.isfinite() & state.theta.isfinite().all(1) & error.isfinite().all(1)
    values = {
        "flux": state.flux,
        "flux_err": flux_cov.diagonal(dim1=1, dim2=2).sqrt(),
        "flux_cov": flux_cov,
        "snr": (state.unit * state.flux**2).sum(1).sqrt(),
        "r50": torch.full_like(size, torch.nan),
        "bulge_fraction": bulge_fraction(state.theta, measured.shape[1]),
        "T": size,
        "T_err": size * error[:, LOG_T],
        "g1": state.theta[:, G1],
        "g2": state.theta[:, G2],
        "g1_err": error[:, G1],
        "g2_err": error[:, G2],
        "chi2": fit.chi2 / freedom,
        "shift": state.theta[:, POSITION],
        "position_cov": covariance[:, POSITION, POSITION],
    }
    arrays = {name: value.cpu().numpy().copy() for name, value in values.items()}
    failed = ~good.cpu().numpy()
    for array in arrays.values():
        array[failed] = np.nan
    missing = ~measured.cpu().numpy()
    for name in PER_BAND:
        arrays[name][missing] = np.nan
    for name in ("flux", "flux_err"):
        arrays[name] *= unit
    known = np.where(missing, np.nan, unit)
    arrays["flux_cov"] *= known[:, :, None] * known[:, None]
    flags = np.where(failed, Flag.FIT_FAILED, 0) | np.where(missing.any(1), Flag.BAND_MISSING, 0)
    flags |= np.where(fit.converged.cpu().numpy() | failed, 0, Flag.FIT_NOT_CONVERGED)
    return Measurements(**arrays, flags=flags.astype(np.int32), model=model, photometry="mixture")
