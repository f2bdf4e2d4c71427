"""All sources of a blend fitted at once: Levenberg–Marquardt from start to end in one call."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.blend import Blend, Mixture
from raydeblend.fit.compiled.cache import entry, part
from raydeblend.fit.compiled.evaluation import (
    Indices,
    State,
    Work,
    draw_source,
    evaluate,
    flux_scale,
    make_state,
    make_work,
    normal_equations,
    weigh_images,
)
from raydeblend.fit.compiled.gaussians import (
    BLOCK,
    COLUMNS,
    convolve,
    offsets,
    one_sum,
    unit_covariances,
    weigh,
    within_reach,
)
from raydeblend.fit.compiled.linear import invert, solve
from raydeblend.fit.compiled.prior import PARAMETERS, inside
from raydeblend.fit.compiled.shear import shear_response

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

# When to stop, for `fit.scene_fit` too: compiled code is known by the sources in this folder.
# Stop when the step promises to lower χ²/2 by less than this (parameters move by 14 % of σ), or
# by less than this part of it, its rounding error.
TOLERANCE = 1e-2
ROUNDING = 3e-8
MAX_STEPS = 25
# A trial has this many steps before what they promise, times HOPE, is held against its goal.
TRIAL_STEPS = 2
HOPE = 3.0
# Steps in which only the brightest source of a blend moves.
FIRST_STEPS = 5
# Largest change of each parameter in one step; a logarithm of 1 is a factor e in radius.
LARGEST_STEP = (1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5)
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-4, 1e8


class Fitted(NamedTuple):
    """A blend as fitted.

    Attributes
    ----------
    theta, theta_cov
        ``(K, 9)`` and ``(K, 9, 9)``.
    flux, flux_cov
        ``(b, 2 K)`` of disks and bulges, and of their sums between bands ``(b, b, K)``.
    response
        ``(K, 9, 2)``, see `shear.shear_response`.
    rest
        ``(K, 9)`` the step that was not taken any more, to the minimum.
    prior
        ``(K,)`` −ln prior of each source.
    evaluations
        How often the model was evaluated.
    """

    theta: Array
    theta_cov: Array
    flux: Array
    flux_cov: Array
    response: Array
    rest: Array
    prior: Array
    objective: float
    chi2: float
    converged: bool
    evaluations: int


@entry
def fit_blend(blend: Blend, theta: Array, warm: bool, goal: float) -> Fitted:
    """Fit all sources of a blend.

    Parameters
    ----------
    theta
        ``(K, 9)``, overwritten; if `warm`, an earlier solution to start from.  Otherwise the
        brightest source is fitted first, with galaxies of typical size in place of the others,
        since a faint source might grow until it takes the outskirts of a bright one.
    goal
        Objective to reach; a fit that is unlikely to is stopped.
    """
    k, evaluations = len(theta), 0
    work = make_work(blend)
    if not warm:
        _usual(blend, theta)
    for source in range(k):
        draw_source(blend, theta[source], source, work)
    weigh_images(blend, work)
    everything = np.arange(k)
    # One call of `_descend` for both stages halves what there is to compile.
    for stage in range(1 if warm or k == 1 else 0, 2):
        scale = flux_scale(blend, work)
        moving = everything if stage else _brightest(scale)
        steps = MAX_STEPS if stage else FIRST_STEPS
        state, converged, spent = _descend(
            blend, theta, scale, work, moving, steps, goal if stage else np.inf
        )
        evaluations += spent
        if not stage:
            _copy(state.theta, theta)
            draw_source(blend, theta[moving[0]], moving[0], work)
            weigh_images(blend, work)
    # Of the last fit: the curvature is not needed any more.
    covariance = np.empty_like(state.curvature)
    invert(state.curvature, covariance)
    theta_cov, flux_cov = _covariances(state, covariance)
    return Fitted(
        state.theta,
        theta_cov,
        state.flux,
        flux_cov,
        shear_response(blend, state.theta, covariance),
        _rest(state, covariance),
        state.prior,
        state.value[0],
        state.value[1],
        converged,
        evaluations,
    )


@part()
def _usual(blend: Blend, theta: Array) -> None:
    """Write usual round galaxies at the expected positions."""
    for k in range(len(theta)):
        for i in range(PARAMETERS):
            theta[k, i] = blend.start[k, i] if i < 2 else 0.0
        theta[k, 4] = blend.prior.log_radius
        theta[k, 5] = blend.prior.log_radius + blend.prior.log_ratio


@part()
def _brightest(scale: Array) -> Indices:
    """Return the source of the largest fluxes ``(b, K)``, ``(1,)``."""
    chosen, most = np.zeros(1, dtype=np.int64), -np.inf
    for k in range(scale.shape[1]):
        total = 0.0
        for band in range(len(scale)):
            total += scale[band, k]
        if total > most:
            chosen[0], most = k, total
    return chosen


@part()
def _copy(source: Array, to: Array) -> None:
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            to[i, j] = source[i, j]


@part()
def _descend(
    blend: Blend,
    theta: Array,
    scale: Array,
    work: Work,
    moving: Indices,
    steps: int,
    goal: float,
) -> tuple[State, bool, int]:
    """Fit the free sources by Levenberg–Marquardt from theta, at which all are drawn."""
    here, trial = make_state(blend, len(moving)), make_state(blend, len(moving))
    _copy(theta, here.theta)
    evaluate(blend, work, scale, here)
    normal_equations(blend, work, moving, here)
    damping, evaluations = _FIRST_DAMPING, 1
    for number in range(steps):
        gain = _step(here, damping, moving, trial)
        rounding = ROUNDING * here.value[0]
        if gain < TOLERANCE + rounding:
            # A step that is short for its damping says little of the minimum, but leads nowhere.
            return here, damping < 1, evaluations
        if number >= TRIAL_STEPS and here.value[0] - HOPE * gain > goal:
            return here, False, evaluations
        evaluations += 1
        fall = -np.inf
        if _all_inside(trial.theta):
            for k in moving:
                draw_source(blend, trial.theta[k], k, work)
            evaluate(blend, work, scale, trial)
            fall = here.value[0] - trial.value[0]
            if fall >= -rounding:
                here, trial = trial, here
                normal_equations(blend, work, moving, here)
        damping = _next_damping(damping, fall / gain)
    return here, False, evaluations


@part()
def _all_inside(theta: Array) -> bool:
    good = True
    for k in range(len(theta)):
        good = good and inside(theta[k])
    return good


@part()
def _step(here: State, damping: float, moving: Indices, trial: State) -> float:
    """Write theta after a damped step to the trial; return the predicted decrease."""
    matrix, step = np.empty_like(here.curvature), np.empty((len(here.gradient), 1))
    _copy(here.curvature, matrix)
    for i in range(len(step)):
        matrix[i, i] *= 1 + damping
        step[i, 0] = -here.gradient[i]
    # What is singular gives no numbers, and so no step.
    solve(matrix, step)
    gain = 0.0
    _copy(here.theta, trial.theta)
    for i in range(len(step)):
        own = step[i, 0] if np.isfinite(step[i, 0]) else 0.0
        gain -= 0.5 * own * here.gradient[i]
        most = LARGEST_STEP[i % PARAMETERS]
        trial.theta[moving[i // PARAMETERS], i % PARAMETERS] += min(max(own, -most), most)
    return gain


@part()
def _next_damping(damping: float, ratio: float) -> float:
    """Return the next damping from the actual over the predicted decrease; see `scene_fit`."""
    factor = 0.1 if ratio > 0.75 else (10.0 if ratio < 0.25 else 1.0)
    return min(max(damping * factor, _LEAST_DAMPING), _MOST_DAMPING)


@part()
def _rest(state: State, covariance: Array) -> Array:
    """Return the undamped step from theta ``(K, 9)``, to first order."""
    out = np.zeros_like(state.theta)
    for i in range(len(state.gradient)):
        for j in range(len(state.gradient)):
            out[i // PARAMETERS, i % PARAMETERS] -= covariance[i, j] * state.gradient[j]
    return out


@part()
def _covariances(state: State, covariance: Array) -> tuple[Array, Array]:
    """Return covariances ``(K, 9, 9)`` of each theta and ``(b, b, K)`` of fluxes between bands.

    From the inverse curvature of the whole, so with the neighbors' part: Cov(flux) =
    Cov(flux at fixed theta) + cross Cov(theta) crossᵀ.  A flux is disk plus bulge; at fixed theta
    bands do not know of each other.  `covariance` ``(9 K, 9 K)`` is that of all theta.
    """
    bands, k, free = len(state.flux), len(state.theta), len(state.gradient)
    own, between = np.empty((k, PARAMETERS, PARAMETERS)), np.empty((bands, bands, k))
    fixed, slopes = np.empty((2 * k, 2 * k)), np.empty((bands, free))
    spread = np.empty(free)
    for source in range(k):
        for i in range(PARAMETERS):
            for j in range(PARAMETERS):
                own[source, i, j] = covariance[PARAMETERS * source + i, PARAMETERS * source + j]
    for band in range(bands):
        invert(state.free[band], fixed)
        for source in range(k):
            d, b = 2 * source, 2 * source + 1
            between[band, band, source] = fixed[d, d] + fixed[b, b] + fixed[d, b] + fixed[b, d]
    for source in range(k):
        d, b = 2 * source, 2 * source + 1
        for band in range(bands):
            for i in range(free):
                slopes[band, i] = state.cross[band][d, i] + state.cross[band][b, i]
        for band in range(bands):
            for i in range(free):
                spread[i] = 0.0
                for j in range(free):
                    spread[i] += covariance[i, j] * slopes[band, j]
            for other in range(band + 1):
                value = between[band, band, source] if other == band else 0.0
                for i in range(free):
                    value += slopes[other, i] * spread[i]
                between[band, other, source] = value
                between[other, band, source] = value
        for band in range(bands):
            if between[band, band, source] < 0:
                between[band, band, source] = 0.0
    return own, between


@entry
def render(
    mixture: Mixture,
    place: NDArray[np.int64],
    theta: Array,
    flux: Array,
    x: FloatArray,
    y: FloatArray,
) -> FloatArray:
    """Return the images ``(K, b, p)`` of sources at other samples.

    Parameters
    ----------
    place, theta, flux
        ``(b, K)``, ``(K, 9)`` and ``(b, K, 2)``.
    x, y
        ``(p,)`` coordinates of whole blocks of samples.
    """
    k, bands, p = len(theta), len(flux), len(x)
    out = np.zeros((k, bands, p), dtype=np.float32)
    cov, by_shape = np.empty((2, 3)), np.empty((2, 3, 3))
    dx, dy, nearest = np.empty_like(x), np.empty_like(y), np.empty(p // BLOCK)
    count = len(mixture.variance)
    table = np.empty((COLUMNS, count), dtype=np.float32)
    near, weights = np.empty(count, dtype=np.int64), np.empty((2, count))
    for source in range(k):
        unit_covariances(theta[source], cov, by_shape)
        offsets(x, y, theta[source], dx, dy, nearest)
        weigh(mixture, theta[source, 8], weights)
        for band in range(bands):
            convolve(mixture, cov, weights, band, place[band, source], table)
            for g in range(count):
                table[3, g] *= flux[band, source, 0 if g < mixture.disk else 1]
            for block in range(len(nearest)):
                at = slice(block * BLOCK, (block + 1) * BLOCK)
                reaching = within_reach(table, 0, count, nearest[block], near)
                one_sum(dx[at], dy[at], table, near, reaching, out[source, band, at])
    return out
