"""All sources of a blend at once, from where the fits of single sources end.

The fluxes of all sources go jointly in each band, by weighted least squares with the fitted
models as templates, and the shapes of all sources by damped Gauss–Newton steps with the fluxes
eliminated, as in `levenberg_marquardt`; a step that does not lower a blend's χ² is not taken.  The
inverse curvature of the whole blend gives the errors, so that they include what the neighbors'
fluxes and shapes leave open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.fit.parameters import LOG_T, POSITION
from raydeblend.fit.profile_model import (
    PIXEL_TYPE,
    Pairs,
    Problem,
    log_prior,
    make_pairs,
    model_maps,
    size_class,
)
from raydeblend.fit.profiles import profile
from raydeblend.fit.psf import PsfMixture
from raydeblend.fit.single_priors import DEFAULT_PRIORS, Priors

Array = NDArray[np.float64]

ROUNDS = 2
"""Gauss–Newton steps."""
DAMPING = 1e-2
"""Of a step, as part of the curvature's diagonal."""
RIDGE = 1e-6
"""Part of a template's own norm: two equal templates share the light, and their errors say so."""
REACH, REACH_WIDTHS = 11.0, 4.0
"""A blend's window holds so many pixels, and so many widths of the galaxy, about each source."""
SIDE_STEP = 8
"""Sides of windows are multiples of so many pixels, so that many blends go together."""
BATCH_VALUES = 1_500_000
"""Values of model maps in one batch; small enough for a CPU's cache."""


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


@dataclass(frozen=True)
class _Batch:
    """n blends of k sources in windows of one size."""

    problem: Problem  # of n·k sources; data and weight are those of the blends, (n, b, p)
    measured: Tensor  # (n, k, b)
    unit: Array  # (n, b)
    sources: int


@dataclass(frozen=True)
class _State:
    """A joint solution and its normal equations; s = k·q."""

    theta: Tensor  # (n, k, q)
    flux: Tensor  # (n, b, k)
    normal: Tensor  # (n, b, k, k) of the fluxes
    cross: Tensor  # (n, b, k, s): derivative of the flux solution by the shapes
    chi2: Tensor  # (n,)
    objective: Tensor  # (n,)
    gradient: Tensor  # (n, s)
    curvature: Tensor  # (n, s, s)

    def better_of(self, other: _State) -> _State:
        """Return, of each blend, the state of lower objective."""
        better = other.objective < self.objective
        pairs = {name: (getattr(other, name), getattr(self, name)) for name in vars(self)}
        return _State(
            **{
                name: torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
                for name, (new, old) in pairs.items()
            }
        )


def fit_blends(
    blends: Sequence[Sources],
    psf: Sequence[PsfMixture],
    pixel_scale: float,
    model: str = "exp",
    priors: Priors = DEFAULT_PRIORS,
    device: str = "cpu",
) -> list[FittedSources]:
    """Fit the sources of each blend jointly.

    Parameters
    ----------
    psf
        One mixture per band.
    pixel_scale
        Arcsec per pixel.
    """
    found: dict[int, FittedSources] = {}
    for side, half_t, rows in _batches(blends, pixel_scale):
        part = [blends[i] for i in rows]
        pairs = make_pairs(profile(model), psf, half_t, device)
        batch = _batch(part, side, pairs, pixel_scale, model, priors, device)
        found |= zip(rows, _solve(batch, part), strict=True)
    return [found[i] for i in range(len(blends))]


def _batches(
    blends: Sequence[Sources], pixel_scale: float
) -> Iterator[tuple[int, float, list[int]]]:
    """Yield windows, T/2 in pixels² of the largest galaxies, and blends of equally many sources."""
    log_t = np.array([blend.theta[:, LOG_T].max() for blend in blends])
    number, half_t = size_class(log_t, pixel_scale)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for i, blend in enumerate(blends):
        key = _side(blend, pixel_scale), len(blend.xy), int(number[i])
        groups.setdefault(key, []).append(i)
    for (side, k, _), rows in sorted(groups.items()):
        values = side**2 * k * 6 * blends[rows[0]].image.shape[0]
        step = max(1, BATCH_VALUES // values)
        for first in range(0, len(rows), step):
            yield side, float(half_t[rows[0]]), rows[first : first + step]


def _side(blend: Sources, pixel_scale: float) -> int:
    """Return the side of a window that holds the light of all sources."""
    width = np.sqrt(0.5 * np.exp(blend.theta[:, LOG_T])) / pixel_scale
    reach = (REACH + REACH_WIDTHS * width)[:, None]
    span = (blend.xy + reach).max(0) - (blend.xy - reach).min(0)
    most = max(blend.image.shape[1:])
    return SIDE_STEP * int(np.ceil(min(float(span.max()), most) / SIDE_STEP))


def _batch(
    blends: Sequence[Sources],
    side: int,
    pairs: Pairs,
    pixel_scale: float,
    model: str,
    priors: Priors,
    device: str,
) -> _Batch:
    windows = [_window(blend, side) for blend in blends]
    y, x = np.indices((side, side)).reshape(2, -1)
    shape = profile(model)

    def tensor(array: object, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    problem = Problem(
        data=tensor(np.stack([w[0] for w in windows]), PIXEL_TYPE).flatten(2),
        weight=tensor(np.stack([w[1] for w in windows]), PIXEL_TYPE).flatten(2),
        start=tensor(np.concatenate([w[2] for w in windows])),
        x=tensor(x, PIXEL_TYPE),
        y=tensor(y, PIXEL_TYPE),
        side=side,
        pairs=pairs,
        prior_mean=tensor(priors.mean(shape)),
        prior_precision=tensor(priors.precision(shape)),
        pixel_scale=pixel_scale,
    )
    measured = tensor(np.stack([blend.measured for blend in blends]))
    return _Batch(problem, measured, np.stack([w[3] for w in windows]), len(blends[0].xy))


def _window(blend: Sources, side: int) -> tuple[Array, Array, Array, Array]:
    """Cut image and weight, in units of the noise, and positions; and return that unit."""
    middle = 0.5 * (blend.xy.max(0) + blend.xy.min(0))
    corner = np.floor(middle[::-1] - 0.5 * (side - 1) + 0.5).astype(int)
    room = np.array(blend.image.shape[1:]) - side
    low = np.clip(corner, np.minimum(0, room), np.maximum(0, room))
    image, weight = np.zeros((2, len(blend.image), side, side))
    inside = tuple(slice(max(0, a), a + side) for a in low)
    part = blend.image[:, *inside]
    put = tuple(slice(max(0, -a), max(0, -a) + n) for a, n in zip(low, part.shape[1:], strict=True))
    image[:, *put], weight[:, *put] = part, blend.weight[:, *inside]
    used = weight > 0
    counts = used.sum((1, 2))
    mean = weight.sum((1, 2)) / np.maximum(counts, 1)
    unit = np.where(counts > 0, mean, 1.0) ** -0.5
    scale = unit[:, None, None]
    return image / scale, weight * scale**2, blend.xy - low[::-1], unit


def _solve(batch: _Batch, blends: Sequence[Sources]) -> list[FittedSources]:
    theta = torch.as_tensor(np.stack([b.theta for b in blends]), dtype=torch.float64)
    state = _evaluate(batch, theta.to(batch.measured.device))
    for _ in range(ROUNDS):
        diagonal = state.curvature.diagonal(dim1=1, dim2=2)
        matrix = state.curvature + torch.diag_embed(DAMPING * diagonal)
        step, info = torch.linalg.solve_ex(matrix, -state.gradient)
        step = torch.where((info == 0)[:, None], step, 0.0).view_as(state.theta)
        state = state.better_of(_evaluate(batch, state.theta + step))
    return _results(batch, state)


def _evaluate(batch: _Batch, theta: Tensor) -> _State:
    """Solve all fluxes at theta ``(n, k, q)`` and return the objective with its derivatives."""
    problem, k = batch.problem, batch.sources
    n, _, q = theta.shape
    maps = model_maps(problem, theta.flatten(0, 1))  # (n·k, b, 1 + q, p)
    maps = maps * batch.measured.to(maps).flatten(0, 1)[:, :, None, None]
    # (n, b, k·(1 + q), p): models of all sources, then their derivatives.
    maps = maps.view(n, k, *maps.shape[1:]).movedim(1, 2)
    maps = torch.cat([maps[:, :, :, 0], maps[:, :, :, 1:].flatten(2, 3)], 2)
    weighted = maps * problem.weight[:, :, None]
    gram = (weighted @ maps.transpose(2, 3)).double()
    normal = gram[:, :, :k, :k]
    own = normal.diagonal(dim1=2, dim2=3)
    normal = normal + torch.diag_embed(torch.where(own > 0, RIDGE * own, 1.0))
    right = (weighted[:, :, :k] @ problem.data[..., None]).double()
    flux = torch.linalg.solve(normal, right)[..., 0]
    residual = problem.data - (flux.to(maps)[:, :, None] @ maps[:, :, :k])[:, :, 0]
    chi2 = (problem.weight * residual * residual).sum((1, 2), dtype=torch.float64)
    each = flux.repeat_interleave(q, 2)  # (n, b, k·q): the flux that scales each derivative
    slope = each * (weighted[:, :, k:] @ residual[..., None]).double()[..., 0]
    overlap = gram[:, :, :k, k:] * each[:, :, None]
    shapes = gram[:, :, k:, k:] * each[:, :, None] * each[..., None]
    cross = -torch.linalg.solve(normal, overlap)
    penalty, pull, stiffness = log_prior(problem, theta.flatten(0, 1))
    inner = shapes + overlap.transpose(2, 3) @ cross
    objective = 0.5 * chi2 + penalty.view(n, k).sum(1)
    return _State(
        theta=theta,
        flux=flux,
        normal=normal,
        cross=cross,
        chi2=chi2,
        objective=torch.nan_to_num(objective, nan=torch.inf),
        gradient=pull.view(n, k * q) - slope.sum(1),
        curvature=inner.sum(1) + _block_diagonal(stiffness.view(n, k, q, q)),
    )


def _block_diagonal(blocks: Tensor) -> Tensor:
    """Return ``(n, k·q, k·q)`` from ``(n, k, q, q)``."""
    n, k, q, _ = blocks.shape
    out = blocks.new_zeros(n, k, q, k, q)
    index = torch.arange(k, device=blocks.device)
    out[:, index, :, index] = blocks.movedim(1, 0)
    return out.view(n, k * q, k * q)


def _results(batch: _Batch, state: _State) -> list[FittedSources]:
    n, k, q = state.theta.shape
    covariance, _ = torch.linalg.inv_ex(state.curvature)
    theta_err = covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt().view(n, k, q)
    own_cov = covariance.view(n, k, q, k, q).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    # The block inverse of the whole problem, as for a single source.
    flux_cov = torch.einsum("nbki,nij,nckj->nkbc", state.cross, covariance, state.cross)
    fixed = torch.linalg.inv(state.normal).diagonal(dim1=2, dim2=3)  # (n, b, k)
    flux_cov = flux_cov + torch.diag_embed(fixed.transpose(1, 2))
    own = state.normal.diagonal(dim1=2, dim2=3)
    used = (batch.problem.weight > 0).sum((1, 2))
    freedom = used - k * q - batch.measured.sum((1, 2))
    unit = torch.where(batch.measured > 0, torch.as_tensor(batch.unit).to(own)[:, None], torch.nan)
    flux = state.flux.transpose(1, 2) * unit
    flux_cov = flux_cov * unit[..., None] * unit[..., None, :]
    flux_err = flux_cov.diagonal(dim1=2, dim2=3).clamp(min=0).sqrt()
    snr = (own * state.flux**2).sum(1).sqrt()
    chi2 = (state.chi2 / freedom).tolist()
    position_cov = own_cov[..., POSITION, POSITION]
    values = state.theta, theta_err, position_cov, flux, flux_err, flux_cov, snr
    columns = zip(*(each.cpu().numpy() for each in values), chi2, strict=True)
    return [FittedSources(*row) for row in columns]
