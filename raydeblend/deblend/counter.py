"""The counter on its own: how many galaxies are in each stamp (Wang et al. 2022, section II.C)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raydeblend.deblend.peeling.counting import count_galaxies
from raydeblend.networks.forward import choose_device
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import load_weights, shipped_path
from raydeblend.tile import FloatArray

BATCH = 256


@dataclass(frozen=True)
class GalaxyCounter:
    """The shipped counter.

    Attributes
    ----------
    bands
        That it knows, in the order of the channels.
    """

    network: nn.Module
    scaling: Scaling
    bands: tuple[str, ...]
    device: torch.device

    @classmethod
    def load(cls, name: str = "counter", device: str | None = None) -> GalaxyCounter:
        """Load the shipped weights called `name`.

        Raises
        ------
        ConfigError
            If there are none of that name.
        """
        chosen = choose_device(device)
        network, card = load_weights(shipped_path(name), chosen)
        return cls(network, card.scaling, card.bands, chosen)

    @torch.inference_mode()
    def __call__(self, images: FloatArray) -> NDArray[np.int64]:
        """Return 0, 1, 2 or 3 (or more) for each of ``(n, bands, y, x)`` in noise units."""
        counts = []
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH], dtype=np.float32))
            likely = count_galaxies(self.network, batch.to(self.device), self.scaling)
            counts.append(likely.argmax(dim=1).cpu().numpy())
        return np.concatenate(counts)
