"""The protocol of Wang et al. (2022), section III: blends of two and of three galaxies."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.detect.matching import match_positions
from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.baselines import GIVEN_POSITIONS
from raydeblend.evaluate.common.blends import Blends, BlendSet
from raydeblend.evaluate.common.rows import Row, fixed_first, flux_columns, fraction, image_columns
from raydeblend.evaluate.wang2022.readings import psnr_readings
from raydeblend.tile import Deblended, Deblender, FloatArray

LOGGER = logging.getLogger(__name__)

QUALITIES = ("high", "medium", "low", "none")
BATCH = 64
GALLERY = 6
"""How many of the first blends keep their models, for the figures."""

SHARED = 0.5
"""A model that holds more than this part of each of two galaxies is two in one."""

_ARRAYS = (
    *("psnr", "ssim", "flux", "flux_true", "quality", "count"),
    *("moments", "moments_true", "amplitude", "readings"),
)


@dataclass(frozen=True)
class Scores:
    """How one deblender did on n blends of k galaxies.

    Attributes
    ----------
    psnr, ssim
        ``(n, k)``; a missing galaxy counts as an image of zeros.
    flux, flux_true
        ``(n, k)`` sums over bands and pixels; the measured flux is NaN where missing.
    quality
        ``(n,)`` as the deblender says.
    models
        ``(GALLERY, k, bands, y, x)`` of the first blends, matched to the true galaxies.
    seconds_per_blend
        Wall time of the deblender.
    count
        ``(n,)`` sources that the deblender returned.
    moments, moments_true
        ``(n, k, 2)`` of `metrics.second_moments`, NaN where missing.
    amplitude
        ``(n, k, k)`` the part of each true galaxy in each galaxy's model.
    readings
        ``(n, k, readings)`` PSNR by every reading of the paper, see `readings`.

    The last five are empty where a protocol has no use for them.
    """

    deblender: str
    psnr: NDArray[np.float64]
    ssim: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_true: NDArray[np.float64]
    quality: NDArray[np.str_]
    models: FloatArray
    seconds_per_blend: float
    count: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    moments: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    moments_true: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    amplitude: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    readings: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def n_galaxies(self) -> int:
        """Galaxies per blend."""
        return int(self.flux.shape[1])

    @property
    def flux_error(self) -> NDArray[np.float64]:
        """``F / F_true - 1``, ``(n, k)``; NaN where missing."""
        return self.flux / self.flux_true - 1

    @property
    def found(self) -> NDArray[np.bool_]:
        """``(n, k)``."""
        return np.isfinite(self.flux)

    @property
    def right(self) -> NDArray[np.bool_]:
        """``(n,)``: as many sources as there are galaxies, and each of them found."""
        return np.asarray((self.count == self.n_galaxies) & self.found.all(axis=1))

    @property
    def merged(self) -> NDArray[np.bool_]:
        """``(n,)``: one model holds more than `SHARED` of each of two galaxies."""
        return np.asarray(((self.amplitude > SHARED).sum(axis=2) >= 2).any(axis=1))


def evaluate_wang2022(
    deblenders: Mapping[str, Deblender], data: BlendSet, n: int | None = None
) -> tuple[list[Row], list[Scores]]:
    """Score deblenders on a test set.

    Parameters
    ----------
    deblenders
        By the name the rows carry.
    n
        Use at most this many blends of each number of galaxies.

    Returns
    -------
    rows
        One per deblender, number of galaxies and galaxy, with the fixed columns.
    scores
        One per deblender and number of galaxies.
    """
    part = data if n is None else data.first(n)
    scores = [
        score_deblender(name, deblender, blends, data)
        for name, deblender in deblenders.items()
        for blends in part.blends
    ]
    return [row for score in scores for row in make_rows(score)], scores


def score_deblender(name: str, deblender: Deblender, blends: Blends, data: BlendSet) -> Scores:
    """Deblend all blends in batches and compare with the truth."""
    scores = []
    for start in range(0, len(blends), BATCH):
        scores.append(score_batch(name, deblender, blends[start : start + BATCH], data))
        done = min(start + BATCH, len(blends))
        LOGGER.info("%s: %d of %d blends of %d", name, done, len(blends), blends.n_galaxies)
    return _join(scores)


def score_batch(name: str, deblender: Deblender, blends: Blends, data: BlendSet) -> Scores:
    """Deblend one batch and compare with the truth."""
    start = time.perf_counter()
    result = deblend(deblender, blends, data)
    seconds = time.perf_counter() - start
    models, found = match_models(blends, result)
    psnr, ssim = compare_images(blends, models)
    return Scores(
        deblender=name,
        psnr=psnr,
        ssim=ssim,
        flux=np.where(found, metrics.flux(models), np.nan),
        flux_true=metrics.flux(blends.isolated),
        quality=np.asarray(result.quality),
        models=models[:GALLERY],
        seconds_per_blend=seconds / len(blends),
        count=np.asarray(result.n_sources),
        moments=metrics.second_moments(models),
        moments_true=metrics.second_moments(blends.isolated),
        amplitude=np.array(
            [metrics.amplitudes(*p) for p in zip(models, blends.isolated, strict=True)]
        ),
        readings=psnr_readings(blends, models),
    )


def _join(parts: Sequence[Scores]) -> Scores:
    counts = [len(part.quality) for part in parts]
    seconds = np.average([part.seconds_per_blend for part in parts], weights=counts)
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    first = parts[0]
    return Scores(
        deblender=first.deblender, models=first.models, seconds_per_blend=float(seconds), **joined
    )


def deblend(deblender: Deblender, blends: Blends, data: BlendSet) -> Deblended:
    """Run the deblender; the unit is the sky sigma, so that the variance of the sky is 1."""
    is_given = deblender.name in GIVEN_POSITIONS
    positions: dict[str, Any] = {"xy": list(blends.xy)} if is_given else {}
    return deblender(
        blends.images,
        variance=np.ones_like(blends.images),
        psf=data.psf,
        bands=data.bands,
        pixel_scale=data.pixel_scale,
        **positions,
    )


def compare_images(
    blends: Blends, models: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return PSNR and SSIM ``(n, k)`` of matched models ``(n, k, bands, y, x)``."""
    peaks = blends.images.max(axis=(1, 2, 3))
    triples = [
        [(model, truth, float(peak)) for model, truth in zip(*pair, strict=True)]
        for *pair, peak in zip(models, blends.isolated, peaks, strict=True)
    ]
    psnr = np.array([[metrics.psnr(*triple) for triple in row] for row in triples])
    ssim = np.array([[metrics.ssim(*triple) for triple in row] for row in triples])
    return psnr, ssim


def match_models(blends: Blends, result: Deblended) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Order the models as the true galaxies, by position.

    Returns
    -------
    models
        ``(n, k, bands, y, x)``, zero where no model was matched.
    found
        ``(n, k)``.
    """
    models = np.zeros_like(blends.isolated)
    found = np.zeros(models.shape[:2], dtype=bool)
    for i, count in enumerate(result.n_sources):
        match = match_positions(result.xy[i, :count], blends.xy[i])
        found[i] = match >= 0
        models[i, found[i]] = result.models[i, match[found[i]]]
    return models, found


def make_rows(scores: Scores) -> list[Row]:
    """Return one row of metrics per galaxy, with the fixed columns."""
    return [_row(scores, galaxy) for galaxy in range(scores.n_galaxies)]


def _row(scores: Scores, galaxy: int) -> Row:
    return fixed_first(
        {
            "protocol": "wang2022",
            "deblender": scores.deblender,
            "n_galaxies": scores.n_galaxies,
            "galaxy": galaxy + 1,
            "n": len(scores.flux),
            **image_columns("psnr", scores.psnr[:, galaxy]),
            **image_columns("ssim", scores.ssim[:, galaxy]),
            **flux_columns(scores.flux_error[:, galaxy]),
            "seconds_per_blend": scores.seconds_per_blend,
            **quality_columns(scores),
        }
    )


def quality_columns(scores: Scores) -> Row:
    """Return the fractions of each quality (Table I) and of the truly right, with limits."""
    columns: Row = {}
    for quality in QUALITIES:
        columns |= fraction(f"quality_{quality}", scores.quality == quality)
    columns |= fraction("right", scores.right)
    high = scores.quality == "high"
    return columns | (fraction("right_of_high", scores.right[high]) if high.any() else {})
