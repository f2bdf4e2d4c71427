"""Single sources on stamps, one after the other: Levenberg–Marquardt from start to end.

First on pixels summed in squares, then on the pixels of a window; see `fit.single`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.blend import TILE
from raydeblend.fit.compiled.cache import entry, part
from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.compiled.gaussians import BLOCK
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
    write_errors,
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
    theta, theta_err
        ``(n, q)``.
    flux, flux_err
        ``(n, b)`` in units of the noise.
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
    theta_err: Array
    flux: Array
    flux_err: Array
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
    size = cutouts.image.shape[3]
    for n in range(len(cutouts.offset)):
        data, weight = _averages(cutouts.image[n], cutouts.weight[n], width)
        origin = 0.5 * (width - 1) - (size - 1) // 2
        pixels = _gather(data, weight, 0, data.shape[2], width, origin, cutouts.offset[n])
        work = make_work(family, pixels)
        model = _best_start(family, pixels, first_sizes, work)
        model, _, count = _descend(family, pixels, stop, model, work)
        for i in range(len(family.mean)):
            theta[n, i] = model.theta[0, i]
        evaluations[n] = len(first_sizes) + count
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
    size = cutouts.image.shape[3]
    origin = -float((size - 1) // 2)
    for n in rows:
        image, weight, offset = cutouts.image[n], cutouts.weight[n], cutouts.offset[n]
        side = min(sides[n], size)
        pixels = _gather(image, weight, (size - side) // 2, side, 1, origin, offset)
        model, converged, count = _fit_from(family, pixels, stop, theta[n])
        chi2 = model.value[1] + _beyond(image, weight, (size - side) // 2, side)
        if side < size and model.theta[0, _LOG_T] > theta[n, _LOG_T] + growth:
            pixels = _gather(image, weight, 0, size, 1, origin, offset)
            model, converged, more = _fit_from(family, pixels, stop, model.theta[0])
            chi2, count = model.value[1], count + more
        _write(model, out, n)
        out.chi2[n] = chi2 if np.isfinite(model.value[0]) else np.inf
        out.converged[n] = converged
        out.evaluations[n] += count


@part()
def _write(model: Model, out: Solutions, n: int) -> None:
    theta_err, flux_err = np.empty_like(model.theta), np.empty_like(model.flux)
    write_errors(model, theta_err, flux_err)
    for i in range(model.theta.shape[1]):
        out.theta[n, i], out.theta_err[n, i] = model.theta[0, i], theta_err[0, i]
    for band in range(len(model.flux)):
        out.flux[n, band], out.flux_err[n, band] = model.flux[band, 0], flux_err[band, 0]
        out.norm[n, band] = model.normal[band, 0, 0]


@part()
def _fit_from(family: Family, pixels: Pixels, stop: Stop, theta: Array) -> tuple[Model, bool, int]:
    work, model = make_work(family, pixels), make_model(family, pixels)
    for i in range(len(theta)):
        model.theta[0, i] = theta[i]
    evaluate(family, pixels, 0.0, work, model)
    model, converged, count = _descend(family, pixels, stop, model, work)
    return model, converged, count + 1


@part()
def _best_start(family: Family, pixels: Pixels, first_sizes: Array, work: Work) -> Model:
    """Return the model, of a few sizes about the prior's mean, of the lowest χ²."""
    best, trial = make_model(family, pixels), make_model(family, pixels)
    for size in range(len(first_sizes)):
        for i in range(len(family.mean)):
            trial.theta[0, i] = family.mean[i]
        trial.theta[0, _LOG_T] += first_sizes[size]
        evaluate(family, pixels, 0.0, work, trial)
        if size == 0 or trial.value[1] < best.value[1]:
            best, trial = trial, best
    return best


@part()
def _descend(
    family: Family, pixels: Pixels, stop: Stop, here: Model, work: Work
) -> tuple[Model, bool, int]:
    """Levenberg–Marquardt from a model; return the best, whether it converged, and evaluations."""
    trial = make_model(family, pixels)
    step = np.empty((len(here.gradient), 1))
    damping, evaluations = _FIRST_DAMPING, 0
    for _ in range(stop.steps):
        gain = damped_step(here, damping, step)
        rounding = stop.rounding * here.value[0]
        # Without damping to speak of, a tiny promised gain means the minimum.
        if gain < stop.tolerance + rounding and damping < 1:
            _last_step(here, step, gain)
            return here, True, evaluations
        move(here, step, trial.theta)
        evaluate(family, pixels, 0.0, work, trial)
        evaluations += 1
        fall = here.value[0] - trial.value[0]
        damping = _next_damping(damping, fall / gain)
        if fall >= -rounding:
            here, trial = trial, here
    return here, False, evaluations


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
