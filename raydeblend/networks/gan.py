"""The GAN that draws galaxies from noise (Hemmati et al. 2022, section 3 and Fig. 1, panel 2).

The paper names the layers: transposed convolutions, batch normalization and ReLU, tanh at the
end of the generator; convolutions, batch normalization and leaky ReLU, a sigmoid at the end of
the discriminator; "similar to those suggested by Radford et al. (2016)".  It prints no sizes:
kernels of 4, strides of 2, widths, slope and initial weights here are those of Radford et al.
(DCGAN, arXiv:1511.06434).  `GanConfig.spread` is neither's, and off in the paper's preset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

COARSEST = 4
"""Side in pixels of the first maps of the generator, and of the last of the discriminator."""
GROUP = 8
"""Images whose spread is measured together."""
SLOPE = 0.2
WEIGHT_SIGMA = 0.02


@dataclass(frozen=True)
class GanConfig:
    """Size of generator and discriminator.

    Attributes
    ----------
    channels
        Bands of the images.
    noise
        Length of the noise vector.
    size
        Side of the images, 4 times a power of 2.
    features
        Maps of the finest layer; each coarser one has twice as many.
    spread
        Whether the discriminator's last layer also gets the standard deviation among images of
        a batch (Karras et al. 2018, section 3), in which samples that are too alike show.
    """

    channels: int = 1
    noise: int = 100
    size: int = 64
    features: int = 64
    spread: bool = False

    @property
    def doublings(self) -> int:
        """Strided layers between `COARSEST` and `size`."""
        return (self.size // COARSEST).bit_length() - 1


class Generator(nn.Module):
    """Noise vector in, image in -1..1 out."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.features * 2 ** (config.doublings - 1)
        layers = _grow(config.noise, width, stride=1, padding=0)
        for _ in range(config.doublings - 1):
            layers += _grow(width, width // 2, stride=2, padding=1)
            width //= 2
        layers += [nn.ConvTranspose2d(width, config.channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, noise: Tensor) -> Tensor:
        """Map ``(n, noise)`` to ``(n, channels, size, size)`` in -1..1."""
        image: Tensor = self.layers(noise[:, :, None, None])
        return image


@torch.no_grad()
def sample(network: nn.Module, n: int, seed: int, device: torch.device) -> Tensor:
    """Return `n` images of a generator as it leaves them, ``(n, channels, y, x)`` in -1..1.

    ``Scaling.invert`` makes sky sigmas of them, and `SKY_SIGMA` nJy.
    """
    draw = torch.Generator(device).manual_seed(seed)
    network.eval()
    noise = torch.randn((n, network.config.noise), generator=draw, device=device)  # type: ignore[arg-type,union-attr]
    images: Tensor = network(noise)
    network.train()
    return images


class Discriminator(nn.Module):
    """Image in, logit of being real out; the sigmoid is part of the loss, where it is stable."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.features
        # The first layer has no batch normalization (Radford et al., section 3).
        layers: list[nn.Module] = [
            nn.Conv2d(config.channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
        for _ in range(config.doublings - 1):
            layers += _shrink(width, 2 * width)
            width *= 2
        if config.spread:
            layers.append(Spread())
            width += 1
        layers.append(nn.Conv2d(width, 1, COARSEST))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(n, channels, size, size)`` to logits ``(n,)``."""
        logit: Tensor = self.layers(image)
        return logit.flatten()


class Spread(nn.Module):
    """Add a map: the mean standard deviation among each `GROUP` images that follow each other."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``(n, c, y, x)`` to ``(n, c + 1, y, x)``."""
        return torch.cat([_with_spread(group) for group in torch.split(maps, GROUP)])


def _with_spread(maps: Tensor) -> Tensor:
    # A root has no gradient at 0.
    spread = (maps.float().var(dim=0, correction=0) + 1e-8).sqrt().mean()
    return torch.cat([maps, spread.to(maps.dtype).expand_as(maps[:, :1])], dim=1)


def _grow(channels: int, width: int, stride: int, padding: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(channels, width, 4, stride, padding, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


def _shrink(channels: int, width: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(SLOPE, inplace=True),
    ]


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, WEIGHT_SIGMA)
    if isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, WEIGHT_SIGMA)
