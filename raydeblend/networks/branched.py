"""The branched network of Reiman & Göhre (2019, section 2.1) and its discriminator.

One root of M residual blocks, then two branches of N, one for each galaxy.  It modifies SRGAN
(Ledig et al. 2016, arXiv:1609.04802, figure 4); where the paper is silent, SRGAN is followed: the
width of 64, the 9x9 convolutions at both ends, PReLU after the first, the skip connection around
each chain of blocks, tanh at the end, and the widths of the discriminator.  The paper's input and
output have one size and it describes no up-sampling, so `paper` has none; with `downscale` the
trunk is coarser than the image and SRGAN's sub-pixel convolution restores it, and `refine` blocks
then see the image itself again: in a maximum each pixel is one galaxy's or the other's, which a
coarse grid does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

BRANCHES = 2
GROWTH_LIMIT = 8
"""The discriminator's last layers are at most this many times as wide as its first (SRGAN)."""

Head = Literal["tanh", "gate", "linear"]


@dataclass(frozen=True)
class BranchedConfig:
    """Size of the network.

    Attributes
    ----------
    in_channels, out_channels
        Channels of the scaled input and of each galaxy's image; the first `out_channels` of the
        input are the image itself.
    root, branch
        M and N, the residual blocks before and after the branching.
    features
        Width of the trunk.
    ends
        Kernel of the first and of the last convolution.
    norm
        Batch normalization, as in the paper.  Without it the second convolution of each block
        starts at zero instead, which trains as well and does not depend on the batch.
    downscale
        1, the paper's full resolution, or the factor by which the trunk is coarser.
    fine
        Width after the up-sampling.
    stretch
        The network also sees arcsinh of its input over this, in which a dark sky has texture; 0,
        the paper's, leaves that out.
    stem
        Width of a first convolution at full resolution; 0 if the trunk begins with the image.
    refine
        Residual blocks of each branch after the up-sampling, at full resolution; 0 in the paper.
    head
        ``tanh``: the paper's, in [-1, 1].  ``gate``: each branch passes a fraction of each pixel
        of the input and adds a correction, so that it starts from half of the input and not from
        the black image at which the paper's training could get stuck (section 4).  ``linear``:
        no bounds, for survey images, whose sky is zero.
    """

    in_channels: int = 3
    out_channels: int = 3
    root: int = 10
    branch: int = 6
    features: int = 64
    ends: int = 9
    norm: bool = True
    downscale: int = 1
    fine: int = 64
    stretch: float = 0.0
    stem: int = 0
    refine: int = 0
    head: Head = "tanh"


class ResidualBlock(nn.Module):
    """Convolution, norm, PReLU, convolution, norm, and the sum with the input (section 2.1)."""

    def __init__(self, features: int, norm: bool) -> None:
        super().__init__()
        last = _convolution(features, features, 3, norm)
        if not norm:
            nn.init.zeros_(last[0].weight)  # type: ignore[arg-type]
        self.body = nn.Sequential(
            *_convolution(features, features, 3, norm), nn.PReLU(features), *last
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, features, y, x)`` to the same shape."""
        changed: Tensor = self.body(x)
        return x + changed


class ResidualChain(nn.Module):
    """Blocks, one more convolution, and a skip connection around all of them (SRGAN)."""

    def __init__(self, blocks: int, features: int, norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(ResidualBlock(features, norm) for _ in range(blocks)),
            *_convolution(features, features, 3, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, features, y, x)`` to the same shape."""
        changed: Tensor = self.body(x)
        return x + changed


class RefiningBlock(nn.Module):
    """A residual block at full resolution that sees the input image as well as its features."""

    def __init__(self, features: int, image_channels: int) -> None:
        super().__init__()
        wide = 2 * features
        (last,) = _convolution(wide, features, 3, norm=False)
        # As in a residual block without norm: it starts as the identity.
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.body = nn.Sequential(
            *_convolution(features + image_channels, wide, 3, norm=False), nn.PReLU(wide), last
        )

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map ``(n, features, y, x)`` and ``(n, image_channels, y, x)`` to the former's shape."""
        changed: Tensor = self.body(torch.cat([x, image.to(x.dtype)], dim=1))
        return x + changed


class Branch(nn.Module):
    """From the root's features to the channels of one galaxy's image."""

    def __init__(self, config: BranchedConfig) -> None:
        super().__init__()
        r, width = config.downscale, config.features
        channels = config.out_channels * (2 if config.head == "gate" else 1)
        self.chain = ResidualChain(config.branch, width, config.norm)
        self.upsample = nn.Identity() if r == 1 else _subpixel(width, config.fine, r)
        fine = width if r == 1 else config.fine
        self.refine = nn.ModuleList(
            RefiningBlock(fine, _seen_channels(config)) for _ in range(config.refine)
        )
        self.output = nn.Conv2d(fine, channels, config.ends, padding=config.ends // 2)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map ``(n, features, y / r, x / r)`` and the input to ``(n, channels, y, x)``."""
        features: Tensor = self.upsample(self.chain(x))
        for block in self.refine:
            features = block(features, image)
        channels: Tensor = self.output(features)
        return channels


class Branched(nn.Module):
    """Blend in; the central (brightest) galaxy and the other out, in the input's unit."""

    def __init__(self, config: BranchedConfig) -> None:
        super().__init__()
        self.config = config
        r, width = config.downscale, config.features
        self.stem = _stem(_seen_channels(config), config.stem) if config.stem else nn.Identity()
        channels = config.stem or _seen_channels(config)
        self.first = nn.Sequential(
            nn.PixelUnshuffle(r),
            nn.Conv2d(channels * r * r, width, config.ends, padding=config.ends // 2),
            nn.PReLU(width),
        )
        self.root = ResidualChain(config.root, width, config.norm)
        self.branches = nn.ModuleList(Branch(config) for _ in range(BRANCHES))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_channels, y, x)`` to ``(n, 2, out_channels, y, x)``.

        Sides must be multiples of `downscale`.
        """
        image, stretch = x[:, : self.config.out_channels], self.config.stretch
        if stretch:
            x = torch.cat([x, torch.asinh(x / stretch)], dim=1)
        features = self.root(self.first(self.stem(x)))
        galaxies = [self._finish(branch(features, x), image) for branch in self.branches]
        return torch.stack(galaxies, dim=1)

    def _finish(self, channels: Tensor, image: Tensor) -> Tensor:
        # In float32: eight bits of a gate near one would be seen in the bright pixels.
        channels = channels.float()
        if self.config.head == "linear":
            return channels
        if self.config.head == "tanh":
            return (torch.tanh(channels) + 1) / 2
        gate, correction = channels.chunk(2, dim=1)
        return torch.sigmoid(gate) * image + correction


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size of the discriminator.

    Attributes
    ----------
    in_channels
        Bands of an image.
    features
        Width of the first convolution; it doubles with each coarser grid, to 8 times.
    blocks
        Convolutions; the strides alternate, 2 and 1.
    pooled
        Side of the grid that the last one is averaged to: 5, what four strides leave of 80.
    hidden
        Width of the fully connected layer.
    """

    in_channels: int = 3
    features: int = 64
    blocks: int = 8
    pooled: int = 5
    hidden: int = 1024


class Discriminator(nn.Module):
    """Tells real galaxies from deblended ones (Fig. 2); leaky ReLU with slope 0.2."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = config.in_channels
        for block in range(config.blocks):
            width = config.features * min(2 ** (block // 2), GROWTH_LIMIT)
            # No normalization of the image itself, as in SRGAN.
            layers += _convolution(channels, width, 3, norm=block > 0, stride=2 - block % 2)
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(config.pooled),
            nn.Flatten(),
            nn.Linear(channels * config.pooled**2, config.hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(config.hidden, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_channels, y, x)`` to the logits ``(n,)``, positive for real."""
        logits: Tensor = self.classifier(self.convolutions(x))
        return logits[:, 0]


def _convolution(
    channels: int, width: int, kernel: int, norm: bool, stride: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=not norm)
    return [convolution, nn.BatchNorm2d(width)] if norm else [convolution]


def _seen_channels(config: BranchedConfig) -> int:
    """Channels of the input with the stretched ones."""
    return config.in_channels * (2 if config.stretch else 1)


def _stem(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.PReLU(width))


def _subpixel(features: int, fine: int, factor: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(features, fine * factor**2, 3, padding=1),
        nn.PixelShuffle(factor),
        nn.PReLU(fine),
    )
