"""Super-resolution with its uncertainty: samples of what HST may see, given HSC's image.

Conditional flow matching (Lipman et al. 2023) on straight paths (rectified flow, Liu et al. 2023),
for the images of Hemmati et al. 2022, whose outlook asks for it.  A path leads from noise
``x_0 ~ N(0, 1)`` to an image ``x_1`` of the training set, ``x_t = (1 - t) x_0 + t x_1``; a network
learns the mean of its velocity ``x_1 - x_0`` given ``x_t``, ``t`` and the condition.  Following
that velocity from new noise at t = 0 to t = 1 gives a sample of the images that the condition
leaves possible.

The condition is the low-resolution image and what the super-resolution GAN makes of it, whose
weights are frozen.  ``x_1`` is what that image lacks, in units of how much it usually lacks
(`SrflowConfig.spread`), so that the flow has only the posterior around it to learn.  The network
is a U-Net (Ronneberger et al. 2015) on the coarse pixels, of which the nine fine ones are
channels.  It has no norm, so that what it does in a place does not depend on how large a stamp is.

Samples are too much alike: few steps along a path fall short of its end, and what a short training
by a mean squared loss has not learned to tell apart, it averages.  They are therefore moved away
from their mean, by a factor that is measured on galaxies kept for validation
(`SrflowConfig.inflation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from raydeblend.instruments import FACTOR
from raydeblend.networks.forward import forward
from raydeblend.networks.srgan import HIGHEST, Srgan, SrganConfig

SLOWEST = 1e-3
"""Lowest frequency of the time's embedding as a fraction of the highest."""
HIGHEST_FREQUENCY = 100.0
"""Radians over the whole path."""


@dataclass(frozen=True)
class SrflowConfig:
    """Size of the network.

    Attributes
    ----------
    bands
        In and out, as of the generator.
    widths
        Channels at each scale of the U-Net, each half as fine as the one before.
    embedding
        Numbers that stand for the time.
    spread
        Unit of what the generator's image lacks, stretched: its root mean square is 0.02 to 0.05
        in pixels of any brightness.
    inflation
        Factor by which samples are moved away from their mean; 1 while training, whose end
        measures it (`raydeblend.train.srflow_scores`).
    generator
        Size of the super-resolution GAN's generator.
    """

    bands: int = 1
    widths: tuple[int, ...] = (48, 64, 96)
    embedding: int = 64
    spread: float = 0.03
    inflation: float = 1.0
    generator: SrganConfig = field(default_factory=SrganConfig)

    def __post_init__(self) -> None:
        if isinstance(self.generator, Mapping):  # As read from a card.
            object.__setattr__(self, "generator", SrganConfig(**self.generator))


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes
    ----------
    samples
        Of each image.
    steps
        Of Heun's method to each, of which the last is Euler's.  Samples of more steps differ more,
        and need less inflation than that of a card, which is of these defaults.
    seed
        Of the noise, which is the same for all stamps of one shape: an image's samples do not
        depend on what else is sampled.
    """

    samples: int = 16
    steps: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Condition:
    """What is known of n images.

    Attributes
    ----------
    generated
        ``(n, bands, 3 y, 3 x)`` the generator's image, stretched.
    channels
        ``(n, c, y, x)``: the low-resolution image, and all that the generator gives for it.
    """

    generated: Tensor
    channels: Tensor


class Block(nn.Module):
    """Two convolutions and their input; the time adds to what is between them."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.time = nn.Linear(embedding, width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map ``(n, width, y, x)`` to the same shape; `time` is ``(n, embedding)``."""
        inside = self.first(F.silu(x)) + self.time(time)[:, :, None, None]
        difference: Tensor = self.second(F.silu(inside))
        return x + difference


class Srflow(nn.Module):
    """The velocity of the flow, and the generator around whose image it is."""

    def __init__(self, config: SrflowConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Srgan(config.generator).requires_grad_(False).eval()
        maps = config.bands + (1 if config.generator.sources else 0)
        channels = config.bands + FACTOR**2 * (config.bands + maps)
        widths, embedding = config.widths, config.embedding
        self.clock = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        self.head = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Block(width, embedding) for width in widths)
        self.shrink = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairwise(widths)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(Block(width, embedding) for width in widths)
        self.output = nn.Conv2d(widths[0], FACTOR**2 * config.bands, 3, padding=1)

    def train(self, mode: bool = True) -> Self:
        """Put all but the frozen generator into training mode."""
        super().train(mode)
        self.generator.eval()
        return self

    @torch.no_grad()
    def condition(self, low: Tensor) -> Condition:
        """Return the condition of ``(n, bands, y, x)`` stretched images."""
        output = forward(self.generator, low)
        bands = self.config.bands
        maps = torch.cat([output[:, :bands], torch.sigmoid(output[:, bands:])], dim=1)
        return Condition(maps[:, :bands], torch.cat([low, F.pixel_unshuffle(maps, FACTOR)], dim=1))

    def forward(self, state: Tensor, time: Tensor, channels: Tensor) -> Tensor:
        """Return the velocity, in the shape of `state`.

        Parameters
        ----------
        state
            ``(n, bands, 3 y, 3 x)`` places on the paths.
        time
            ``(n,)`` from 0 (noise) to 1 (image).
        channels
            Of the condition.
        """
        clock = self.clock(embedded(time, self.config.embedding))
        x = self.head(_padded(torch.cat([F.pixel_unshuffle(state, FACTOR), channels], dim=1),
                              2 ** len(self.shrink)))  # fmt: skip
        passed = []
        for block, shrink in zip(self.down, [*self.shrink, nn.Identity()], strict=True):
            x = block(x, clock)
            passed.append(x)
            x = shrink(x)
        x = self.up[-1](x, clock)
        for level in reversed(range(len(self.grow))):
            x = self.up[level](self.grow[level](x) + passed[level], clock)
        # The last layer in full precision, as the generator's.
        with torch.autocast(state.device.type, enabled=False):
            velocity = F.pixel_shuffle(self.output(F.silu(x.float())), FACTOR)
        return velocity[:, :, : state.shape[2], : state.shape[3]]

    @torch.no_grad()
    def samples(self, condition: Condition, sampling: Sampling) -> Tensor:
        """Return samples ``(k, n, bands, 3 y, 3 x)`` of n images, stretched.

        One alone is not moved from the mean, which it is.
        """
        shape, device = condition.generated.shape, condition.generated.device
        random = torch.Generator().manual_seed(sampling.seed)
        noise = torch.randn((sampling.samples, *shape[1:]), generator=random).to(device)
        images = torch.stack(
            [self.sample(condition, own.expand(shape), sampling.steps) for own in noise]
        )
        mean = images.mean(dim=0)
        return (mean + self.config.inflation * (images - mean)).clamp(-HIGHEST, HIGHEST)

    @torch.no_grad()
    def sample(self, condition: Condition, noise: Tensor, steps: int) -> Tensor:
        """Return the images ``(n, bands, 3 y, 3 x)``, stretched, to which `noise` leads.

        `noise` has the same shape.  Heun's method takes the mean of two velocities for a step; the
        last step takes one, so that none is asked for at t = 1.
        """
        state, length = noise, 1 / steps
        for step in range(steps):
            slope = self._velocity(state, step * length, condition)
            if step + 1 < steps:
                ahead = self._velocity(state + length * slope, (step + 1) * length, condition)
                slope = (slope + ahead) / 2
            state = state + length * slope
        return condition.generated + self.config.spread * state

    def _velocity(self, state: Tensor, time: float, condition: Condition) -> Tensor:
        times = torch.full((len(state),), time, device=state.device)
        return forward(self, state, times, condition.channels)


def target(network: Srflow, condition: Condition, image: Tensor) -> Tensor:
    """Return the ends ``x_1`` of the paths that lead to stretched images."""
    return (image - condition.generated) / network.config.spread


def half_width(samples: int, level: float) -> float:
    """Return the half-width of the central interval of that many samples, in standard deviations.

    About their mean, with their unbiased standard deviation: a further Gaussian sample is within
    it with probability `level` (Student's prediction interval).
    """
    return float(stats.t.ppf((1 + level) / 2, samples - 1)) * math.sqrt(1 + 1 / samples)


def embedded(time: Tensor, size: int) -> Tensor:
    """Return ``(n, size)`` sines and cosines of times ``(n,)`` (Vaswani et al. 2017)."""
    powers = torch.linspace(math.log(SLOWEST), 0, size // 2, device=time.device)
    angles = time[:, None] * HIGHEST_FREQUENCY * powers.exp()
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _padded(x: Tensor, multiple: int) -> Tensor:
    """Return ``(n, c, y, x)`` with zeros below and on the right, to multiples of a size."""
    return F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple))
