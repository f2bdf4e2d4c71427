"""What the counter says of stamps of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling

MIN_COUNTED = 48
"""Smaller stamps get sky about them.  The counter learnt on 64 pixels; below 40 nothing is left of
the image after its five halvings, and it sees one galaxy in everything, empty sky too."""


def count_galaxies(counter: nn.Module, image: Tensor, scaling: Scaling) -> Tensor:
    """Return the probabilities ``(n, 4)`` of 0, 1, 2 and 3 or more galaxies.

    `image` is ``(n, bands, y, x)`` in noise units.
    """
    channels, _ = scaling.apply(_with_sky(image))
    return torch.softmax(forward(counter, channels), dim=1)


def _with_sky(image: Tensor) -> Tensor:
    """Pad with zeros, the mean of the sky, to `MIN_COUNTED` pixels a side."""
    pads = []
    for side in (image.shape[3], image.shape[2]):
        missing = max(0, MIN_COUNTED - side)
        pads += [missing // 2, missing - missing // 2]
    return nn.functional.pad(image, pads)
