"""Positions that samples of the super-resolved image agree on, and how surely each is a source.

The flow (`raydeblend.networks.srflow`) draws images that HST may see, given HSC's.  Each is looked
at as HST's would be; where a part p of them shows a source, the sky has one there with
probability p, as far as the flow is right.  The mean of these maps stands in the place of the
super-resolution GAN's own map of sources; all else is `SrganDeblender`: the original pixels are
fitted, and confirm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.deblend.bands import network_image
from raydeblend.deblend.configuration import hash_of
from raydeblend.deblend.preparation import Prepared, batch_rows
from raydeblend.deblend.sources import Sources
from raydeblend.deblend.srgan.config import (
    AgreementConfig,
    SrflowDeblenderConfig,
    SrganDeblenderConfig,
)
from raydeblend.deblend.srgan.deblender import SharpView, SrganDeblender
from raydeblend.deblend.srgan.resolutions import high_peaks, matched, to_fine
from raydeblend.networks.srflow import Srflow
from raydeblend.networks.srgan import source_target, unstretch
from raydeblend.tile import FloatArray

Peaks = Sequence[NDArray[np.float64]]
QUALITIES = ("none", "low", "medium", "high")


@dataclass(frozen=True)
class SampledView(SharpView):
    """What the samples of n stamps show; `sharp` is their mean, in the stretched unit.

    Attributes
    ----------
    samples
        ``(k, n, 3 y, 3 x)`` in the reference band, in sky sigmas of the coarse pixels.
    peaks
        For each stamp and sample ``(m, 2)`` peaks in fine pixels.
    """

    samples: FloatArray
    peaks: Sequence[Peaks]

    @property
    def spread(self) -> FloatArray:
        """Standard deviation of each pixel over the samples, ``(n, 3 y, 3 x)``."""
        return np.asarray(self.samples.std(axis=0, ddof=1))

    @property
    def p_blend(self) -> FloatArray:
        """Part of the samples of each stamp with more than one source, ``(n,)``."""
        return np.array([np.mean([len(xy) > 1 for xy in own]) for own in self.peaks], np.float32)


@dataclass(frozen=True)
class SrflowDeblender(SrganDeblender):
    """The super-resolution flow and a fit; implements `raydeblend.tile.Deblender`.

    `Deblended.extra` has ``probability`` ``(n, k)``, the part of the samples that shows a source,
    and ``p_blend`` ``(n,)``, the part with more than one.
    """

    shipped: ClassVar[str] = "srflow"
    networks: ClassVar[tuple[str, ...]] = ("srflow",)

    name: str = "srflow"
    config: SrflowDeblenderConfig = field(default_factory=SrflowDeblenderConfig)

    @classmethod
    def load(
        cls,
        device: str | None = None,
        weights: str | None = None,
        config: SrganDeblenderConfig | None = None,
    ) -> Self:
        """Load as others; the hash is of what the card says of the network, too."""
        loaded = super().load(device, weights, config)
        network = hash_of(cast(Srflow, loaded.network).config)
        return replace(loaded, weights_hash=f"{loaded.weights_hash}-{network}")

    @torch.inference_mode()
    def look(self, stamps: Prepared, bands: Sequence[str] | None) -> SampledView:
        """Return what the samples show in the stamps."""
        rows = batch_rows(stamps, self.device.type == "cpu")
        stretched = torch.cat([self._samples(stamps.take(part), bands) for part in rows], dim=1)
        samples = unstretch(stretched, self.scaling.softening).numpy()
        peaks = [[high_peaks(image) for image in own] for own in samples.swapaxes(0, 1)]
        sources = [source_map(own, samples.shape[2:]) for own in peaks]
        mean = unstretch(stretched.mean(dim=0), self.scaling.softening).numpy()
        return SampledView(mean, np.stack(sources), samples, peaks)

    def _samples(self, stamps: Prepared, bands: Sequence[str] | None) -> Tensor:
        """Return stretched samples ``(k, n, 3 y, 3 x)`` in the reference band."""
        chosen = self.channels(bands, stamps.image.shape[1])
        image = torch.from_numpy(network_image(stamps, chosen)).to(self.device)
        network = cast(Srflow, self.network)
        condition = network.condition(self.scaling.apply(image)[0])
        return network.samples(condition, self.config.sampling)[:, :, self._reference].cpu()

    def rate(self, view: SharpView, found: list[Sources]) -> list[Sources]:
        """Return the sources with the part of the samples that shows each, and the quality."""
        view = cast(SampledView, view)
        return [
            rated(own, peaks, p_blend, self.config.agreement)
            for own, peaks, p_blend in zip(found, view.peaks, view.p_blend, strict=True)
        ]


def rated(found: Sources, peaks: Peaks, p_blend: np.float32, config: AgreementConfig) -> Sources:
    """Return a stamp's sources with how far its samples, whose `peaks` are given, agree on them."""
    probability = agreement(to_fine(found.xy), peaks)
    quality = min(found.quality, quality_of(probability, config), key=QUALITIES.index)
    measured = {**found.measured, "probability": probability}
    of_stamp = {**found.of_stamp, "p_blend": p_blend}
    return replace(found, quality=quality, measured=measured, of_stamp=of_stamp)


def agreement(xy: NDArray[np.floating], peaks: Peaks) -> NDArray[np.float64]:
    """Return ``(m,)`` the part of the samples that shows a source at each place ``(m, 2)``.

    In fine pixels; a peak stands for one source.
    """
    return np.asarray(np.mean([matched(own, xy) >= 0 for own in peaks], axis=0))


def quality_of(probability: NDArray[np.float64], config: AgreementConfig) -> str:
    """Return the quality of a stamp by its most doubtful source; ``none`` without any."""
    if not len(probability):
        return "none"
    least = float(probability.min())
    if least >= config.high:
        return "high"
    return "medium" if least >= config.medium else "low"


def source_map(peaks: Peaks, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the mean over the samples of their maps of sources, ``shape``."""
    maps = [source_target(torch.from_numpy(xy)[None], shape)[0, 0] for xy in peaks if len(xy)]
    total = sum(maps, torch.zeros(shape, dtype=torch.float64))
    return (total / len(peaks)).float().numpy()
