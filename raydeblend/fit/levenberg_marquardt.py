"""Variable projection and Levenberg–Marquardt for many stamps at once.

Center and shape are shared between the bands; the flux of each band is linear and solved exactly
inside each step (Golub & Pereyra 1973; Kaufman's form of the Jacobian).  The other parameters go
by Levenberg–Marquardt with the analytic Jacobian; each stamp stops by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raydeblend.fit.parameters import LOG_T
from raydeblend.fit.profile_model import Problem, log_prior, model_maps, unit_model

TOLERANCE = 3e-3
"""Fall of χ²/2 that a step must promise, or the fit has converged: a move by 8 % of σ.  That last
step is still taken, to first order, which leaves a small part of it."""
ROUNDING = 3e-8
"""Part of χ²/2 that is its rounding error, and so no fall."""
MAX_STEPS = 40

_START_LOG_T = (-2.5, 0.0, 2.0)


@dataclass(frozen=True)
class State:
    """The model at theta: linear solution, objective and normal equations."""

    theta: Tensor  # (n, q)
    flux: Tensor  # (n, b)
    unit: Tensor  # (n, b): Σ w m² of the model of unit flux
    cross: Tensor  # (n, b, q): derivative of the flux solution, −Σ w m ∂(flux m) / Σ w m²
    chi2: Tensor  # (n,)
    objective: Tensor  # (n,): χ²/2 − ln prior; infinite outside the priors' domain
    gradient: Tensor  # (n, q)
    curvature: Tensor  # (n, q, q)

    def put(self, index: Tensor, other: State) -> None:
        """Replace the chosen rows, in place."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[index] = getattr(other, name)

    def take(self, index: Tensor) -> State:
        """Return the chosen rows."""
        return State(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def solve(
    problem: Problem, start: Tensor, tolerance: float = TOLERANCE, max_steps: int | None = None
) -> tuple[State, Tensor]:
    """Return the best state found from `start` ``(n, q)``, and ``(n,)`` whether it converged."""
    state = evaluate(problem, start)
    n = len(start)
    converged = torch.zeros(n, dtype=torch.bool, device=start.device)
    damping = torch.full((n,), 1e-2, dtype=torch.float64, device=start.device)
    active = torch.arange(n, device=start.device)
    for _ in range(MAX_STEPS if max_steps is None else max_steps):
        here = state.take(active)
        step, gain = _step(here, damping[active])
        # Without damping to speak of, a tiny promised gain means the minimum.
        rounding = ROUNDING * here.objective
        done = (gain < tolerance + rounding) & (damping[active] < 1.0)
        if done.any():
            converged[active[done]] = True
            state.put(active[done], _last_step(here.take(done), step[done], gain[done]))
            here, step, gain = here.take(~done), step[~done], gain[~done]
            rounding, active = rounding[~done], active[~done]
            if not len(active):
                break
        trial = evaluate(problem if len(active) == n else problem.take(active), here.theta + step)
        fall = here.objective - trial.objective
        better = fall >= -rounding
        state.put(active[better], trial.take(better))
        damping[active] = next_damping(damping[active], fall / gain)
    return state, converged


def _last_step(state: State, step: Tensor, gain: Tensor) -> State:
    """Return the state moved by a small step, its fluxes and objective to first order."""
    return replace(
        state,
        theta=state.theta + step,
        flux=state.flux + torch.einsum("nbq,nq->nb", state.cross, step),
        chi2=state.chi2 - 2 * gain,
        objective=state.objective - gain,
    )


def next_damping(damping: Tensor, ratio: Tensor) -> Tensor:
    """Return the damping for the next step from the true over the promised fall.

    Gauss–Newton overshoots where it underrates the curvature; a poor step, even if it goes down,
    asks for more damping (Marquardt's rule as in Madsen, Nielsen & Tingleff 2004, section 3.2).
    """
    factor = torch.where(ratio > 0.75, 0.1, torch.where(ratio < 0.25, 10.0, 1.0))
    return (damping * factor.to(damping)).clamp(1e-4, 1e8)


def _step(state: State, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the damped Gauss–Newton step and the fall of the objective that it promises."""
    diagonal = state.curvature.diagonal(dim1=1, dim2=2)
    matrix = state.curvature + torch.diag_embed(damping[:, None] * diagonal)
    step, info = torch.linalg.solve_ex(matrix, -state.gradient)
    step = torch.where((info == 0)[:, None], step, 0.0)
    return step, -0.5 * (step * state.gradient).sum(1)


def best_start(problem: Problem) -> Tensor:
    """Return ``(n, q)`` the start, of a few sizes about the prior's mean, that fits best."""
    starts = problem.prior_mean.repeat(len(_START_LOG_T), len(problem.start), 1)
    starts[:, :, LOG_T] += problem.start.new_tensor(_START_LOG_T)[:, None]
    fall = torch.stack([_fall(problem, theta) for theta in starts])
    best = torch.nan_to_num(fall, nan=0.0).argmax(0)
    return starts[best, torch.arange(len(best), device=best.device)]


def _fall(problem: Problem, theta: Tensor) -> Tensor:
    """Return ``(n,)`` how much the model at theta, its fluxes fitted, lowers χ²."""
    value = unit_model(problem, theta)
    weighted = problem.weight * value
    unit = (weighted * value).sum(2, dtype=torch.float64)
    right = (weighted * problem.data).sum(2, dtype=torch.float64)
    return torch.where(unit > 0, right**2 / unit, 0.0).sum(1)


def evaluate(problem: Problem, theta: Tensor) -> State:
    """Solve the fluxes at theta and return the objective with its derivatives."""
    maps = model_maps(problem, theta)
    weighted = maps * problem.weight[:, :, None]
    normal = (weighted @ maps.transpose(2, 3)).double()
    unit = normal[:, :, 0, 0]
    safe = torch.where(unit > 0, unit, 1.0)
    right = (weighted[:, :, :1] @ problem.data[..., None]).double()[:, :, 0, 0]
    flux = torch.where(unit > 0, right / safe, 0.0)
    residual = torch.addcmul(problem.data, flux.to(maps)[..., None], maps[:, :, 0], value=-1)
    chi2 = (problem.weight * residual * residual).sum((1, 2), dtype=torch.float64)
    slope = flux[..., None] * (weighted[:, :, 1:] @ residual[..., None]).double()[..., 0]
    # Projecting the model itself out of its derivatives eliminates the fluxes exactly.
    overlap = normal[:, :, 0, 1:]
    inner = (
        normal[:, :, 1:, 1:] - overlap[..., None] * overlap[..., None, :] / safe[..., None, None]
    )
    penalty, pull, stiffness = log_prior(problem, theta)
    objective = torch.nan_to_num(0.5 * chi2 + penalty, nan=torch.inf)
    return State(
        theta=theta,
        flux=flux,
        unit=unit,
        cross=-flux[..., None] * overlap / safe[..., None],
        chi2=chi2,
        objective=objective,
        gradient=pull - slope.sum(1),
        curvature=(flux[..., None, None] ** 2 * inner).sum(1) + stiffness,
    )
