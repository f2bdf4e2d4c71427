"""How pixels become a network's input and its output becomes pixels again.

A network sees images in units of each band's noise, so that any linear unit will do.  The scaling
is part of the weights' card, never of the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ScalingKind = Literal["maximum", "maximum+asinh", "asinh"]


@dataclass(frozen=True)
class Scaling:
    """The channels that a network takes.

    Attributes
    ----------
    kind
        ``maximum``: the image over its brightest pixel (Wang et al. 2022, section II.D).
        ``asinh``: arcsinh of the image in noise units, over `softening`.
        ``maximum+asinh``: both, the second set of channels after the first; faint neighbors
        of a bright galaxy vanish in the first and stand out in the second.
    softening
        Divisor of the arcsinh channels.
    """

    kind: ScalingKind = "maximum"
    softening: float = 5.0

    def channels(self, bands: int) -> int:
        """Return the number of input channels for `bands` bands."""
        return 2 * bands if self.kind == "maximum+asinh" else bands

    def apply(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scale a batch.

        Parameters
        ----------
        image
            ``(n, bands, y, x)`` in units of each band's noise.

        Returns
        -------
        channels, maximum
            ``(n, channels, y, x)`` and ``(n, 1, 1, 1)``: a model in the network's output unit
            times `maximum` is in noise units.
        """
        # The maximum of a source-free stamp is its noise peak; below 1 nothing is to be seen.
        maximum = image.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1.0)
        linear = image / maximum
        if self.kind == "maximum":
            return linear, maximum
        stretched = torch.asinh(image) / self.softening
        if self.kind == "asinh":
            return stretched, maximum
        return torch.cat([linear, stretched], dim=1), maximum

    def invert(self, channels: Tensor) -> Tensor:
        """Return the image in noise units whose ``asinh`` channels these are.

        A network that ends in tanh reaches sinh(softening) and nothing brighter.
        """
        if self.kind != "asinh":
            raise ValueError(f"channels of the kind {self.kind} have lost the image's unit")
        return torch.sinh(channels * self.softening)
