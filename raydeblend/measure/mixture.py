"""Our Gaussian-mixture fitter: many stamps at once, by variable projection.

A galaxy is a profile of concentric Gaussians (`profiles.py`), convolved analytically with the
Gaussians of the PSF.  Centre and shape are shared between the bands; the flux of each band is
linear and solved exactly inside each step (Golub & Pereyra 1973; Kaufman's form of the
Jacobian).  The five other parameters, theta = (x, y, g1, g2, ln T), x and y in pixels from the
deblended position and T in arcsec², go by Levenberg–Marquardt with the analytic Jacobian.

All sums over Gaussians are matrix products: with E the value of each Gaussian at each pixel,
the model and its derivatives are E times coefficients times polynomials in the offset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydeblend.flags import Flag
from raydeblend.measure.priors import DEFAULT_PRIORS, Priors
from raydeblend.measure.profiles import Profile, profile
from raydeblend.measure.psf import PsfMixture
from raydeblend.measure.result import Measurements, concatenate
from raydeblend.measure.stamps import Stamps

# Stop when the step promises to lower χ²/2 by less than this (parameters move by 1 % of σ), or
# by less than this part of it, its rounding error.
TOLERANCE = 1e-4
ROUNDING = 3e-8
MAX_STEPS = 40
# Stamps fitted together; small enough for a CPU's cache.
CHUNK = 16
# Pixels in single precision, sums of χ² and everything of the size of theta in double.
PIXEL_TYPE = torch.float32

_START_LOG_T = (-2.5, 0.0, 2.0)


@dataclass(frozen=True)
class _Problem:
    """n stamps of one size; pixels are flattened, p = y·x."""

    data: Tensor  # (n, b, p) in units of the band's noise
    weight: Tensor  # (n, b, p)
    start: Tensor  # (n, 2) expected position from the stamp's middle pixel
    x: Tensor  # (p,)
    y: Tensor  # (p,)
    psf_weight: Tensor  # (b, c)
    psf_cov: Tensor  # (b, c, 3) as xx, xy, yy in pixels²
    gal_weight: Tensor  # (k,)
    gal_fraction: Tensor  # (k,)
    log_t: float
    priors: Priors
    pixel_scale: float

    def take(self, index: Tensor) -> _Problem:
        return replace(
            self, data=self.data[index], weight=self.weight[index], start=self.start[index]
        )


@dataclass(frozen=True)
class _State:
    """The model at theta: linear solution, objective and normal equations."""

    theta: Tensor  # (n, 5)
    flux: Tensor  # (n, b)
    unit: Tensor  # (n, b): Σ w m² of the model of unit flux
    cross: Tensor  # (n, b, 5): derivative of the flux solution, −Σ w m ∂(flux m) / Σ w m²
    chi2: Tensor  # (n,)
    objective: Tensor  # (n,): χ²/2 − ln prior; infinite outside the priors' domain
    gradient: Tensor  # (n, 5)
    curvature: Tensor  # (n, 5, 5)

    def put(self, index: Tensor, other: _State) -> None:
        for name in self.__dataclass_fields__:
            getattr(self, name)[index] = getattr(other, name)

    def take(self, index: Tensor) -> _State:
        return _State(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def fit_mixture(
    stamps: Stamps,
    psf: tuple[PsfMixture, ...],
    pixel_scale: float,
    model: str = "exp",
    priors: Priors = DEFAULT_PRIORS,
    device: str = "cpu",
) -> Measurements:
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
        ``exp``, ``dev`` or ``gauss``.
    """
    shape = profile(model)
    parts = []
    for first in range(0, len(stamps.offset), CHUNK):
        chunk = stamps.take(slice(first, first + CHUNK))
        problem = _problem(chunk, psf, pixel_scale, shape, priors, device)
        state, converged = _solve(problem)
        parts.append(_measurements(problem, state, converged, chunk, model))
    return concatenate(parts)


def _problem(
    stamps: Stamps,
    psf: tuple[PsfMixture, ...],
    pixel_scale: float,
    shape: Profile,
    priors: Priors,
    device: str,
) -> _Problem:
    n, bands, height, width = stamps.image.shape
    components = max(len(p.weights) for p in psf)
    psf_weight = torch.zeros(bands, components, dtype=torch.float64, device=device)
    psf_cov = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64, device=device)
    psf_cov = psf_cov.repeat(bands, components, 1)
    for band, mixture in enumerate(psf):
        c = mixture.covariances
        k = len(mixture.weights)
        psf_weight[band, :k] = torch.as_tensor(mixture.weights)
        psf_cov[band, :k] = torch.as_tensor(np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1))
    y, x = np.indices((height, width)).reshape(2, -1)

    def pixels(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=PIXEL_TYPE, device=device)

    def doubles(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=device)

    return _Problem(
        data=pixels(stamps.image).reshape(n, bands, -1),
        weight=pixels(stamps.weight).reshape(n, bands, -1),
        start=doubles(stamps.offset),
        x=pixels(x - (width - 1) // 2),
        y=pixels(y - (height - 1) // 2),
        psf_weight=psf_weight,
        psf_cov=psf_cov,
        gal_weight=doubles(shape.weights),
        gal_fraction=doubles(shape.fractions),
        log_t=priors.log_t(shape),
        priors=priors,
        pixel_scale=pixel_scale,
    )


def _solve(problem: _Problem) -> tuple[_State, Tensor]:
    """Return the best state found and ``(n,)`` whether it converged."""
    state = _evaluate(problem, _best_start(problem))
    n = len(state.theta)
    converged = torch.zeros(n, dtype=torch.bool, device=state.theta.device)
    damping = torch.full((n,), 1e-2, dtype=torch.float64, device=state.theta.device)
    active = torch.arange(n, device=state.theta.device)
    for _ in range(MAX_STEPS):
        here = state.take(active)
        step, gain = _step(here, damping[active])
        # Without damping to speak of, a tiny promised gain means the minimum.
        rounding = ROUNDING * here.objective
        done = (gain < TOLERANCE + rounding) & (damping[active] < 1.0)
        converged[active[done]] = True
        here, step, gain = here.take(~done), step[~done], gain[~done]
        rounding, active = rounding[~done], active[~done]
        if not len(active):
            break
        trial = _evaluate(problem.take(active), here.theta + step)
        fall = here.objective - trial.objective
        better = fall >= -rounding
        state.put(active[better], trial.take(better))
        damping[active] = _next_damping(damping[active], fall / gain)
    return state, converged


def _next_damping(damping: Tensor, ratio: Tensor) -> Tensor:
    """Return the damping for the next step from the true over the promised fall.

    Gauss–Newton overshoots where it underrates the curvature; a poor step, even if it goes down,
    asks for more damping (Marquardt's rule as in Madsen, Nielsen & Tingleff 2004, section 3.2).
    """
    factor = torch.where(ratio > 0.75, 0.1, torch.where(ratio < 0.25, 10.0, 1.0))
    return (damping * factor.to(damping)).clamp(1e-4, 1e8)


def _step(state: _State, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the damped Gauss–Newton step and the fall of the objective that it promises."""
    diagonal = state.curvature.diagonal(dim1=1, dim2=2)
    matrix = state.curvature + torch.diag_embed(damping[:, None] * diagonal)
    step, info = torch.linalg.solve_ex(matrix, -state.gradient)
    step = torch.where((info == 0)[:, None], step, 0.0)
    return step, -0.5 * (step * state.gradient).sum(1)


def _best_start(problem: _Problem) -> Tensor:
    """Return ``(n, 5)`` the start, of a few sizes about the prior's mean, that fits best."""
    starts = problem.start.new_zeros(len(_START_LOG_T), len(problem.start), 5)
    starts[:, :, 4] = problem.start.new_tensor(_START_LOG_T)[:, None] + problem.log_t
    fall = torch.stack([_fall(problem, theta) for theta in starts])
    best = torch.nan_to_num(fall, nan=0.0).argmax(0)
    return starts[best, torch.arange(len(best), device=best.device)]


def _fall(problem: _Problem, theta: Tensor) -> Tensor:
    """Return ``(n,)`` how much the model at theta, its fluxes fitted, lowers χ²."""
    gaussians, norm, *_ = _gaussians(problem, theta)
    value = (norm[:, :, None].to(gaussians) @ gaussians)[:, :, 0]
    weighted = problem.weight * value
    unit = (weighted * value).sum(2, dtype=torch.float64)
    right = (weighted * problem.data).sum(2, dtype=torch.float64)
    return torch.where(unit > 0, right**2 / unit, 0.0).sum(1)


def _evaluate(problem: _Problem, theta: Tensor) -> _State:
    value, jacobian = _model(problem, theta)
    # (n, b, 6, p): the model of unit flux and its derivatives, times the weights.
    maps = torch.cat([value[:, :, None], jacobian], 2)
    weighted = maps * problem.weight[:, :, None]
    normal = (weighted @ maps.transpose(2, 3)).double()
    unit = normal[:, :, 0, 0]
    safe = torch.where(unit > 0, unit, 1.0)
    right = (weighted[:, :, :1] @ problem.data[..., None]).double()[:, :, 0, 0]
    flux = torch.where(unit > 0, right / safe, 0.0)
    residual = problem.data - flux.to(value)[..., None] * value
    chi2 = (problem.weight * residual**2).sum((1, 2), dtype=torch.float64)
    slope = flux[..., None] * (weighted[:, :, 1:] @ residual[..., None]).double()[..., 0]
    # Projecting the model itself out of its derivatives eliminates the fluxes exactly.
    overlap = normal[:, :, 0, 1:]
    inner = (
        normal[:, :, 1:, 1:] - overlap[..., None] * overlap[..., None, :] / safe[..., None, None]
    )
    penalty, pull, stiffness = _log_prior(problem, theta)
    objective = torch.nan_to_num(0.5 * chi2 + penalty, nan=torch.inf)
    return _State(
        theta=theta,
        flux=flux,
        unit=unit,
        cross=-flux[..., None] * overlap / safe[..., None],
        chi2=chi2,
        objective=objective,
        gradient=pull - slope.sum(1),
        curvature=(flux[..., None, None] ** 2 * inner).sum(1) + stiffness,
    )


def _model(problem: _Problem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the model of unit flux ``(n, b, p)`` and its derivatives ``(n, b, 5, p)``."""
    gaussians, norm, precision, slopes, (dx, dy), quadratic = _gaussians(problem, theta)
    coefficients = _coefficients(norm, precision, slopes).to(gaussians)
    sums = coefficients @ gaussians  # (n, b, 16, p)
    shift_x = sums[:, :, 1] * dx + sums[:, :, 2] * dy
    shift_y = sums[:, :, 2] * dx + sums[:, :, 3] * dy
    shapes = [(sums[:, :, i : i + 3] * quadratic).sum(2) - sums[:, :, i + 3] for i in (4, 8, 12)]
    return sums[:, :, 0], torch.stack([shift_x, shift_y, *shapes], 2)


def _gaussians(problem: _Problem, theta: Tensor) -> tuple[Any, ...]:
    """Return exp(−dᵀ P d / 2) of all Gaussians, ``(n, b, k, p)``, and what it took.

    The rest: their norms ``(n, b, k)``, precisions P as three such, the derivatives of their
    covariances, the offsets d as two ``(n, 1, p)``, and (dx², dx dy, dy²), ``(n, 1, 3, p)``.
    """
    weight, cov, slopes = _components(problem, theta)
    xx, xy, yy = cov.unbind(-1)
    determinant = xx * yy - xy**2
    precision = yy / determinant, -xy / determinant, xx / determinant
    centre = (problem.start + theta[:, :2]).to(problem.x)
    dx = problem.x - centre[:, None, :1]
    dy = problem.y - centre[:, None, 1:]
    quadratic = torch.stack([dx * dx, dx * dy, dy * dy], 2)
    factors = torch.stack([-0.5 * precision[0], -precision[1], -0.5 * precision[2]], -1)
    gaussians = (factors.to(quadratic) @ quadratic).exp_()
    norm = weight / (2 * np.pi * determinant.sqrt())
    return gaussians, norm, precision, slopes, (dx, dy), quadratic


def _coefficients(norm: Tensor, precision: tuple[Tensor, ...], slopes: Tensor) -> Tensor:
    """Return ``(n, b, 16, k)``: what to sum over the Gaussians, before the polynomials.

    For a Gaussian I of precision P and offset d, ∂I/∂centre = I P d and, for a change dC of its
    covariance, ∂I = I (dᵀ P dC P d − tr(P dC)) / 2.
    """
    pxx, pxy, pyy = precision
    rows = [torch.ones_like(pxx), pxx, pxy, pyy]
    for cxx, cxy, cyy in (slopes[:, :, i].unbind(-1) for i in range(3)):
        ax, ay = pxx * cxx + pxy * cxy, pxx * cxy + pxy * cyy  # rows of P dC
        bx, by = pxy * cxx + pyy * cxy, pxy * cxy + pyy * cyy
        rows += [0.5 * (ax * pxx + ay * pxy), ax * pxy + ay * pyy, 0.5 * (bx * pxy + by * pyy)]
        rows.append(0.5 * (ax + by))
    return norm[:, :, None] * torch.stack(rows, 2)


def _components(problem: _Problem, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, covariances and their derivatives by (g1, g2, ln T) of all Gaussians.

    Shapes ``(n, b, k)``, ``(n, b, k, 3)`` and ``(n, b, 3, k, 3)``; covariances are (xx, xy, yy)
    in pixels².
    """
    galaxy, slopes = _galaxy_covariance(theta, problem.pixel_scale)
    fraction = problem.gal_fraction[:, None]
    n, (bands, c) = len(theta), problem.psf_weight.shape
    cov = galaxy[:, None, None, None] * fraction[..., None] + problem.psf_cov[:, None]
    weight = problem.gal_weight[:, None] * problem.psf_weight[:, None]
    slope = slopes[:, None, :, None, None] * fraction[..., None]
    k = len(problem.gal_weight) * c
    slope = slope.expand(n, bands, 3, -1, c, 3).reshape(n, bands, 3, k, 3)
    return weight.reshape(1, bands, k).expand(n, -1, -1), cov.reshape(n, bands, k, 3), slope


def _galaxy_covariance(theta: Tensor, pixel_scale: float) -> tuple[Tensor, Tensor]:
    """Return ``(n, 3)`` the covariance in pixels² and ``(n, 3, 3)`` its derivatives.

    C = T/2 [[1 + e1, e2], [e2, 1 − e1]] with e = 2g / (1 + |g|²).
    """
    g1, g2 = theta[:, 2], theta[:, 3]
    half = 0.5 * theta[:, 4].exp() / pixel_scale**2
    norm = 1 + g1**2 + g2**2
    e1, e2 = 2 * g1 / norm, 2 * g2 / norm
    zero = torch.zeros_like(half)
    cov = half[:, None] * torch.stack([1 + e1, e2, 1 - e1], 1)
    slopes = [cov]
    for g, unit1, unit2 in ((g2, 0.0, 1.0), (g1, 1.0, 0.0)):
        d1 = 2 * (unit1 - e1 * g) / norm
        d2 = 2 * (unit2 - e2 * g) / norm
        slopes.insert(0, half[:, None] * torch.stack([zero + d1, zero + d2, zero - d1], 1))
    return cov, torch.stack(slopes, 1)


def _log_prior(problem: _Problem, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return −ln p ``(n,)``, its gradient ``(n, 5)`` and its positive curvature ``(n, 5, 5)``."""
    priors = problem.priors
    precision = theta.new_tensor([priors.centre, priors.centre, 1, 1, priors.log_size]) ** -2
    offset = theta - theta.new_tensor([0, 0, 0, 0, problem.log_t])
    shape = theta[:, 2:4]
    room = 1 - (shape**2).sum(1)
    inside = room > 1e-6
    room = torch.where(inside, room, 1.0)
    precision = precision.repeat(len(theta), 1)
    precision[:, 2:4] = priors.shape**-2
    penalty = 0.5 * (precision * offset**2).sum(1) - 2 * room.log()
    precision[:, 2:4] += 4 / room[:, None]
    curvature = torch.diag_embed(precision)
    outer = shape[:, :, None] * shape[:, None] / room[:, None, None] ** 2
    curvature[:, 2:4, 2:4] += 8 * outer
    return torch.where(inside, penalty, torch.inf), precision * offset, curvature


def _measurements(
    problem: _Problem, state: _State, converged: Tensor, stamps: Stamps, model: str
) -> Measurements:
    covariance, info = torch.linalg.inv_ex(state.curvature)
    error = covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    # Var(flux) = 1 / Σ w m² + cross · Cov(theta) · cross: the block inverse of the whole problem.
    spread = torch.einsum("nbi,nij,nbj->nb", state.cross, covariance, state.cross)
    flux_error = (1 / state.unit + spread).sqrt()
    used = (problem.weight > 0).sum(2)
    measured = used > 0
    freedom = used.sum(1) - 5 - measured.sum(1)
    size = state.theta[:, 4].exp()
    good = (info == 0) & measured.any(1) & (freedom > 0) & state.objective.isfinite()
    good &= state.theta.isfinite().all(1) & error.isfinite().all(1)
    values = {
        "flux": state.flux,
        "flux_err": flux_error,
        "snr": (state.unit * state.flux**2).sum(1).sqrt(),
        "T": size,
        "T_err": size * error[:, 4],
        "g1": state.theta[:, 2],
        "g2": state.theta[:, 3],
        "g1_err": error[:, 2],
        "g2_err": error[:, 3],
        "chi2": state.chi2 / freedom,
    }
    arrays = {name: value.cpu().numpy().copy() for name, value in values.items()}
    failed = ~good.cpu().numpy()
    for array in arrays.values():
        array[failed] = np.nan
    missing = ~measured.cpu().numpy()
    for name in ("flux", "flux_err"):
        arrays[name][missing] = np.nan
        arrays[name] *= stamps.unit
    flags = np.where(failed, Flag.FIT_FAILED, 0) | np.where(missing.any(1), Flag.BAND_MISSING, 0)
    flags |= np.where(converged.cpu().numpy() | failed, 0, Flag.FIT_NOT_CONVERGED)
    return Measurements(**arrays, flags=flags.astype(np.int32), model=model, photometry="mixture")
