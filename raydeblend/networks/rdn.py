"""The residual dense network that peels off the brightest galaxy (Wang et al. 2022, section II.B).

Zhang et al. 2018 (CVPR, "Residual dense network for image super-resolution") define the blocks;
the symbols F_-1, F_0, F_d, C, D, G_0 and G are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raydeblend.networks.context import PLANES


@dataclass(frozen=True)
class RdnConfig:
    """Size of the network.

    Attributes
    ----------
    in_channels, out_channels
        Channels of the input and of the model.
    context
        Whether the input holds the planes of `raydeblend.networks.context` (masks and PSF) behind
        the scaled image; the paper's network sees the image alone.
    blocks
        D, the number of residual dense blocks.
    layers
        C, the convolutions in each block.
    features
        G_0, the width of the trunk.
    growth
        G, the feature maps that each convolution adds.
    downscale
        1, the paper's full resolution, or 2: the trunk works on the pixel-unshuffled image and
        the sub-pixel convolution restores the resolution, at a quarter of the cost a layer.
    """

    in_channels: int = 3
    out_channels: int = 3
    blocks: int = 16
    layers: int = 8
    features: int = 64
    growth: int = 64
    downscale: int = 1
    context: bool = False


class ResidualDenseBlock(nn.Module):
    """Densely connected convolutions, local feature fusion and a local residual (Fig. 2)."""

    def __init__(self, features: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(features + c * growth, growth, 3, padding=1) for c in range(layers)
        )
        self.fusion = nn.Conv2d(features + layers * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, features, y, x)`` to the same shape."""
        maps = [x]
        for layer in self.layers:
            # The input of each layer is the preceding block's output and all maps so far.
            maps.append(torch.relu(layer(torch.cat(maps, dim=1))))
        fused: Tensor = self.fusion(torch.cat(maps, dim=1))
        return x + fused


class Rdn(nn.Module):
    """Noisy blend in, noiseless image of its brightest galaxy out, at the same size."""

    def __init__(self, config: RdnConfig) -> None:
        super().__init__()
        self.config = config
        r, width = config.downscale, config.features
        # Shallow feature extraction: two convolutions.
        self.unshuffle = nn.PixelUnshuffle(r)
        self.shallow_1 = nn.Conv2d(config.in_channels * r * r, width, 3, padding=1)
        self.shallow_2 = nn.Conv2d(width, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(width, config.growth, config.layers) for _ in range(config.blocks)
        )
        # Global feature fusion: 1x1 over all blocks' features, then 3x3 as in Zhang et al.
        self.fusion = nn.Sequential(
            nn.Conv2d(config.blocks * width, width, 1), nn.Conv2d(width, width, 3, padding=1)
        )
        # Up-sampling net: efficient sub-pixel convolution (ESPCN), then one convolution.
        self.upsample = nn.Sequential(
            nn.Conv2d(width, width * r * r, 3, padding=1), nn.PixelShuffle(r)
        )
        self.output = nn.Conv2d(width, config.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_channels, y, x)`` to ``(n, out_channels, y, x)``; y, x even."""
        first = self.shallow_1(self.unshuffle(x))
        features = self.shallow_2(first)
        maps = []
        for block in self.blocks:
            features = block(features)
            maps.append(features)
        # Global residual learning: add F_-1, the first convolution's features.
        features = self.fusion(torch.cat(maps, dim=1)) + first
        output: Tensor = self.output(self.upsample(features))
        return output


def widened(
    layers: Mapping[str, Tensor], earlier: Sequence[str], bands: Sequence[str], config: RdnConfig
) -> dict[str, Tensor]:
    """Return a network's layers as those of one of more bands and with context.

    It begins as what it was: weights of the other bands' pixels and of the context are zero, and
    another band's model is that of the nearest band that was known.

    Parameters
    ----------
    layers, earlier
        Of the earlier network by name, and its bands.
    bands, config
        Of the wider network; `earlier` is a part of `bands`.
    """
    slots = [bands.index(band) for band in earlier]
    first, side = layers["shallow_1.weight"], config.downscale**2
    planes = config.in_channels // len(bands)
    wide = first.new_zeros(len(first), planes, len(bands), side, *first.shape[2:])
    scaled = planes - PLANES
    wide[:, :scaled, slots] = first.reshape(
        len(first), scaled, len(earlier), side, *first.shape[2:]
    )
    nearest = [min(range(len(slots)), key=lambda k: abs(slots[k] - b)) for b in range(len(bands))]
    output = {name: layers[name][nearest] for name in ("output.weight", "output.bias")}
    return {**layers, "shallow_1.weight": wide.flatten(1, 3), **output}
