"""The super-resolution GAN (Hemmati et al. 2022, section 3 and Fig. 1): HSC pixels in, HST's out.

The text fixes: convolutions and transposed convolutions, batch normalization and ReLU in the
generator with tanh last; convolutions, leaky ReLU and a sigmoid last in the discriminator, which
sees the low-resolution image with the high-resolution one; arcsinh of the fluxes; 64×64 pixels
of 0.06" out of pixels of 0.18".  It does not print channels, depths or kernels.  Chosen here:
residual blocks on the coarse grid (the generator of Ledig et al. 2017, SRGAN), one transposed
convolution of kernel 9 and stride 3, a few convolutions on the fine grid, and DCGAN's
discriminator (Radford et al. 2016).  The generator is fully convolutional: ``(y, x)`` pixels
become ``(3 y, 3 x)``, 22×22 become 66×66, of which the middle 64×64 are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.instruments import FACTOR

UPSAMPLE_KERNEL = 9
HIGHEST = 0.995
"""Of the tanh: a target that it can reach."""
EMPTY = -4.0
"""First logit of the map of sources: most pixels have none."""
SOURCE_SIGMA = 1.5
"""Fine pixels: width of a source in the map of sources."""


@dataclass(frozen=True)
class SrganConfig:
    """Size of the generator.

    Attributes
    ----------
    bands
        1, or 7 for the multi-band network; in and out.
    features
        Width on the coarse grid.
    blocks
        Residual blocks of two convolutions on the coarse grid.
    fine_features, fine_layers
        Width and number of the convolutions on the fine grid.
    norm
        Batch normalization, as in the paper.
    skip
        Add the bilinearly enlarged input before the tanh, so that the network learns the
        difference that resolution makes.
    sources
        Give one channel more, the last: logits of the map of sources, see `source_target`.
    """

    bands: int = 1
    features: int = 128
    blocks: int = 8
    fine_features: int = 64
    fine_layers: int = 2
    norm: bool = True
    skip: bool = False
    sources: bool = False


@dataclass(frozen=True)
class CriticConfig:
    """Size of the discriminator: `features` after the first convolution, twice as many a layer."""

    bands: int = 1
    features: int = 64
    layers: int = 4
    norm: bool = True


class ResidualBlock(nn.Module):
    """Two convolutions and their input."""

    def __init__(self, features: int, norm: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(features, features, norm), *_convolution(features, features, norm)[:-1]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, features, y, x)`` to the same shape."""
        difference: Tensor = self.layers(x)
        return x + difference


class Srgan(nn.Module):
    """The generator."""

    def __init__(self, config: SrganConfig) -> None:
        super().__init__()
        self.config = config
        width, fine = config.features, config.fine_features
        self.head = nn.Sequential(nn.Conv2d(config.bands, width, 5, padding=2), nn.ReLU())
        self.blocks = nn.Sequential(
            *(ResidualBlock(width, config.norm) for _ in range(config.blocks))
        )
        self.upsample = nn.ConvTranspose2d(
            width, fine, UPSAMPLE_KERNEL, stride=FACTOR, padding=(UPSAMPLE_KERNEL - FACTOR) // 2
        )
        self.fine = nn.Sequential(
            *_after(fine, config.norm),
            *(
                layer
                for _ in range(config.fine_layers)
                for layer in _convolution(fine, fine, config.norm)
            ),
        )
        self.output = nn.Conv2d(fine, config.bands, 3, padding=1)
        if config.sources:
            self.sources = _source_head(fine)

    def forward(self, low: Tensor) -> Tensor:
        """Map ``(n, bands, y, x)`` to ``(n, bands, 3 y, 3 x)``, both stretched (`stretch`).

        With `sources` a channel of logits follows.
        """
        first = self.head(low)
        fine = self.fine(self.upsample(first + self.blocks(first)))
        # The last layer in full precision: half of it would make steps, and peaks, of its own.
        with torch.autocast(low.device.type, enabled=False):
            image = self.output(fine.float())
            if self.config.skip:
                image = image + enlarge(low.float())
            image = torch.tanh(image)
        if not self.config.sources:
            return image
        logits = self.sources(fine)
        return torch.cat([image, logits.float()], dim=1)


class Critic(nn.Module):
    """The discriminator of pairs; its output is the logit of "real", the sigmoid's argument."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        widths = [config.features * 2**k for k in range(config.layers)]
        layers: list[nn.Module] = [
            nn.Conv2d(2 * config.bands, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for before, after in pairwise(widths):
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not config.norm))
            if config.norm:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers)
        self.output = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, pair: Tensor) -> Tensor:
        """Map `pair_channels` ``(n, 2 bands, y, x)`` to logits ``(n,)``, the mean over patches."""
        logits: Tensor = self.output(self.layers(pair))
        return logits.mean(dim=(1, 2, 3))


def pair_channels(low: Tensor, high: Tensor) -> Tensor:
    """Return ``(n, 2 bands, y, x)``: the enlarged low-resolution image and the other one."""
    return torch.cat([enlarge(low), high], dim=1)


def enlarge(low: Tensor) -> Tensor:
    """Return ``(n, bands, 3 y, 3 x)`` by bilinear interpolation, centers kept."""
    return F.interpolate(low, scale_factor=FACTOR, mode="bilinear", align_corners=False)


def stretch(high: Tensor, softening: float) -> Tensor:
    """Return the network's unit of a fine image ``(n, bands, 3 y, 3 x)``.

    `high` is in sky sigmas of the coarse pixels.  Nine fine pixels make one coarse one, so that
    with this factor equal surface brightness is equal; arcsinh and divisor are the input's.
    """
    return (torch.asinh(high * FACTOR**2) / softening).clamp(-HIGHEST, HIGHEST)


def stretched(high: NDArray[np.floating], softening: float) -> NDArray[np.floating]:
    """Return the same of an array of any shape."""
    return np.asarray(stretch(torch.from_numpy(np.asarray(high)), softening).numpy())


def unstretch(image: Tensor, softening: float) -> Tensor:
    """Return the fine image in sky sigmas of the coarse pixels: the inverse of `stretch`."""
    return torch.sinh(image * softening) / FACTOR**2


def _source_head(features: int) -> nn.Sequential:
    last = nn.Conv2d(features, 1, 3, padding=1)
    nn.init.constant_(last.bias, EMPTY)  # type: ignore[arg-type]
    return nn.Sequential(nn.Conv2d(features, features, 3, padding=1), nn.ReLU(), last)


def source_target(xy: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the map of sources ``(n, 1, y, x)``: a Gaussian of height 1 at each, the higher wins.

    What a network that minimizes cross entropy gives for it is its mean over what the sky may
    be: where a source may be in several places, or may not be at all, it is lower.  This is the
    key-point map of CenterNet (Zhou et al. 2019, section 3).

    Parameters
    ----------
    xy
        ``(n, k, 2)`` positions (x, y) in fine pixels; NaN where there is none.
    shape
        (y, x) in fine pixels.
    """
    y = torch.arange(shape[0], device=xy.device)[:, None] - xy[..., 1, None, None]
    x = torch.arange(shape[1], device=xy.device)[None, :] - xy[..., 0, None, None]
    bumps = torch.exp(-(x**2 + y**2) / (2 * SOURCE_SIGMA**2))
    return bumps.nan_to_num(0.0).amax(dim=1, keepdim=True)


def widened(layers: Mapping[str, Tensor], bands: int, reference: int) -> dict[str, Tensor]:
    """Return the layers of a generator of one band for one of `bands`.

    It looks at the band number `reference` alone, and does to each what it did to its own.
    """
    one = layers["head.0.weight"]
    first = one.new_zeros(len(one), bands, *one.shape[2:])
    first[:, reference] = one[:, 0]
    last = {name: layers[name] for name in ("output.weight", "output.bias")}
    repeated = {name: torch.cat([values] * bands) for name, values in last.items()}
    return {**layers, "head.0.weight": first, **repeated}


def _convolution(channels: int, features: int, norm: bool) -> list[nn.Module]:
    layer = nn.Conv2d(channels, features, 3, padding=1, bias=not norm)
    return [layer, *_after(features, norm)]


def _after(features: int, norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(features), nn.ReLU()] if norm else [nn.ReLU()]
