"""The branched network as a deblender, and as what its paper measured (Reiman & Göhre 2019).

On survey stamps the two branches give the brightest galaxy and the second.  The paper separates
two galaxies and proposes (section 2.3) to send what is left back in for more; here the network is
run again on the residual, as the RDN is, two galaxies a time, until the second branch is empty.
The first branch, which draws the brightest, then makes the second pass (`second_pass.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from raydeblend.deblend.base import Batch, NetworkDeblender
from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.peeling.finish import finish, image_to_peel
from raydeblend.deblend.peeling.pieces import fitter_on
from raydeblend.deblend.sources import SOURCES, Sources
from raydeblend.errors import ConfigError
from raydeblend.networks.branched import BRANCHES, Branched
from raydeblend.networks.forward import choose_device, forward
from raydeblend.networks.weights import Card, load_weights, shipped_path
from raydeblend.tile import FloatArray

ZOO_BATCH = 64


@dataclass(frozen=True)
class BranchedDeblender(NetworkDeblender):
    """The network for survey stamps; implements `raydeblend.tile.Deblender`.

    It was trained over a range of seeing; `psf` sets the width of the filter that finds peaks, and
    with `pixel_scale` tells pieces from galaxies (`pieces`).
    """

    shipped: ClassVar[str] = "branched"
    tuned: ClassVar = (PEELING,)

    network: Branched
    name: str = "branched"
    downscale: int = 1

    @classmethod
    def load(cls, device: str | None = None, weights: str | None = None) -> Self:
        """Load the shipped weights, or others by a shipped name or a file's path.

        Raises
        ------
        ConfigError
            If weights are missing, damaged or not of survey images.
        """
        loaded = cls._load(device, weights)
        return replace(
            loaded,
            downscale=loaded.network.config.downscale,
            weights_hash=f"{loaded.weights_hash}-{fitter_on(loaded.device).weights_hash}",
        )

    @classmethod
    def check_weights(cls, path: str, network: nn.Module, card: Card) -> None:
        """Refuse weights of another network, and those of Galaxy Zoo pictures."""
        _check(path, network, card, "survey")

    def separate(self, batch: Batch) -> list[Sources]:
        """Peel each stamp, two galaxies a pass, then finish its models."""
        image = image_to_peel(batch, self.device, lambda image: self.peel(image)[0])
        peeled, ended = self.peel(image)
        found = finish(batch, image, peeled, self._brightest)
        n_peeled = peeled.flatten(2).any(2).sum(1)
        return [
            Sources(models, xy, _quality(int(n), len(models), bool(end)))
            for (models, xy), n, end in zip(found, n_peeled, ended, strict=True)
        ]

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
        for _ in range(PEELING.max_passes):
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

    def _brightest(self, image: Tensor) -> Tensor:
        """Model of the brightest galaxy, the first branch's, ``(n, bands, y, x)``."""
        return self._separate(image)[:, 0]

    def _separate(self, image: Tensor) -> Tensor:
        """Significant models of the two brightest galaxies, ``(n, 2, bands, y, x)``."""
        channels, maximum = self.scaling.apply(image)
        y, x = image.shape[2:]
        padding = (0, -x % self.downscale, 0, -y % self.downscale)
        pair = forward(self.network, nn.functional.pad(channels, padding))[..., :y, :x]
        pair = nn.functional.threshold(pair * maximum[:, None], PEELING.model_floor, 0.0)
        significance = pair.square().sum(dim=(2, 3, 4), keepdim=True).sqrt()
        return torch.where(significance > SOURCES.min_significance, pair, 0.0)


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
        path = weights or shipped_path("branched-zoo")
        network, card = load_weights(path, chosen)
        _check(path, network, card, "galaxy_zoo")
        return cls(network, chosen, card.sha256[:16])

    @torch.inference_mode()
    def __call__(self, blends: FloatArray) -> FloatArray:
        """Map ``(n, 3, 80, 80)`` in [0, 1] to ``(n, 2, 3, 80, 80)`` in [0, 1]."""
        parts = torch.split(torch.from_numpy(blends), ZOO_BATCH)
        pairs = [forward(self.network, part.to(self.device)).clamp(0, 1).cpu() for part in parts]
        return np.asarray(torch.cat(pairs).numpy())


def _quality(peeled: int, found: int, ended: bool) -> str:
    """Return the quality of a stamp with `found` sources, of which `peeled` models were peeled.

    ``high``: each galaxy came out of one branch once; ``medium``: some came more than once, or were
    found in the second pass alone; ``low``: there was no end; ``none``: nothing.
    """
    if found == 0:
        return "none"
    if not ended:
        return "low"
    return "high" if found == peeled else "medium"


def _check(path: str, network: nn.Module, card: Card, blends: str) -> None:
    if not isinstance(network, Branched) or card.training.get("blends") != blends:
        raise ConfigError(f"{path} is not a branched network for blends of {blends}")
