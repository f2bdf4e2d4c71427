"""The numbers of the protocol `shear`: multiplicative and additive bias by magnitude and kind.

The mean of the measured shapes is (1 + m) γ + c.  With the responses, it is the mean shape over
the mean response; without them (``_raw``) the mean shape itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common.rows import Row, fixed_first, fraction, measured
from raydeblend.evaluate.common.sky import between
from raydeblend.evaluate.shear.scores import ShearTable

Floats = NDArray[np.float64]

PROTOCOL = "shear"
SINGLE, PAIR = "isolated", "pairs"
DISTANCES = (0.6, 1.0, 1.5, 2.4)
"""Edges of the bins of the separation of pairs, in arcsec."""
ALL = "all"
_NOTHING = dict.fromkeys(("psnr_mean", "psnr_median", "ssim_mean", "ssim_median"), np.nan)


def make_rows(
    deblender: str, objects: str, table: ShearTable, edges: tuple[float, ...], seconds: float
) -> list[Row]:
    """Return the rows of one deblender; `seconds` are wall time per source."""
    return [
        fixed_first(
            {
                "protocol": PROTOCOL,
                "deblender": deblender,
                "n_galaxies": objects,
                "galaxy": name,
                "n": int(chosen.sum()),
                **_NOTHING,
                **shear_columns(table, chosen),
                "seconds_per_blend": seconds,
            }
        )
        for name, chosen in _cases(table, edges)
        if chosen.any()
    ]


def _cases(table: ShearTable, edges: tuple[float, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield names and which galaxies ``(n, m)``."""
    for low, high in pairwise(edges):
        yield f"i {low:g}–{high:g}", between(table.magnitude, low, high)
    for low, high in pairwise(DISTANCES):
        near = between(table.separation, low, high)
        yield f"{low:g}–{high:g} arcsec", np.broadcast_to(near[:, None], table.magnitude.shape)
    for kind in sorted(set(table.kind.ravel().tolist())):
        yield kind, table.kind == kind
    yield ALL, np.ones(table.magnitude.shape, dtype=bool)


def shear_columns(table: ShearTable, chosen: NDArray[np.bool_]) -> Row:
    """Return the biases of the chosen galaxies ``(n, m)``, with limits by resampling objects."""
    objects = chosen.any(1)
    some = chosen[objects][..., None, None]
    slopes = np.where(some, table.slopes[objects], np.nan)
    responses = np.where(some, table.responses[objects], np.nan)
    columns = fraction("found", np.asarray(np.isfinite(table.slopes[chosen]).all((1, 2))))
    columns |= measured("response", responses, _mean)
    for name, own, answer in _components(slopes, responses):
        columns |= _ratio(f"m{name}_raw", own, np.ones_like(own), 1.0)
        columns |= _ratio(f"m{name}", own, answer, 1.0)
    rings = np.where(some[..., 0], table.rings[objects], np.nan)
    answers = np.where(some[..., 0], table.ring_responses[objects], np.nan)
    for name, own, answer in _components(rings, answers):
        if name:
            columns |= _ratio(f"c{name}_raw", own, np.ones_like(own), 0.0)
            columns |= _ratio(f"c{name}", own, answer, 0.0)
    if np.isfinite(table.separation).any():
        columns |= _by_axis(slopes, responses, table.axis[objects])
    return columns


def _components(values: Floats, answers: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield both components together and each: name, values and responses."""
    yield "", values, answers
    for i in (0, 1):
        yield str(i + 1), values[..., i], answers[..., i]


def _by_axis(slopes: Floats, responses: Floats, axis: Floats) -> Row:
    """Return m of shears along the axis of the pairs and at 45 degrees to it.

    R11 and R22 of objects at an angle φ are R ± A cos 4φ; along the axis the response is R + A.
    """
    # Of the squares of cos 4φ the mean over angles is a half.
    sign = 2 * np.cos(4 * axis)[:, None, :, None] * np.array([1.0, -1.0])
    columns: Row = {}
    for name, factor in (("along", 1.0), ("across", -1.0)):
        weight = np.broadcast_to(1 + factor * sign, slopes.shape)
        columns |= _ratio(f"m_{name}_raw", slopes * weight, weight, 1.0)
        columns |= _ratio(f"m_{name}", slopes * weight, responses * weight, 1.0)
    return columns


def _ratio(name: str, values: Floats, answers: Floats, expected: float) -> Row:
    """Return Σ values / Σ answers less what is expected, of those that have both."""
    known = np.isfinite(values) & np.isfinite(answers)
    both = np.stack([np.where(known, values, np.nan), np.where(known, answers, np.nan)], axis=-1)

    def statistic(drawn: Floats, /, *, axis: int) -> Floats:
        # The rows come flat, each value before its response.
        total, answer = (np.nansum(drawn[:, i::2], axis=axis) for i in (0, 1))
        return np.asarray(total / np.where(answer != 0, answer, np.nan) - expected)

    return measured(name, both, statistic)


def _mean(values: Floats, /, *, axis: int) -> Floats:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    count = known.sum(axis=axis)
    return np.asarray(total / np.where(count > 0, count, np.nan))
