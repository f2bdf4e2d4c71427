"""Photometry of isolated GalSim galaxies: bias, shear response, pulls, and ngmix beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.galaxy_stamps import (
    BANDS,
    FLUX,
    SIZE,
    Galaxy,
    Sky,
    draw_galaxies,
    observe,
    observe_all,
    open_sky,
)
from raydeblend.fit.result import ARRAYS, Measurements
from raydeblend.flags import Flag
from raydeblend.measure.measure import measure_blends
from raydeblend.tile import Blend

Array = NDArray[np.float64]
Columns = dict[str, Array]

SURVEYS = ("HSC", "LSST")
# Applied to galaxies turned to four angles, whose own shapes then average out exactly.
SHEAR = 0.02 * (1 + 1j)
RING = (0.0, 0.25 * np.pi, 0.5 * np.pi, 0.75 * np.pi)


@dataclass(frozen=True)
class Run:
    """Measured values of n sources, their true S/N, and the CPU seconds they took."""

    values: Columns
    snr: Array
    seconds: float

    @property
    def pulls(self) -> Array:
        """(F − F_true) / σ, ``(n, bands)``."""
        return (self.values["flux"] - FLUX) / self.values["flux_err"]

    @property
    def error(self) -> Array:
        """F / F_true − 1 of the sum over the bands, ``(n,)``."""
        return self.values["flux"].sum(1) / FLUX.sum() - 1

    @property
    def failed(self) -> NDArray[np.bool_]:
        """No usable fit, or one that did not converge."""
        return (self.values["flags"].astype(int) & FAILURES) != 0


FAILURES = int(Flag.FIT_FAILED | Flag.FIT_NOT_CONVERGED)


def nmad(values: Array) -> float:
    """Return 1.4826 times the median absolute deviation, without NaN."""
    return float(1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values))))


def gather(results: Sequence[Measurements]) -> Columns:
    """Join the measurements of many blends by column."""
    return {name: np.concatenate([getattr(m, name) for m in results]) for name in ARRAYS}


def measure(blends: Sequence[Blend], snr: Array, sky: Sky, engine: str, model: str) -> Run:
    """Measure single galaxies, everything from the cut-out and the PSF's fit on included."""
    nothing = [np.zeros((1, len(BANDS), SIZE, SIZE))] * len(blends)
    xy = [blend.xy for blend in blends]
    start = time.process_time()
    out = measure_blends(blends, nothing, xy, sky.stamps, sky.pixel_scale, engine, model=model)
    return Run(gather(out), snr, time.process_time() - start)


def accuracy(n: int, model: str, truncated: bool, seed: int) -> list[tuple[str, Run]]:
    """Measure `n` galaxies of S/N 10 to 300, half of them behind each survey's PSF."""
    runs = []
    for survey in SURVEYS:
        sky, rng = open_sky(survey, truncated), np.random.default_rng(seed)
        galaxies = draw_galaxies(n // 2, rng, (10, 300))
        snr = np.array([g.snr for g in galaxies])
        blends = observe_all(galaxies, model, sky, rng)
        runs.append((survey, measure(blends, snr, sky, "mixture", model)))
    return runs


def accuracy_row(survey: str, model: str, run: Run) -> str:
    """Return one line of the table."""
    bright = (run.snr > 20) & ~run.failed
    weight = run.snr[bright] ** 2
    mean = np.average(run.error[bright], weights=weight)
    scatter = np.sqrt(np.average((run.error[bright] - mean) ** 2, weights=weight))
    uncertain = scatter / np.sqrt(weight.sum() ** 2 / (weight**2).sum())
    return (
        f"{survey:5} {model:6} {len(run.snr):6} {100 * mean:+9.3f} ± {100 * uncertain:.3f} "
        f"{100 * np.median(run.error[bright]):+9.3f} {nmad(run.pulls):9.3f} "
        f"{100 * run.failed.mean():8.2f} {len(run.snr) / run.seconds:8.0f}"
    )


def shear_response(n: int, model: str, survey: str, seed: int) -> tuple[Array, Array]:
    """Return m1 and m2 with their errors, from `n` galaxies of S/N 50 to 300.

    Each galaxy is seen eight times: turned to four angles, and each with the shear ±γ on both
    components, in the same noise.  The mean of (g(+γ) − g(−γ)) / 2γ − 1 is m; neither the
    shapes' scatter nor, to first order, the noise enters it.
    """
    sky, rng = open_sky(survey), np.random.default_rng(seed)
    views, snr = [], []
    for galaxy in draw_galaxies(n, rng, (50, 300)):
        views += _views(galaxy, model, sky, rng)
        snr += [galaxy.snr] * 8
    run = measure(views, np.array(snr), sky, "mixture", model)
    shapes = np.stack([run.values["g1"], run.values["g2"]], 1).reshape(n, 4, 2, 2)
    response = (shapes[:, :, 0] - shapes[:, :, 1]).mean(1) / (2 * SHEAR.real) - 1
    return np.nanmean(response, 0), np.nanstd(response, 0) / np.sqrt(n)


def _views(galaxy: Galaxy, model: str, sky: Sky, rng: np.random.Generator) -> list[Blend]:
    noise = [rng.normal(size=(len(BANDS), SIZE, SIZE)) for _ in RING]
    return [
        observe(galaxy.sheared(angle, sign * SHEAR), model, sky, own)
        for angle, own in zip(RING, noise, strict=True)
        for sign in (1, -1)
    ]


def beside_ngmix(n: int, model: str, seed: int) -> list[str]:
    """Measure the same stamps with both engines; return the lines of the comparison."""
    lines = []
    for survey in SURVEYS:
        sky, rng = open_sky(survey), np.random.default_rng(seed)
        galaxies = draw_galaxies(n // 2, rng, (10, 300))
        snr = np.array([g.snr for g in galaxies])
        blends = observe_all(galaxies, model, sky, rng)
        for engine in ("mixture", "ngmix"):
            measure(blends[:2], snr[:2], sky, engine, model)  # compiles and caches
        ours, theirs = (measure(blends, snr, sky, e, model) for e in ("mixture", "ngmix"))
        difference = (ours.values["flux"] - theirs.values["flux"]) / theirs.values["flux_err"]
        rates = [len(snr) / run.seconds for run in (ours, theirs)]
        lines.append(
            f"{survey:5} {model:6} {len(snr):6} {np.nanmedian(difference):+8.3f} "
            f"{nmad(difference):8.3f} {100 * theirs.failed.mean():13.2f} "
            f"{rates[0]:9.0f} {rates[1]:7.0f} {rates[0] / rates[1]:7.1f}"
        )
    return lines
