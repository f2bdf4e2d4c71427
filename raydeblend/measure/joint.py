"""All sources of a blend fitted at once, many blends of equal source count together.

The sources are bulge + disk mixtures (`bulge_disk.py`).  In each band the fluxes of all disks and
bulges are linear and solved exactly, none negative, inside each step (variable projection: Golub &
Pereyra 1973, with Kaufman's form of the Jacobian); centres, sizes and shears of all sources go by
Levenberg–Marquardt with the analytic Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from raydeblend.measure.bulge_disk import (
    COMPONENTS,
    PARAMETERS,
    Light,
    component_images,
    derivatives,
    source_images,
    unit_light,
)
from raydeblend.measure.joint_priors import JointPriors, log_prior
from raydeblend.measure.mixture_solver import next_damping

# Stop when the step promises to lower χ²/2 by less than this (parameters move by 14 % of σ), or
# by less than this part of it, its rounding error.
TOLERANCE = 1e-2
ROUNDING = 3e-8
MAX_STEPS = 25
# A trial has this many steps before what they promise, times HOPE, is held against its goal.
TRIAL_STEPS = 2
HOPE = 3.0
# Steps in which only the brightest source of each blend moves.
FIRST_STEPS = 5
# Largest change of each parameter in one step; a logarithm of 1 is a factor e in radius.
_LARGEST = (1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5)
# A disk keeps this part of its source's first flux, so that no source loses its gradient.
_FLOOR = 0.01
# Relative to the curvature of a flux: holds it where it is.
_HOLD = 1e7


@dataclass(frozen=True)
class Scene:
    """n blends of K sources each on p pixels, which need not be all of a stamp nor in order.

    Attributes
    ----------
    data, weight
        ``(n, b, p)`` in units of the band's noise; weight 0 where unusable.
    pixels
        ``(n, 2, p)`` coordinates (x, y).
    psf_weight, psf_cov
        ``(n, b, c)`` and ``(n, b, c, 3)`` (xx, xy, yy in pixels²).
    start
        ``(n, K, 2)`` expected positions (x, y).
    compact
        ``(n, K)`` sources that were found as points, see `JointPriors`.
    bulge
        ``(n, K)`` expected part of the bulge in the light of each, one of `JointPriors.bulges`.
    pixel_scale
        Arcsec per pixel.
    """

    data: Tensor
    weight: Tensor
    pixels: Tensor
    psf_weight: Tensor
    psf_cov: Tensor
    start: Tensor
    compact: Tensor
    bulge: Tensor
    pixel_scale: float
    priors: JointPriors

    def take(self, index: Tensor) -> Scene:
        """Return the chosen blends."""
        names = ("data", "weight", "pixels", "psf_weight", "psf_cov", "start", "compact", "bulge")
        return replace(self, **{name: getattr(self, name)[index] for name in names})


@dataclass(frozen=True)
class JointState:
    """The model at theta: fluxes, objective and normal equations.

    Attributes
    ----------
    theta
        ``(n, K, 8)``, see `bulge_disk.py`.
    flux
        ``(n, b, K, 2)`` of disk and bulge.
    chi2
        ``(n,)``.
    prior
        ``(n, K)`` −ln prior of each source; infinite outside the domain.
    objective
        ``(n,)``: χ²/2 − ln prior.
    gradient, curvature
        ``(n, 8 K)`` and ``(n, 8 K, 8 K)`` of the objective, the fluxes projected out.
    flux_cov
        ``(n, b, 2 K, 2 K)`` covariance of the fluxes for fixed theta.
    cross
        ``(n, b, 2 K, 8 K)`` derivative of the fluxes by theta.
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

    def put(self, index: Tensor, other: JointState) -> None:
        """Replace the chosen blends, in place."""
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)

    def take(self, index: Tensor) -> JointState:
        """Return the chosen blends."""
        return JointState(*(getattr(self, field.name)[index] for field in fields(self)))


def fit_joint(
    scene: Scene, theta: Tensor | None = None, goal: Tensor | None = None
) -> tuple[JointState, Tensor, Tensor]:
    """Fit all sources of each blend at once.

    Parameters
    ----------
    theta
        ``(n, K, 8)`` an earlier solution to start from; without one the brightest source of each
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
    ordered = {name: getattr(scene, name)[row, order] for name in ("start", "compact", "bulge")}
    scene = replace(scene, **ordered)
    scale = scale.transpose(1, 2)[row, order].transpose(1, 2)
    first = theta[row, order]
    held = _unit_images(_light(scene, first[:, 1:], scene.pixels), len(first))
    state, _, evaluations = _descend(scene, first, scale, FIRST_STEPS, held)
    fitted = theta.clone()
    fitted[row, order] = state.theta
    return fitted, evaluations


def covariances(state: JointState) -> tuple[Tensor, Tensor]:
    """Return the covariances ``(n, K, 8, 8)`` of each theta and the errors ``(n, b, K)`` of fluxes.

    From the inverse curvature of the whole problem, so with the neighbours' part included:
    Cov(flux) = Cov(flux at fixed theta) + cross Cov(theta) crossᵀ.  A flux is disk plus bulge.
    """
    k = state.theta.shape[1]
    covariance, _ = torch.linalg.inv_ex(state.curvature)
    total = state.flux_cov + state.cross @ covariance[:, None] @ state.cross.transpose(2, 3)
    pairs = _blocks(total, k, COMPONENTS).sum((3, 5))
    own = _blocks(covariance, k, PARAMETERS).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    return own, pairs.diagonal(dim1=2, dim2=3).clamp(min=0).sqrt()


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve systems that may be singular: those give no finite result, and no exception."""
    result: Tensor = torch.linalg.solve_ex(matrix, right).result
    return result


def _blocks(matrices: Tensor, k: int, size: int) -> Tensor:
    """Reorder ``(..., k size, k size)`` to ``(..., k, size, k, size)``."""
    return matrices.reshape(*matrices.shape[:-2], k, size, k, size)


def render(scene: Scene, theta: Tensor, flux: Tensor, pixels: Tensor) -> Tensor:
    """Return the sources' images ``(n, K, b, p)`` at other pixels ``(n, 2, p)``."""
    n, k = theta.shape[:2]
    images = source_images(_light(scene, theta, pixels), flux.transpose(1, 2).flatten(0, 1))
    return torch.unflatten(images, 0, (n, k))


def flux_scale(scene: Scene, theta: Tensor) -> Tensor:
    """Return ``(n, b, K)`` positive total fluxes, for bulges of the usual part of the light."""
    images = component_images(_light(scene, theta, scene.pixels))
    bulge = scene.bulge.flatten()[:, None, None].to(images)
    images = (1 - bulge) * images[:, :, 0] + bulge * images[:, :, 1]
    maps = torch.unflatten(images, 0, theta.shape[:2]).transpose(1, 2)  # (n, b, K, p)
    weighted = maps * scene.weight[:, :, None]
    gram = (weighted @ maps.transpose(2, 3)).double()
    right = (weighted @ scene.data[..., None])[..., 0].double()
    own = gram.diagonal(dim1=2, dim2=3)
    # A ridge of 1 % lets sources on one spot share its light.
    ridge = torch.diag_embed(torch.where(own > 0, 0.01 * own, 1.0))
    flux = _solve(gram + ridge, right)
    # A band without usable pixels gets next to no light.
    least = torch.where(own > 0, 2 / own.clamp(min=1e-30).sqrt(), 1e-6)
    return torch.maximum(flux, least)


def _light(scene: Scene, theta: Tensor, pixels: Tensor) -> Light:
    """Evaluate all sources of all blends, ``n K`` in a row."""
    k = theta.shape[1]

    def each(blends: Tensor) -> Tensor:
        return blends.repeat_interleave(k, 0)

    psf = each(scene.psf_weight), each(scene.psf_cov)
    return unit_light(theta.flatten(0, 1), psf, each(pixels), scene.pixel_scale)


def _descend(
    scene: Scene,
    theta: Tensor,
    scale: Tensor,
    steps: int = MAX_STEPS,
    held: Tensor | None = None,
    goal: Tensor | None = None,
) -> tuple[JointState, Tensor, Tensor]:
    """Levenberg–Marquardt from theta, each blend for itself; see `fit_joint`.

    `held` ``(n, b, 2 m, p)`` are the disks and bulges of the last m sources, which do not move.
    """
    state = _evaluate(scene, theta, scale, held)
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
        others = None if held is None else held[active]
        trial = _evaluate(scene.take(active), here.theta + step, scale[active], others)
        evaluations[active] += 1
        fall = here.objective - trial.objective
        better = fall >= -rounding
        state.put(active[better], trial.take(better))
        damping[active] = next_damping(damping[active], fall / gain)
    return state, converged, evaluations


def _step(state: JointState, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return the damped step ``(n, K, 8)`` and the fall of the objective that it promises."""
    diagonal = state.curvature.diagonal(dim1=1, dim2=2)
    matrix = state.curvature + torch.diag_embed(damping[:, None] * diagonal)
    step, info = torch.linalg.solve_ex(matrix, -state.gradient)
    step = torch.where((info == 0)[:, None] & step.isfinite(), step, 0.0)
    gain = -0.5 * (step * state.gradient).sum(1)
    largest = step.new_tensor(_LARGEST)
    step = torch.unflatten(step, 1, (-1, PARAMETERS)).clamp(-largest, largest)
    held = state.theta.shape[1] - step.shape[1]
    return pad(step, (0, 0, 0, held)), gain


def _evaluate(scene: Scene, theta: Tensor, scale: Tensor, held: Tensor | None = None) -> JointState:
    """Solve the fluxes at theta; derivatives are by theta of the sources that are not held."""
    n, k = theta.shape[:2]
    moving = k if held is None else k - held.shape[2] // COMPONENTS
    light = _light(scene, theta[:, :moving], scene.pixels)
    unit = _unit_images(light, n)
    unit = unit if held is None else torch.cat([unit, held], 2)
    weighted = unit * scene.weight[:, :, None]
    gram = (weighted @ unit.transpose(2, 3)).double()
    right = (weighted @ scene.data[..., None])[..., 0].double()
    matrix, free, flux = _solve_fluxes(gram, right, scale, scene.bulge, scene.priors.bulge_scatter)
    residual = torch.baddbmm(
        scene.data.flatten(0, 1)[:, None],
        flux.to(unit).flatten(0, 1)[:, None],
        unit.flatten(0, 1),
        alpha=-1,
    ).reshape(scene.data.shape)
    weighted_residual = scene.weight * residual
    chi2 = (weighted_residual * residual).sum((1, 2), dtype=torch.float64)

    pairs = torch.unflatten(flux, 2, (k, COMPONENTS))
    own = pairs[:, :, :moving].transpose(1, 2).flatten(0, 1)
    slopes = _by_band(derivatives(light, own), n)  # (n, b, 8 moving, p)
    overlap = (slopes @ weighted.transpose(2, 3)).double()
    pull = (slopes @ weighted_residual[..., None])[..., 0].double().sum(1)
    slopes = slopes * scene.weight.sqrt()[:, :, None]
    inner = (slopes @ slopes.transpose(2, 3)).double()
    flux_cov = torch.linalg.inv_ex(matrix).inverse
    cross = -flux_cov @ overlap.transpose(2, 3)
    curvature = (inner + overlap @ cross).sum(1)

    penalty, prior_pull, stiffness = log_prior(scene.priors, theta, scene.start, scene.compact)
    bulges = _bulge_offset(pairs, scene.bulge) / (scene.priors.bulge_scatter * scale)
    rare = scene.priors.rare * (scene.bulge != scene.priors.bulges[0])
    prior = penalty + rare + 0.5 * (bulges**2).sum(1)
    objective = 0.5 * chi2 + prior.sum(1)
    for source in range(moving):
        own_rows = slice(source * PARAMETERS, (source + 1) * PARAMETERS)
        curvature[:, own_rows, own_rows] += stiffness[:, source]
    return JointState(
        theta=theta,
        flux=pairs,
        chi2=chi2,
        prior=prior,
        objective=torch.nan_to_num(objective, nan=torch.inf),
        gradient=prior_pull[:, :moving].flatten(1) - pull,
        curvature=curvature,
        flux_cov=torch.linalg.inv_ex(free).inverse,
        cross=cross,
    )


def _unit_images(light: Light, n: int) -> Tensor:
    """Return disks and bulges of unit flux side by side: ``(n, b, 2 K, p)``."""
    return _by_band(component_images(light), n)


def _by_band(maps: Tensor, n: int) -> Tensor:
    """Reorder ``(n K, b, m, p)`` to ``(n, b, K m, p)``."""
    return torch.unflatten(maps, 0, (n, -1)).transpose(1, 2).flatten(2, 3)


def _bulge_offset(pairs: Tensor, bulge: Tensor) -> Tensor:
    """Return how far each bulge ``(n, b, K)`` is from the expected part of its source's light."""
    return pairs[..., 1] - bulge[:, None] * pairs.sum(-1)


def _solve_fluxes(
    gram: Tensor, right: Tensor, scale: Tensor, expected: Tensor, scatter: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return two matrices of the normal equations, ``(n, b, 2 K, 2 K)``, and the fluxes.

    The prior on a bulge, N(expected part of the flux, scatter times `scale`), is quadratic in the
    fluxes; none may be negative, and one that would be is held at its bound.  The first matrix
    holds it, as the step must; in the second, for errors, the disk of a source that is held as a
    whole is free: a flux is not known to be at its bound.
    """
    k = scale.shape[2]
    bulge = torch.stack([-expected, 1 - expected], -1)[:, None]  # (n, 1, K, 2)
    prior = bulge[..., None] * bulge[..., None, :] / (scatter * scale[..., None, None]) ** 2
    matrix = gram.clone()
    for source in range(k):
        own = slice(source * COMPONENTS, (source + 1) * COMPONENTS)
        matrix[..., own, own] += prior[:, :, source]
    bound = torch.zeros_like(right)
    bound[..., ::COMPONENTS] = _FLOOR * scale
    diagonal = matrix.diagonal(dim1=2, dim2=3)
    matrix = matrix + torch.diag_embed(1e-6 * diagonal + 1e-12)
    right = right - (matrix @ bound[..., None])[..., 0]
    above = _solve(matrix, right)
    held = torch.zeros_like(above, dtype=torch.bool)
    for _ in range(3):
        negative = (above < 0) & ~held
        if not negative.any():
            break
        held |= negative
        matrix = matrix + torch.diag_embed(negative * _HOLD * diagonal)
        above = _solve(matrix, right)
    freed = torch.unflatten(held, 2, (k, COMPONENTS)).all(3).repeat_interleave(COMPONENTS, 2)
    freed[..., 1::COMPONENTS] = False
    free = matrix - torch.diag_embed(freed * _HOLD * diagonal)
    return matrix, free, bound + above.clamp(min=0)
