"""Single sources on stamps, one after the other: Levenberg–Marquardt from start to end.

First on pixels summed in squares, then on the pixels of a window; see `fit.single`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import entry, part
from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.compiled.gaussians import BLOCK
from raydeblend.fit.compiled.samples import TILE
from raydeblend.fit.compiled.sources import (
    Model,
    Pixels,
    Work,
    damped_step,
    draw_band,
    evaluate,
    make_model,
    make_work,
    move,
    write_covariances,
)

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-4, 1e8
_LOG_T = 4


class Stop(NamedTuple):
    """When a fit stops.

    Attributes
    ----------
    tolerance
        Fall of χ²/2 that a step must promise.
    rounding
        Part of χ²/2 that is its rounding error, and so no fall.
    steps
        Most steps.
    """

    tolerance: float
    rounding: float
    steps: int


class Cutouts(NamedTuple):
    """n stamps, see `fit.stamps.Stamps`: image and weight ``(n, b, s, s)``, offset ``(n, 2)``."""

    image: Array
    weight: Array
    offset: Array


class Solutions(NamedTuple):
    """Solutions of n stamps.

    Attributes
    ----------
    theta, theta_cov
        ``(n, q)`` and ``(n, q, q)``.
    flux, flux_cov
        ``(n, b)`` in units of the noise, and their covariances ``(n, b, b)``.
    norm
        ``(n, b)`` Σ w m² of the model of unit flux.
    chi2
        ``(n,)`` of all pixels of the stamp.
    converged
        ``(n,)``.
    evaluations
        ``(n,)`` of the model.
    """

    theta: Array
    theta_cov: Array
    flux: Array
    flux_cov: Array
    norm: Array
    chi2: Array
    converged: NDArray[np.bool_]
    evaluations: Indices


@entry
def fit_summed(
    cutouts: Cutouts,
    family: Family,
    first_sizes: Array,
    width: int,
    stop: Stop,
    windows: Indices,
    outside: float,
    theta: Array,
    sides: Indices,
    evaluations: Indices,
) -> None:
    """Fit every stamp with its pixels averaged in squares of `width`², by their weights.

    Parameters
    ----------
    family
        With the square's second moment in its PSF.
    first_sizes
        ``(m,)`` starts in ln T, from the prior's mean.
    windows, outside
        Ascending sides, and the part of the information on flux and size that may lie outside.
    theta, sides, evaluations
        ``(n, q)``, ``(n,)`` and ``(n,)``, written: solutions, the windows that hold enough of the
        information, and the number of evaluations.
    """
    size, starts = cutouts.image.shape[3], np.empty((len(first_sizes), len(family.mean)))
    for n in range(len(cutouts.offset)):
        data, weight = _averages(cutouts.image[n], cutouts.weight[n], width)
        origin = 0.5 * (width - 1) - (size - 1) // 2
        pixels = _gather(data, weight, 0, data.shape[2], width, origin, cutouts.offset[n])
        for s in range(len(first_sizes)):
            for i in range(len(family.mean)):
                starts[s, i] = family.mean[i]
            starts[s, _LOG_T] += first_sizes[s]
        work = make_work(family, pixels)
        model, _, evaluations[n] = _descend(family, pixels, stop, starts, work)
        for i in range(len(family.mean)):
            theta[n, i] = model.theta[0, i]
        sides[n] = _window(family, pixels, model, work, windows, outside, size, 0.5 * width)


@entry
def fit_windows(
    cutouts: Cutouts,
    rows: Indices,
    family: Family,
    theta: Array,
    sides: Indices,
    growth: float,
    stop: Stop,
    out: Solutions,
) -> None:
    """Fit the pixels of some stamps in their windows, from theta.

    The whole stamp is fitted where ln T grew by more than `growth`: the galaxy outgrew its window.
    """
    size, start = cutouts.image.shape[3], np.empty((1, len(family.mean)))
    origin = -float((size - 1) // 2)
    for n in rows:
        image, weight, offset = cutouts.image[n], cutouts.weight[n], cutouts.offset[n]
        for i in range(len(family.mean)):
            start[0, i] = theta[n, i]
        side, log_t = min(sides[n], size), theta[n, _LOG_T]
        while True:
            low = (size - side) // 2
            pixels = _gather(image, weight, low, side, 1, origin, offset)
            work = make_work(family, pixels)
            model, converged, count = _descend(family, pixels, stop, start, work)
            out.evaluations[n] += count
            if side == size or not model.theta[0, _LOG_T] > log_t + growth:
                break
            side = size
            for i in range(len(family.mean)):
                start[0, i] = model.theta[0, i]
        _write(model, out, n)
        chi2 = model.value[1] + _beyond(image, weight, low, side)
        out.chi2[n] = chi2 if np.isfinite(model.value[0]) else np.inf
        out.converged[n] = converged


@part()
def _write(model: Model, out: Solutions, n: int) -> None:
    q, bands = model.theta.shape[1], len(model.flux)
    theta_cov, flux_cov = np.empty((1, q, q)), np.empty((bands, bands, 1))
    write_covariances(model, theta_cov, flux_cov)
    for i in range(q):
        out.theta[n, i] = model.theta[0, i]
        for j in range(q):
            out.theta_cov[n, i, j] = theta_cov[0, i, j]
    for band in range(bands):
        out.flux[n, band], out.norm[n, band] = model.flux[band, 0], model.normal[band, 0, 0]
        for other in range(bands):
            out.flux_cov[n, band, other] = flux_cov[band, other, 0]


@part()
def _descend(
    family: Family, pixels: Pixels, stop: Stop, starts: Array, work: Work
) -> tuple[Model, bool, int]:
    """Levenberg–Marquardt from that of some starts ``(m, q)`` whose χ² is lowest.

    Returns the best model, whether it converged, and the number of evaluations.
    """
    here, trial = make_model(family, pixels), make_model(family, pixels)
    step = np.empty((len(here.gradient), 1))
    damping, gain, rounding = _FIRST_DAMPING, 0.0, 0.0
    # The model is evaluated at one place in the code: there is half as much to compile.
    for number in range(len(starts) + stop.steps):
        if number < len(starts):
            for i in range(len(family.mean)):
                trial.theta[0, i] = starts[number, i]
        evaluate(family, pixels, 0.0, work, trial)
        if number < len(starts):
            if number == 0 or trial.value[1] < here.value[1]:
                here, trial = trial, here
            if number + 1 < len(starts):
                continue
        else:
            fall = here.value[0] - trial.value[0]
            damping = _next_damping(damping, fall / gain)
            if fall >= -rounding:
                here, trial = trial, here
        if number + 1 == len(starts) + stop.steps:
            break
        gain = damped_step(here, damping, step)
        rounding = stop.rounding * here.value[0]
        # Without damping to speak of, a tiny promised gain means the minimum.
        if gain < stop.tolerance + rounding and damping < 1:
            _last_step(here, step, gain)
            return here, True, number + 1
        move(here, step, trial.theta)
    return here, False, len(starts) + stop.steps


@part()
def _last_step(model: Model, step: Array, gain: float) -> None:
    """Take a small step, fluxes and objective to first order."""
    move(model, step, model.theta)
    for band in range(len(model.flux)):
        for i in range(len(step)):
            model.flux[band, 0] += model.cross[band, 0, i] * step[i, 0]
    model.value[0] -= gain
    model.value[1] -= 2 * gain


@part()
def _next_damping(damping: float, ratio: float) -> float:
    """Return the damping for the next step from the true over the promised fall.

    Gauss–Newton overshoots where it underrates the curvature; a poor step, even if it goes down,
    asks for more damping (Marquardt's rule as in Madsen, Nielsen & Tingleff 2004, section 3.2).
    """
    factor = 0.1 if ratio > 0.75 else (10.0 if ratio < 0.25 else 1.0)
    return min(max(damping * factor, _LEAST_DAMPING), _MOST_DAMPING)


@part()
def _averages(image: Array, weight: Array, width: int) -> tuple[Array, Array]:
    """Return averages and summed weights of squares of pixels, what is left at the end dropped."""
    bands, side = len(image), image.shape[2] // width
    data, total = np.zeros((bands, side, side)), np.zeros((bands, side, side))
    for band in range(bands):
        for y in range(side):
            for x in range(side):
                light = norm = 0.0
                for row in range(y * width, (y + 1) * width):
                    for column in range(x * width, (x + 1) * width):
                        norm += weight[band, row, column]
                        light += weight[band, row, column] * image[band, row, column]
                total[band, y, x] = norm
                data[band, y, x] = light / norm if norm > 0 else 0.0
    return data, total


@part()
def _gather(
    image: Array, weight: Array, low: int, side: int, width: int, origin: float, offset: Array
) -> Pixels:
    """Bring a window of an image ``(b, y, x)`` to the order and size that the sums want.

    Pixels of `width`, the first one at `origin` in x and y, tile by tile.
    """
    bands, count = len(image), max(-(-side * side // BLOCK), 1) * BLOCK
    data = np.zeros((bands, count), dtype=np.float32)
    used = np.zeros((bands, count), dtype=np.float32)
    x, y = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    n = 0
    for top in range(low, low + side, TILE):
        for left in range(low, low + side, TILE):
            for row in range(top, min(top + TILE, low + side)):
                for column in range(left, min(left + TILE, low + side)):
                    for band in range(bands):
                        data[band, n] = image[band, row, column]
                        used[band, n] = weight[band, row, column]
                    x[n], y[n] = origin + width * column, origin + width * row
                    n += 1
    for last in range(n, count):
        # Beside the others, for the sake of what is left out far away.
        x[last], y[last] = (x[n - 1], y[n - 1]) if n else (0.0, 0.0)
    return Pixels(data, used, x, y, offset.copy().reshape(1, 2), _any_weight(used))


@part()
def _any_weight(weight: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell of each band whether any pixel is used, ``(b, 1)``."""
    out = np.zeros((len(weight), 1), dtype=np.bool_)
    for band in range(len(weight)):
        for n in range(weight.shape[1]):
            out[band, 0] |= weight[band, n] > 0
    return out


@part()
def _beyond(image: Array, weight: Array, low: int, side: int) -> float:
    """Return χ² of the empty sky outside of a window."""
    total = 0.0
    for band in range(len(image)):
        for y in range(image.shape[1]):
            inside = low <= y < low + side
            for x in range(image.shape[2]):
                if not (inside and low <= x < low + side):
                    total += weight[band, y, x] * image[band, y, x] ** 2
    return total


@part()
def _window(
    family: Family,
    pixels: Pixels,
    model: Model,
    work: Work,
    windows: Indices,
    outside: float,
    largest: int,
    half: float,
) -> int:
    """Return the smallest window that leaves out little information on flux and size."""
    total, out = np.zeros(2), np.zeros((len(windows), 2))
    for band in range(len(pixels.data)):
        draw_band(family, pixels, model, band, work)
        for n in range(len(pixels.x)):
            reach = max(abs(pixels.x[n]), abs(pixels.y[n])) + half
            for c in range(2):
                value = work.rows[1 if c == 0 else 2 + _LOG_T, n]
                own = pixels.weight[band, n] * value * value
                total[c] += own
                for w in range(len(windows)):
                    if reach <= 0.5 * windows[w]:
                        break
                    out[w, c] += own
    for w in range(len(windows)):
        if out[w, 0] <= outside * total[0] and out[w, 1] <= outside * total[1]:
            return min(int(windows[w]), largest)
    return largest
