"""Photometry of blends of known truth, with given models of the neighbors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.galaxy_stamps import make_blend
from benchmarks.isolated import nmad
from raydeblend.deblend import load_deblender
from raydeblend.detect.matching import match_positions
from raydeblend.evaluate.common.blends import Blends, BlendSet, to_blend_set
from raydeblend.evaluate.wang2022.scores import deblend
from raydeblend.fit.stamps import weight_of
from raydeblend.measure.blendedness import blendedness, neighbor_flux
from raydeblend.measure.measure import measure_blends
from raydeblend.simulate.protocols import wang2022_blends
from raydeblend.survey import get_survey
from raydeblend.tile import Blend

Array = NDArray[np.float64]

BINS = (0.0, 0.01, 0.05, 0.2, 1.0)
"""Edges of the bins of blendedness."""
BLENDED = 0.05
"""Least blendedness of the fluxes on which the errors are calibrated."""
SEED = 20_077
"""Of the blends on which the errors are calibrated; the tests and weights use others."""


@dataclass(frozen=True)
class Given:
    """Blends with models, as the measurement gets them, and the truth.

    Attributes
    ----------
    models, xy
        Per blend ``(k, bands, y, x)`` and ``(k, 2)``.
    match
        Per blend, of each true galaxy which source it is, -1 for none.
    flux
        ``(n, k, bands)`` true, in the image.
    blendedness
        ``(n, k)`` of the true images.
    """

    blends: list[Blend]
    models: list[Array]
    xy: list[Array]
    match: list[NDArray[np.int64]]
    flux: Array
    blendedness: Array


@dataclass(frozen=True)
class Outcome:
    """Measured fluxes ``(n, k, bands)`` by true galaxy, NaN where missing; CPU seconds."""

    given: Given
    flux: Array
    flux_err: Array
    seconds: float

    @property
    def error(self) -> Array:
        """F / F_true − 1 of the sum over the bands, ``(n, k)``."""
        return self.flux.sum(2) / self.given.flux.sum(2) - 1

    @property
    def pulls(self) -> Array:
        """(F − F_true) / σ, ``(n, k, bands)``."""
        return (self.flux - self.given.flux) / self.flux_err


def read_set(arrays: Mapping[str, NDArray[np.generic]]) -> BlendSet:
    """Check the arrays of the fixed layout."""
    return to_blend_set(arrays)


def calibration_set(n: int) -> BlendSet:
    """Draw blends that are no test set."""
    return to_blend_set(wang2022_blends(n, SEED))


def give_models(blends: Blends, data: BlendSet, deblender: str) -> Given:
    """Return the blends with the models of a deblender, or with ``truth`` the true images."""
    if deblender == "truth":
        models, xy = list(blends.isolated.astype(float)), list(blends.xy.astype(float))
        match = [np.arange(blends.n_galaxies)] * len(blends)
    else:
        models, xy, match = _deblended(blends, data, deblender)
    pairs = zip(blends.images, _variance(blends, data), xy, strict=True)
    return Given(
        blends=[make_blend(image, variance, at) for image, variance, at in pairs],
        models=models,
        xy=xy,
        match=match,
        flux=blends.isolated.sum((3, 4), dtype=float),
        blendedness=np.array([blendedness(light) for light in blends.isolated]),
    )


def _deblended(
    blends: Blends, data: BlendSet, name: str
) -> tuple[list[Array], list[Array], list[NDArray[np.int64]]]:
    found = deblend(load_deblender(name), blends, data)
    counts = found.n_sources.tolist()
    models = [m[:k].astype(float) for m, k in zip(found.models, counts, strict=True)]
    xy = [p[:k].astype(float) for p, k in zip(found.xy, counts, strict=True)]
    return models, xy, [match_positions(p, t) for p, t in zip(xy, blends.xy, strict=True)]


def _variance(blends: Blends, data: BlendSet) -> Array:
    """Return the variance of sky and sources, the latter without their noise."""
    survey = get_survey("LSST")
    sky = np.sqrt([survey.band(band).sky_electrons for band in data.bands])[:, None, None]
    return np.asarray(1 + np.maximum(blends.isolated.sum(1), 0) / sky)


def measure(given: Given, data: BlendSet, engine: str, model: str, joint: bool) -> Outcome:
    """Measure all blends and sort the fluxes by true galaxy."""
    start = time.process_time()
    results = measure_blends(
        given.blends,
        given.models,
        given.xy,
        data.psf,
        data.pixel_scale,
        engine,
        model=model,
        joint_flux=joint,
    )
    seconds = time.process_time() - start
    flux, flux_err = np.full((2, *given.flux.shape), np.nan)
    for i, (result, match) in enumerate(zip(results, given.match, strict=True)):
        found = match >= 0
        flux[i, found] = result.flux[match[found]]
        flux_err[i, found] = result.flux_err[match[found]]
    return Outcome(given, flux, flux_err, seconds)


def outcome_row(label: str, outcome: Outcome) -> str:
    """Return one line: per galaxy mape with missing counted, of the found, bias, NMAD and pulls."""
    error = outcome.error
    missing = np.where(np.isfinite(error), np.minimum(np.abs(error), 1), 1).mean(0)
    found = np.nanmean(np.minimum(np.abs(error), 1), 0)
    bias = np.nanmedian(error, 0)
    scatter = [nmad(column) for column in error.T]
    pulls = [nmad(outcome.pulls[:, k]) for k in range(error.shape[1])]
    sources = sum(len(xy) for xy in outcome.given.xy)
    columns = (missing, found, bias, scatter, pulls)
    text = " ".join(f"{_join(column):>20}" for column in columns)
    return f"{label:26} {text} {sources / outcome.seconds:7.0f}"


def _join(values: Sequence[float] | Array) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def pull_rows(outcomes: Sequence[Outcome]) -> list[str]:
    """Return, by bin of blendedness, how many fluxes there are and the NMAD of their pulls."""
    degree = np.concatenate([o.given.blendedness.ravel() for o in outcomes])
    pulls = np.concatenate([o.pulls.reshape(-1, o.pulls.shape[-1]) for o in outcomes])
    rows = []
    for low, high in pairwise(BINS):
        chosen = pulls[(degree >= low) & (degree < high)]
        within = np.nanmean(np.abs(chosen[np.isfinite(chosen)]) < 1)
        rows.append(
            f"{low:4.2f}-{high:4.2f} {np.isfinite(chosen).sum():6} {nmad(chosen):6.2f} "
            f"{np.nanmedian(chosen):+6.2f} {100 * within:6.1f}"
        )
    return rows


def calibrate(outcomes: Sequence[Outcome], present: float) -> float:
    """Return the part of the neighbors' flux that makes the NMAD of the pulls 1.

    Of the fluxes whose galaxies have a blendedness of at least `BLENDED`.

    Parameters
    ----------
    present
        The part that is in the errors already.
    """
    rows = [
        (m.pulls[i, g] * m.flux_err[i, g], m.flux_err[i, g], noise[source])
        for m in outcomes
        for i, noise in enumerate(_neighbors(m.given))
        for g, source in enumerate(m.given.match[i])
        if source >= 0 and m.given.blendedness[i, g] >= BLENDED
    ]
    offset, error, noise = (np.concatenate(column) for column in zip(*rows, strict=True))
    own = np.maximum(error**2 - (present * noise) ** 2, 0)
    parts = np.linspace(0, 0.5, 501)
    scatter = [nmad(offset / np.sqrt(own + (part * noise) ** 2)) for part in parts]
    return float(parts[np.argmin(np.abs(np.array(scatter) - 1))])


def _neighbors(given: Given) -> list[Array]:
    return [
        neighbor_flux(light, weight_of(blend))
        for light, blend in zip(given.models, given.blends, strict=True)
    ]
