"""Training images of the GAN: single galaxies, drawn at random, each time under another sky."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydeblend.simulate.sky_stamps import SkyStamps


@dataclass(frozen=True)
class GalaxyImages:
    """Galaxies on the device.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` in sky sigmas, float16.
    missing_noise
        ``(n, 1, 1, 1)`` sigma of the noise that an image lacks to 1 sky sigma.
    """

    images: Tensor
    missing_noise: Tensor

    @classmethod
    def of(cls, stamps: SkyStamps, device: torch.device) -> GalaxyImages:
        """Move stamps to the device."""
        missing = torch.from_numpy(stamps.missing_noise)[:, None, None, None]
        return cls(torch.from_numpy(stamps.images).to(device), missing.to(device))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw `n` images ``(n, bands, y, x)`` under the sky, flipped and transposed at random."""
        device = self.images.device
        rows = torch.randint(len(self.images), (n,), generator=generator, device=device)
        return turn(self.take(rows).under_sky(generator), generator)

    def take(self, rows: Tensor) -> GalaxyImages:
        """Return the chosen images."""
        return GalaxyImages(self.images[rows], self.missing_noise[rows])

    def under_sky(self, generator: torch.Generator) -> Tensor:
        """Return all images with noise of 1 sky sigma, float32."""
        noise = torch.randn(self.images.shape, generator=generator, device=self.images.device)
        return self.images.float() + self.missing_noise * noise


def turn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip and transpose each image ``(n, bands, y, x)`` at random."""
    shape = (3, len(images), 1, 1, 1)
    turned = torch.rand(shape, generator=generator, device=images.device) < 0.5
    images = torch.where(turned[0], images.flip(-1), images)
    images = torch.where(turned[1], images.flip(-2), images)
    return torch.where(turned[2], images.transpose(-1, -2), images)
