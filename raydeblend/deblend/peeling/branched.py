"""The branched network as a deblender, and as what its paper measured (Reiman & Göhre 2019).

On survey stamps the two branches give the brightest galaxy and the second.  The paper separates
two galaxies and proposes (section 2.3) to send what is left back in for more; here the network is
run again on the residual, as the RDN is, two galaxies a time, until the second branch is empty.
The first branch, which draws the brightest, then looks again (`deblend/peeling/finish.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from raydeblend.deblend.holes import fill_from_models
from raydeblend.deblend.peeling.finish import polish
from raydeblend.deblend.peeling.rdn import MODEL_FLOOR
from raydeblend.deblend.sources import MIN_SIGNIFICANCE, Sources, stack_sources
from raydeblend.deblend.stamps import (
    choose_bands,
    find_stamp_peaks,
    network_image,
    prepare,
    split_batches,
)
from raydeblend.errors import ConfigError
from raydeblend.networks.branched import BRANCHES, Branched
from raydeblend.networks.forward import choose_device, forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import Card, load_weights, shipped_path
from raydeblend.tile import Deblended, FloatArray

MAX_PASSES = 5
"""Passes through the network, two galaxies each; more in one stamp means low quality."""
ZOO_BATCH = 64


@dataclass(frozen=True)
class BranchedDeblender:
    """The network for survey stamps; implements `raydeblend.tile.Deblender`."""

    network: nn.Module
    scaling: Scaling
    bands: tuple[str, ...]
    device: torch.device
    downscale: int = 1
    weights_hash: str = ""
    name: str = "branched"
    band_masks: ClassVar[bool] = True

    @classmethod
    def load(cls, device: str | None = None, weights: str | None = None) -> BranchedDeblender:
        """Load the shipped weights, or those at the given path.

        Raises
        ------
        ConfigError
            If weights are missing, damaged or not of survey images.
        """
        chosen = choose_device(device)
        network, card = _load(weights or shipped_path("branched"), "survey", chosen)
        downscale = network.config.downscale
        return cls(network, card.scaling, card.bands, chosen, downscale, card.sha256[:16])

    @torch.inference_mode()
    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        The network was trained over a range of seeing and does not use `psf` or `pixel_scale`.

        Raises
        ------
        ConfigError
            If the shapes of the arrays or the number of bands do not agree.
        """
        stamps = prepare(images, variance, mask)
        chosen = choose_bands(bands, stamps.image.shape[1], self.bands)
        peaks = find_stamp_peaks(stamps, psf)
        sources: list[Sources] = []
        quality: list[str] = []
        for part in split_batches(stamps, self.device.type == "cpu"):
            seen = network_image(part, chosen)
            seen = fill_from_models(seen, part.holes[:, chosen], self._light)
            image = torch.from_numpy(seen).to(self.device)
            peeled, ended = self.peel(image)
            own_peaks, peaks = peaks[: len(image)], peaks[len(image) :]
            found = polish(part, image, peeled, own_peaks, chosen, self._brightest)
            sources.extend(found)
            quality.extend(
                _quality(int(taken), len(models), bool(end))
                for taken, (models, _), end in zip(
                    peeled.flatten(2).any(2).sum(1), found, ended, strict=True
                )
            )
        return stack_sources(sources, quality, stamps.image.shape)

    def peel(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Separate ``(n, bands, y, x)`` in noise units, two galaxies a pass.

        Returns
        -------
        models, ended
            ``(n, k, bands, y, x)``, zero where a branch found nothing significant; ``(n,)``,
            false where there still was more after the last pass.
        """
        residual = image.clone()
        models: list[Tensor] = []
        active = torch.arange(len(image), device=image.device)
        for _ in range(MAX_PASSES):
            if len(active) == 0:
                break
            pair = image.new_zeros((len(image), BRANCHES, *image.shape[1:]))
            pair[active] = self._separate(residual[active])
            residual -= pair.sum(dim=1)
            models.append(pair)
            # One galaxy fewer than branches: there was no other.
            active = active[pair[active].amax(dim=(2, 3, 4)).gt(0).all(dim=1)]
        ended = torch.ones(len(image), dtype=torch.bool, device=image.device)
        ended[active] = False
        return torch.cat(models, dim=1) if models else image[:, None][:, :0], ended

    def _light(self, image: FloatArray) -> FloatArray:
        """Return the sum of all models of each stamp."""
        models, _ = self.peel(torch.from_numpy(image).to(self.device))
        return np.asarray(models.sum(dim=1).cpu().numpy())

    def _brightest(self, image: Tensor) -> Tensor:
        """Model of the brightest galaxy, the first branch's, ``(n, bands, y, x)``."""
        return self._separate(image)[:, 0]

    def _separate(self, image: Tensor) -> Tensor:
        """Significant models of the two brightest galaxies, ``(n, 2, bands, y, x)``."""
        channels, maximum = self.scaling.apply(image)
        y, x = image.shape[2:]
        padding = (0, -x % self.downscale, 0, -y % self.downscale)
        pair = forward(self.network, nn.functional.pad(channels, padding))[..., :y, :x]
        pair = nn.functional.threshold(pair * maximum[:, None], MODEL_FLOOR, 0.0)
        significance = pair.square().sum(dim=(2, 3, 4), keepdim=True).sqrt()
        return torch.where(significance > MIN_SIGNIFICANCE, pair, 0.0)


@dataclass(frozen=True)
class ZooSeparator:
    """The network as published: a Galaxy Zoo blend into the central and the other galaxy."""

    network: nn.Module
    device: torch.device
    weights_hash: str = ""
    name: str = "branched-zoo"

    @classmethod
    def load(cls, device: str | None = None, weights: str | None = None) -> ZooSeparator:
        """Load the shipped weights, or those at the given path.

        Raises
        ------
        ConfigError
            If weights are missing, damaged or not of Galaxy Zoo pictures.
        """
        chosen = choose_device(device)
        network, card = _load(weights or shipped_path("branched-zoo"), "galaxy_zoo", chosen)
        return cls(network, chosen, card.sha256[:16])

    @torch.inference_mode()
    def __call__(self, blends: FloatArray) -> FloatArray:
        """Map ``(n, 3, 80, 80)`` in [0, 1] to ``(n, 2, 3, 80, 80)`` in [0, 1]."""
        parts = torch.split(torch.from_numpy(blends), ZOO_BATCH)
        pairs = [forward(self.network, part.to(self.device)).clamp(0, 1).cpu() for part in parts]
        return np.asarray(torch.cat(pairs).numpy())


def _quality(peeled: int, found: int, ended: bool) -> str:
    """Return the quality of a stamp with `found` sources, of which `peeled` models were peeled.

    ``high``: each galaxy came out of one branch once; ``medium``: some came in helpings, or were
    found at the second look alone; ``low``: there was no end; ``none``: nothing.
    """
    if found == 0:
        return "none"
    if not ended:
        return "low"
    return "high" if found == peeled else "medium"


def _load(path: str, blends: str, device: torch.device) -> tuple[Branched, Card]:
    network, card = load_weights(path, device)
    if not isinstance(network, Branched) or card.training.get("blends") != blends:
        raise ConfigError(f"{path} is not a branched network for blends of {blends}")
    return network, card
