"""The counter: how many galaxies are in a stamp of any size (Wang et al. 2022, section II.C)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.networks.forward import choose_device, forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import load_weights, weights_path
from raydeblend.tile import FloatArray

BATCH = 256
MIN_SIDE = 48
"""Smaller stamps get sky about them.  The counter learnt on 64 pixels; below 40 nothing is left of
the image after its five halvings, and it sees one galaxy in everything, empty sky too."""


@dataclass(frozen=True)
class GalaxyCounter:
    """A trained counter.

    Attributes
    ----------
    bands
        That it knows, in the order of the channels.
    weights_hash
        First digits of the weights' SHA-256.
    """

    network: nn.Module
    scaling: Scaling
    bands: tuple[str, ...]
    device: torch.device
    weights_hash: str = ""

    @classmethod
    def load(cls, weights: str = "counter", device: str | None = None) -> GalaxyCounter:
        """Load weights by a shipped name or a file's path.

        Raises
        ------
        ConfigError
            If they are missing or damaged.
        """
        chosen = choose_device(device)
        network, card = load_weights(weights_path(weights), chosen)
        return cls(network, card.scaling, card.bands, chosen, card.sha256[:16])

    @torch.inference_mode()
    def __call__(self, images: FloatArray) -> NDArray[np.int64]:
        """Return 0, 1, 2 or 3 (or more) for each of ``(n, bands, y, x)`` in noise units."""
        counts = []
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH], dtype=np.float32))
            likely = self.probabilities(batch.to(self.device))
            counts.append(likely.argmax(dim=1).cpu().numpy())
        return np.concatenate(counts)

    def probabilities(self, image: Tensor) -> Tensor:
        """Return the probabilities ``(n, 4)`` of 0, 1, 2 and 3 or more galaxies.

        `image` is ``(n, bands, y, x)`` in noise units.
        """
        channels, _ = self.scaling.apply(_with_sky(image))
        return torch.softmax(forward(self.network, channels), dim=1)


def _with_sky(image: Tensor) -> Tensor:
    """Pad with zeros, the mean of the sky, to `MIN_SIDE` pixels a side."""
    pads = []
    for side in (image.shape[3], image.shape[2]):
        missing = max(0, MIN_SIDE - side)
        pads += [missing // 2, missing - missing // 2]
    return nn.functional.pad(image, pads)
