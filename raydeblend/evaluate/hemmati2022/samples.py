"""What the samples of a flow are worth: their mean, their intervals and their probabilities.

The truth is HST's image without its noise, as in training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.deblend.srgan.resolutions import high_peaks
from raydeblend.deblend.srgan.srflow import SampledView, SrflowDeblender
from raydeblend.evaluate.common.rows import Row, cell, fraction, measured
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.hemmati2022.scores import PROTOCOL, NetworkFinder
from raydeblend.instruments import FACTOR
from raydeblend.networks.srflow import half_width
from raydeblend.networks.srgan import stretched
from raydeblend.simulate.sharp_blends import SharpBlends, SharpTest, reference_band

Array = NDArray[np.float64]
Key = TypeVar("Key")

MOST = 100
"""Blends, and single galaxies, whose samples are scored."""
LEVELS = (68, 95)
LIT = 0.25
"""Coarse sky sigmas in a coarse pixel: where the mean has more, a pixel has light."""
EDGES = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Of the probabilities of more than one source."""


@dataclass(frozen=True)
class SampleScores:
    """Scores of n blends of two, and of 2 n images of one and two galaxies.

    Attributes
    ----------
    psnr
        By what the image is, ``(n,)`` dB in the stretched unit.
    inside, inside_lit
        By level ``(n,)``: part of each blend's pixels, and of those with light, whose truth is
        within the samples' interval.
    p_blend, is_blend
        ``(2 n,)`` part of the samples with more than one source; whether HST's image has more.
    samples
        Of each image.
    """

    psnr: Mapping[str, Array]
    inside: Mapping[int, Array]
    inside_lit: Mapping[int, Array]
    p_blend: NDArray[np.float32]
    is_blend: NDArray[np.bool_]
    samples: int


def score_samples(
    network: SrflowDeblender, beside: Mapping[str, SrganDeblender], test: SharpTest
) -> SampleScores:
    """Score a flow's samples, and the images of other networks, on the first blends of a test."""
    finder = NetworkFinder(network)
    others = {name: NetworkFinder(other) for name, other in beside.items()}
    parts = []
    for k in (2, 1):
        for blends in replace(test, n=min(test.n, MOST), k=k).chunks():
            parts.append(_score(finder, others if k == 2 else {}, blends))
    two = [part for part in parts if part.psnr]
    return SampleScores(
        _joined([part.psnr for part in two]),
        _joined([part.inside for part in two]),
        _joined([part.inside_lit for part in two]),
        np.concatenate([part.p_blend for part in parts]),
        np.concatenate([part.is_blend for part in parts]),
        network.config.sampling.samples,
    )


def _score(
    finder: NetworkFinder, others: Mapping[str, NetworkFinder], blends: SharpBlends
) -> SampleScores:
    view = cast(SampledView, finder.look(blends)[1])
    softening = finder.network.scaling.softening
    band = reference_band(blends.bands)
    is_blend = np.array([len(high_peaks(image)) > 1 for image in blends.high[:, band]])
    if not others:
        return SampleScores({}, {}, {}, view.p_blend, is_blend, len(view.samples))
    truth = blends.isolated.sum(axis=1)[:, band]
    images = {f"{finder.network.name}, mean": view.sharp, "one sample": view.samples[0]}
    images |= {name: other.look(blends)[1].sharp for name, other in others.items()}
    psnr = {name: decibels(image, truth, softening) for name, image in images.items()}
    samples, there = stretched(view.samples, softening), stretched(truth, softening)
    within = {level: inside(samples, there, level / 100) for level in LEVELS}
    lit = view.sharp * FACTOR**2 > LIT
    return SampleScores(
        psnr,
        {level: hits.mean(axis=(1, 2)) for level, hits in within.items()},
        {level: (hits & lit).sum((1, 2)) / lit.sum((1, 2)) for level, hits in within.items()},
        view.p_blend,
        is_blend,
        len(view.samples),
    )


def _joined(parts: Sequence[Mapping[Key, Array]]) -> dict[Key, Array]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def decibels(image: NDArray[np.floating], truth: NDArray[np.floating], softening: float) -> Array:
    """Return the PSNR ``(n,)`` of images ``(n, 3 y, 3 x)`` in the network's stretched unit."""
    error = stretched(image, softening) - stretched(truth, softening)
    return np.asarray(-10 * np.log10(np.mean(error**2, axis=(1, 2))))


def inside(
    samples: NDArray[np.floating], truth: NDArray[np.floating], level: float
) -> NDArray[np.bool_]:
    """Tell where the truth is in the central interval of samples ``(k, ...)`` with this level.

    Both in the unit in which the network adds its samples up, stretched.
    """
    reach = half_width(len(samples), level) * samples.std(axis=0, ddof=1)
    return np.asarray(np.abs(truth - samples.mean(axis=0)) <= reach)


def sample_rows(scores: SampleScores, name: str) -> list[Row]:
    """Return a row for each image's PSNR, and one of the samples' intervals."""
    n = len(scores.inside[LEVELS[0]])
    start: Row = {"protocol": PROTOCOL, "n_galaxies": 2, "galaxy": 0, "n": n}
    rows: list[Row] = [
        start | {"deblender": name, "image": image} | measured("psnr_mean", values, np.mean)
        for image, values in scores.psnr.items()
    ]
    intervals = start | {"deblender": name, "samples": scores.samples}
    for level in LEVELS:
        intervals |= measured(f"inside_{level}", scores.inside[level], np.mean)
        intervals |= measured(f"inside_{level}_lit", scores.inside_lit[level], np.mean)
    return [*rows, intervals]


def sample_tables(scores: SampleScores, rows: Sequence[Row]) -> list[Table]:
    """Return PSNR, coverage of the intervals, and how often HST agrees with a probability."""
    images = [
        [str(row["image"]), str(row["n"]), cell(row, "psnr_mean", ".2f")]
        for row in rows
        if "image" in row
    ]
    intervals = next(row for row in rows if "samples" in row)
    covered = [
        [f"{level} %", cell(intervals, f"inside_{level}_lit", ".3f"),
         cell(intervals, f"inside_{level}", ".3f")]
        for level in LEVELS
    ]  # fmt: skip
    return [
        Table(["image", "n", "PSNR of the arcsinh image"], images, "Samples: images"),
        Table(["interval", "pixels with light inside", "all pixels inside"], covered,
              "Samples: intervals"),
        Table(["samples with more than one source", "n", "mean", "HST shows more than one"],
              _reliability(scores), "Samples: probabilities"),
    ]  # fmt: skip


def _reliability(scores: SampleScores) -> list[list[str]]:
    """Return how often HST shows more than one, by the probability that the samples give."""
    index = np.clip(np.digitize(scores.p_blend, EDGES) - 1, 0, len(EDGES) - 2)
    lines = []
    for i in np.unique(index):
        chosen = index == i
        row = fraction("true", scores.is_blend[chosen])
        lines.append(
            [f"{EDGES[i]:.1f} to {EDGES[i + 1]:.1f}", str(chosen.sum()),
             f"{scores.p_blend[chosen].mean():.2f}", cell(row, "true", ".3f")]
        )  # fmt: skip
    return lines
