"""Features of sources that the super-resolution network and the counter give.

Views go through the networks in batches of a fixed size, so that the features of a source do not
depend on which others are in its cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from raydeblend.deblend.bands import choose_bands
from raydeblend.deblend.peeling.rdn import RdnDeblender
from raydeblend.deblend.preparation import Prepared
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.deblend.srgan.resolutions import fine_psf, to_coarse
from raydeblend.deblend.unrecognized.config import LOOK
from raydeblend.deblend.unrecognized.statistics import Views
from raydeblend.detect.sharp_peaks import SharpPeaks, find_sharp_peaks
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

BATCH = 8
NETWORK_FEATURES = ("second_peak", "log_second", "peak_distance", "counter_more", "counter_none")
"""Of `FeatureNetworks`: curvature of the second peak near the source over that of the first; ln of
1 + its significance; PSF-independent distance in arcsec; ln of the odds of two or more galaxies by
the counter, and of none."""


@dataclass(frozen=True)
class NetworkFeatures:
    """The networks' features of n sources.

    Attributes
    ----------
    features
        ``(n, 5)``, see `NETWORK_FEATURES`.
    peaks
        Of each, ``(k, 2)`` peaks (x, y) in the view near the source, the strongest first.
    """

    features: Array
    peaks: list[Array]


@dataclass(frozen=True)
class FeatureNetworks:
    """The super-resolution network and the counter."""

    srgan: SrganDeblender
    rdn: RdnDeblender
    psf: FloatArray

    @classmethod
    def load(cls, device: str | None = None) -> FeatureNetworks:
        """Load the shipped networks.

        Raises
        ------
        ConfigError
            If weights are missing or damaged.
        """
        return cls(SrganDeblender.load(device), RdnDeblender.load(device), fine_psf())

    @torch.inference_mode()
    def __call__(self, views: Views, bands: Sequence[str], pixel_scale: float) -> NetworkFeatures:
        """Look at each view."""
        rows: list[list[float]] = []
        peaks: list[Array] = []
        reach = LOOK.reach / pixel_scale
        for batch, stamps, n in _batches(views):
            sharp = self.srgan.sharpen(stamps, tuple(bands))
            chosen = choose_bands(tuple(bands), stamps.image.shape[1], self.rdn.counter.bands)
            image = torch.from_numpy(stamps.image[:, chosen].copy()).to(self.rdn.device)
            counts = self.rdn.counter.probabilities(image)
            noise = self.srgan.config.peaks.noise
            for k in range(n):
                found = find_sharp_peaks(sharp[k], self.psf, noise, LOOK.sharp_peaks)
                near = _near(found, batch.center[k], reach)
                peaks.append(near.xy)
                probability = counts[k].cpu().numpy().astype(np.float64)
                rows.append([*_second(near, pixel_scale), *_odds(probability)])
        return NetworkFeatures(np.array(rows).reshape(-1, len(NETWORK_FEATURES)), peaks)


def _batches(views: Views) -> Iterator[tuple[Views, Prepared, int]]:
    """Yield `BATCH` sources at a time, the last filled up with empty sky, and how many are real."""
    for start in range(0, len(views), BATCH):
        part = views.take(np.arange(start, min(start + BATCH, len(views))))
        pad = [(0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)]
        data, weight = np.pad(part.data, pad), np.pad(part.weight, pad)
        n, bands = data.shape[:2]
        sigma = np.ones((n, bands, 1, 1), dtype=np.float32)
        yield part, Prepared(data, weight, sigma, np.zeros((n, bands), dtype=bool)), len(part)


def _near(found: SharpPeaks, center: Array, reach: float) -> SharpPeaks:
    """Return the peaks near a source, in pixels of the view, by falling curvature."""
    xy = to_coarse(found.xy)
    near = np.flatnonzero(np.hypot(*(xy - center).T) <= reach)
    near = near[np.argsort(-found.curvature[near], kind="stable")]
    return SharpPeaks(xy[near], found.significance[near], found.curvature[near])


def _second(near: SharpPeaks, pixel_scale: float) -> tuple[float, float, float]:
    if len(near) < 2:
        return 0.0, 0.0, 0.0
    ratio = near.curvature[1] / near.curvature[0]
    apart = np.hypot(*(near.xy[1] - near.xy[0])) * pixel_scale
    return float(ratio), float(np.log1p(near.significance[1])), float(apart)


def _odds(probability: Array) -> tuple[float, float]:
    more, none = np.clip([probability[2:].sum(), probability[0]], 1e-4, 1 - 1e-4)
    return float(np.log(more / (1 - more))), float(np.log(none / (1 - none)))
