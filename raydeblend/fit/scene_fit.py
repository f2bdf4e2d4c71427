"""All sources of a blend fitted at once, many blends of equal source count together.

The sources are bulge + disk mixtures (`bulge_disk`).  In each band the fluxes of all disks and
bulges are linear and solved exactly, none negative, inside each step (variable projection: Golub &
Pereyra 1973, with Kaufman's form of the Jacobian); centers, sizes and shears of all sources go by
Levenberg–Marquardt with the analytic Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from raydeblend.fit.compiled.kernel import (
    FIRST_STEPS,
    HOPE,
    LARGEST_STEP,
    MAX_STEPS,
    ROUNDING,
    TOLERANCE,
    TRIAL_STEPS,
)
from raydeblend.fit.parameters import BULGE, COMPONENTS, PARAMETERS
from raydeblend.fit.priors import log_prior
from raydeblend.fit.scene import (
    Model,
    Scene,
    flux_scale,
    light_of,
    model_at,
    unit_images,
)


@dataclass(frozen=True)
class SceneState:
    """The model at theta: fluxes, objective and normal equations.

    Attributes
    ----------
    theta
        ``(n, K, 9)``, see `bulge_disk`.
    flux
        ``(n, b, K, 2)`` of disk and bulge.
    chi2
        ``(n,)``.
    prior
        ``(n, K)`` −ln prior of each source; infinite outside the domain.
    objective
        ``(n,)``: χ²/2 − ln prior.
    gradient, curvature
        ``(n, 9 K)`` and ``(n, 9 K, 9 K)`` of the objective, the fluxes projected out.
    flux_cov
        ``(n, b, 2 K, 2 K)`` covariance of the fluxes for fixed theta.
    cross
        ``(n, b, 2 K, 9 K)`` derivative of the fluxes by theta.
    """

    theta: Tensor
    flux: Tensor
    chi2: Tensor
    prior: Tensor
    objective: Tensor
    gradient: Tensor
    curvature: Tensor
    flux_cov: Tensor
    cross: Tensor

    def put(self, index: Tensor, other: SceneState) -> None:
        """Replace the chosen blends, in place."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)

    def take(self, index: Tensor) -> SceneState:
        """Return the chosen blends."""
        return SceneState(*(getattr(self, field.name)[index] for field in fields(self)))


def fit_scene(
    scene: Scene, theta: Tensor | None = None, goal: Tensor | None = None
) -> tuple[SceneState, Tensor, Tensor]:
    """Fit all sources of each blend at once.

    Parameters
    ----------
    theta
        ``(n, K, 9)`` an earlier solution to start from; without one the brightest source of each
        blend is fitted first, the others meanwhile galaxies of usual size, as a faint source may
        otherwise grow to take the outskirts of a bright one.
    goal
        ``(n,)`` objective to reach; a fit that will hardly come below it is given up.

    Returns
    -------
    state, converged, evaluations
        The best found, ``(n,)`` and how often ``(n,)`` the model was evaluated.
    """
    spent = torch.zeros(len(scene.start), dtype=torch.long, device=scene.start.device)
    if theta is None:
        theta = scene.priors.usual(scene.start)
        if theta.shape[1] > 1:
            theta, spent = _fit_brightest(scene, theta)
    state, converged, evaluations = _descend(scene, theta, flux_scale(scene, theta), goal=goal)
    return state, converged, spent + evaluations


def _fit_brightest(scene: Scene, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return theta after some steps of the brightest source of each blend, and evaluations."""
    scale = flux_scale(scene, theta)
    order = scale.sum(1).argsort(dim=1, descending=True, stable=True)
    row = torch.arange(len(order), device=order.device)[:, None]
    of_each = ("start", "compact", "psf_weight", "psf_cov")
    ordered = {name: getattr(scene, name)[row, order] for name in of_each}
    hidden = None if scene.hidden is None else scene.hidden.transpose(1, 2)[row, order]
    scene = replace(scene, **ordered, hidden=None if hidden is None else hidden.transpose(1, 2))
    scale = scale.transpose(1, 2)[row, order].transpose(1, 2)
    first = theta[row, order]
    frozen = unit_images(light_of(scene, first[:, 1:], scene.pixels, 1), len(first))
    state, _, evaluations = _descend(scene, first, scale, FIRST_STEPS, frozen)
    fitted = theta.clone()
    fitted[row, order] = state.theta
    return fitted, evaluations


def covariances(state: SceneState) -> tuple[Tensor, Tensor]:
    """Return covariances ``(n, K, 9, 9)`` of each theta, ``(n, b, b, K)`` of fluxes between bands.

    From the inverse curvature of the whole problem, so with the neighbors' part included:
    Cov(flux) = Cov(flux at fixed theta) + cross Cov(theta) crossᵀ.  A flux is disk plus bulge; at
    fixed theta bands do not know of each other.
    """
    k = state.theta.shape[1]
    covariance, _ = torch.linalg.inv_ex(state.curvature)
    slopes = torch.unflatten(state.cross, 2, (k, COMPONENTS)).sum(3)  # (n, b, K, 8 K)
    between = torch.einsum("nbki,nij,nckj->nbck", slopes, covariance, slopes)
    fixed = _blocks(state.flux_cov, k, COMPONENTS).sum((3, 5)).diagonal(dim1=2, dim2=3)
    between = between + torch.diag_embed(fixed.transpose(1, 2)).permute(0, 2, 3, 1)
    own = _blocks(covariance, k, PARAMETERS).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    return own, between


def _blocks(matrices: Tensor, k: int, size: int) -> Tensor:
    """Reorder ``(..., k size, k size)`` to ``(..., k, size, k, size)``."""
    return matrices.reshape(*matrices.shape[:-2], k, size, k, size)


def _descend(
    scene: Scene,
    theta: Tensor,
    scale: Tensor,
    steps: int = MAX_STEPS,
    frozen: Tensor | None = None,
    goal: Tensor | None = None,
) -> tuple[SceneState, Tensor, Tensor]:
    """Levenberg–Marquardt from theta, each blend for itself; see `fit_scene`.

    `frozen` ``(n, b, 2 m, p)`` are the disks and bulges of the last m sources, whose theta stays.
    """
    state = evaluate(scene, theta, scale, frozen)
    n = len(theta)
    converged = torch.zeros(n, dtype=torch.bool, device=theta.device)
    damping = torch.full((n,), 1e-2, dtype=torch.float64, device=theta.device)
    active = torch.arange(n, device=theta.device)
    evaluations = torch.ones_like(active)
    for number in range(steps):
        here = state.take(active)
        step, gain = _step(here, damping[active])
        rounding = ROUNDING * here.objective
        done = (gain < TOLERANCE + rounding) & (damping[active] < 1.0)
        converged[active[done]] = True
        if goal is not None and number >= TRIAL_STEPS:
            done |= here.objective - HOPE * gain > goal[active]
        here, step, gain = here.take(~done), step[~done], gain[~done]
        rounding, active = rounding[~done], active[~done]
        if not len(active):
            break
        others = None if frozen is None else frozen[active]
        trial = evaluate(scene.take(active), here.theta + step, scale[active], others)
        evaluations[active] += 1
        fall = here.objective - trial.objective
        better = fall >= -rounding
        state.put(active[better], trial.take(better))
        damping[active] = next_damping(damping[active], fall / gain)
    return state, converged, evaluations


def _step(state: SceneState, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the damped step ``(n, K, 9)`` and the fall of the objective that it promises."""
    diagonal = state.curvature.diagonal(dim1=1, dim2=2)
    matrix = state.curvature + torch.diag_embed(damping[:, None] * diagonal)
    step, info = torch.linalg.solve_ex(matrix, -state.gradient)
    step = torch.where((info == 0)[:, None] & step.isfinite(), step, 0.0)
    gain = -0.5 * (step * state.gradient).sum(1)
    largest = step.new_tensor(LARGEST_STEP)
    step = torch.unflatten(step, 1, (-1, PARAMETERS)).clamp(-largest, largest)
    frozen = state.theta.shape[1] - step.shape[1]
    return pad(step, (0, 0, 0, frozen)), gain


def evaluate(
    scene: Scene, theta: Tensor, scale: Tensor, frozen: Tensor | None = None
) -> SceneState:
    """Solve the fluxes at theta; derivatives are by theta of the sources that are not frozen."""
    return state_of(scene, theta, scale, model_at(scene, theta, scale, frozen))


def state_of(scene: Scene, theta: Tensor, scale: Tensor, model: Model) -> SceneState:
    """Return objective and normal equations of a model, see `model_at`."""
    free = model.slopes.shape[2] // PARAMETERS
    pairs = torch.unflatten(model.flux, 2, (theta.shape[1], COMPONENTS))
    weighted_residual = scene.weight * model.residual
    chi2 = (weighted_residual * model.residual).sum((1, 2), dtype=torch.float64)
    overlap = (model.slopes @ model.weighted.transpose(2, 3)).double()
    pull = (model.slopes @ weighted_residual[..., None])[..., 0].double().sum(1)
    slopes = model.slopes * scene.weight.sqrt()[:, :, None]
    inner = (slopes @ slopes.transpose(2, 3)).double()
    flux_cov = torch.linalg.inv_ex(model.matrix).inverse
    cross = -flux_cov @ overlap.transpose(2, 3)
    curvature = (inner + overlap @ cross).sum(1)

    penalty, prior_pull, stiffness = log_prior(scene.priors, theta, scene.start, scene.compact)
    bulges = _bulge_offset(pairs, scene.priors.bulge) / (scene.priors.bulge_scatter * scale)
    expected = scene.hold(scale) * (pairs.sum(-1) - scale)
    prior = penalty + 0.5 * (bulges**2).sum(1) + 0.5 * (expected**2).sum(1)
    objective = 0.5 * chi2 + prior.sum(1)
    for source in range(free):
        own_rows = slice(source * PARAMETERS, (source + 1) * PARAMETERS)
        curvature[:, own_rows, own_rows] += stiffness[:, source]
    return SceneState(
        theta=theta,
        flux=pairs,
        chi2=chi2,
        prior=prior,
        objective=torch.nan_to_num(objective, nan=torch.inf),
        gradient=prior_pull[:, :free].flatten(1) - pull,
        curvature=curvature,
        flux_cov=torch.linalg.inv_ex(model.unbound).inverse,
        cross=cross,
    )


def _bulge_offset(pairs: Tensor, bulge: float) -> Tensor:
    """Return how far each bulge ``(n, b, K)`` is from the expected part of its source's light."""
    return pairs[..., BULGE] - bulge * pairs.sum(-1)


def next_damping(damping: Tensor, ratio: Tensor) -> Tensor:
    """Return the damping for the next step from the true over the promised fall.

    Gauss–Newton overshoots where it underrates the curvature; a poor step, even if it goes down,
    asks for more damping (Marquardt's rule as in Madsen, Nielsen & Tingleff 2004, section 3.2).
    """
    factor = torch.where(ratio > 0.75, 0.1, torch.where(ratio < 0.25, 10.0, 1.0))
    return (damping * factor.to(damping)).clamp(1e-4, 1e8)
