"""The variational autoencoder of Nemani et al. 2023, after Arcelin et al. 2021.

Nemani et al. print neither layers nor the size of the latent space.  The `paper` size is that of
the code published with Arcelin et al. 2021 (debvader): four stages of two convolutions, the
second of stride 2, with 32, 64, 128 and 256 maps and PReLU, 32 latent variables, and the mirror
image as decoder.  Ours, and not in either paper: the decoder gives the flux of each band and the
shape of the galaxy, which sums to 1, on two paths, and ln(flux) is linear in the latent
variables, so that its posterior is Gaussian where theirs is; optional aperture fluxes beside the
convolutions, through which the encoder sees a galaxy's flux exactly.

Images are in units of each band's noise.  The encoder sees their arcsinh, which `Scaling` of the
card describes; the decoder gives noise units again, so that nothing is left to invert.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_SIGMA_RANGE = (-7.0, 3.0)
"""Of the posterior's standard deviations; the prior's is 0."""
LOG_FLUX_CENTER, LOG_FLUX_SPREAD = 7.0, 2.0
"""Where ln(flux in noise units) starts for z = 0, and its change for one unit of z."""


@dataclass(frozen=True)
class VaeConfig:
    """Size of the network.

    Attributes
    ----------
    bands
        Of the images.
    stamp
        Side of the images in pixels, a multiple of ``downscale * 2**len(filters)``.
    filters
        Maps of each stage.
    latent
        Latent variables.
    hidden
        Width of the decoder's first layer; 560 in debvader.
    downscale
        1, or 2: the convolutions see the pixel-unshuffled image, at a quarter of the cost.
    apertures
        Widths (pixels, sigma) of Gaussian apertures whose fluxes the encoder is given.
    """

    bands: int = 1
    stamp: int = 64
    filters: tuple[int, ...] = (32, 64, 128, 256)
    latent: int = 32
    hidden: int = 560
    downscale: int = 1
    apertures: tuple[float, ...] = ()

    @property
    def grid(self) -> int:
        """Side of the maps of the last stage."""
        return self.stamp // (self.downscale << len(self.filters))


@dataclass(frozen=True)
class Posterior:
    """Independent Gaussians of the latent variables, ``(n, latent)`` each."""

    mean: Tensor
    log_sigma: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Turn standard normal `noise` of the same shape into a sample."""
        return self.mean + self.log_sigma.exp() * noise

    def divergence(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal prior in nats, ``(n,)``."""
        variance = (2 * self.log_sigma).exp()
        return 0.5 * (self.mean**2 + variance - 1 - 2 * self.log_sigma).sum(dim=1)


class Encoder(nn.Module):
    """Convolutions to the mean and width of the posterior."""

    weights: Tensor

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.unshuffle = nn.PixelUnshuffle(config.downscale)
        layers: list[nn.Module] = []
        channels = config.bands * config.downscale**2
        for width in config.filters:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.PReLU(width)]
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.PReLU(width)]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        features = channels * config.grid**2 + config.bands * len(config.apertures)
        self.posterior = nn.Linear(features, 2 * config.latent)
        self.register_buffer("weights", _apertures(config), persistent=False)

    def forward(self, channels: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map scaled and original images ``(n, bands, y, x)`` to mean and ln sigma."""
        features = self.convolutions(self.unshuffle(channels)).flatten(1).float()
        with torch.autocast(channels.device.type, enabled=False):
            joined = torch.cat([features, self._aperture_fluxes(image)], dim=1)
            mean, log_sigma = self.posterior(joined).chunk(2, dim=1)
        return mean, log_sigma.clamp(*LOG_SIGMA_RANGE)

    def _aperture_fluxes(self, image: Tensor) -> Tensor:
        """Arcsinh of the fluxes in units of their noise, ``(n, bands * apertures)``."""
        flux = torch.einsum("nbyx,ayx->nba", image.float(), self.weights)
        return torch.asinh(flux).flatten(1) / 3


class Decoder(nn.Module):
    """Latent variables to a galaxy: its flux in each band, and its shape."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        top = config.filters[-1]
        self.dense = nn.Sequential(
            nn.Linear(config.latent, config.hidden),
            nn.PReLU(config.hidden),
            nn.Linear(config.hidden, top * config.grid**2),
        )
        layers: list[nn.Module] = [nn.PReLU(top)]
        channels = top
        for width in reversed(config.filters):
            layers += [nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1)]
            layers += [nn.PReLU(width), nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
            channels = width
        self.convolutions = nn.Sequential(*layers)
        self.output = nn.Conv2d(channels, config.bands * config.downscale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(config.downscale)
        self.flux = nn.Linear(config.latent, config.bands)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(n, latent)`` to shapes ``(n, bands, y, x)`` of sum 1 and ln flux (n, bands)."""
        grid = self.config.grid
        maps = self.convolutions(self.dense(z).unflatten(1, (-1, grid, grid)))
        # In bfloat16 the logarithm of a faint pixel would be wrong by several percent.
        with torch.autocast(z.device.type, enabled=False):
            logits = self.shuffle(self.output(maps.float()))
            shape = logits.flatten(2).softmax(dim=2).view_as(logits)
            return shape, self.log_flux(z.float())

    def log_flux(self, z: Tensor) -> Tensor:
        """Natural logarithm of the flux in noise units, ``(n, bands)``; linear in z."""
        flux: Tensor = LOG_FLUX_CENTER + LOG_FLUX_SPREAD * self.flux(z)
        return flux

    def log_flux_sigma(self, log_sigma: Tensor) -> Tensor:
        """Posterior standard deviation of ln flux for widths ``(n, latent)``; ``(n, bands)``."""
        variance = (2 * log_sigma).exp() @ (LOG_FLUX_SPREAD * self.flux.weight).square().T
        return (variance + 1e-12).sqrt()


class Vae(nn.Module):
    """Encoder and decoder; `vae` and `vae-deblend` differ in what the encoder was trained on."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(
        self, channels: Tensor, image: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode, sample and decode.

        Parameters
        ----------
        channels, image
            ``(n, bands, y, x)``: the image scaled, and in noise units.
        noise
            ``(n, latent)`` standard normal; zeros for the posterior's mean.

        Returns
        -------
        model, mean, log_sigma, log_flux
            ``(n, bands, y, x)`` in noise units; the posterior ``(n, latent)``; and the mean and
            standard deviation of ln flux, ``(n, 2, bands)``.
        """
        mean, log_sigma = self.encoder(channels, image)
        shape, log_flux = self.decoder(Posterior(mean, log_sigma).sample(noise))
        model = shape * log_flux.exp()[:, :, None, None]
        decoder = self.decoder
        moments = torch.stack([decoder.log_flux(mean), decoder.log_flux_sigma(log_sigma)], dim=1)
        return model, mean, log_sigma, moments

    @torch.no_grad()
    def draw(self, z: Tensor) -> Tensor:
        """Return galaxies ``(n, bands, y, x)`` in noise units for ``(n, latent)``."""
        shape, log_flux = self.decoder(z)
        model: Tensor = shape * log_flux.exp()[:, :, None, None]
        return model


def freeze_decoder(network: Vae) -> Vae:
    """Fix the decoder: in stage two only the encoder learns (section 1 of the paper)."""
    network.decoder.requires_grad_(False)
    return network


def _apertures(config: VaeConfig) -> Tensor:
    """Gaussian weights ``(apertures, y, x)`` of unit norm: the noise of each flux is 1."""
    axis = torch.arange(config.stamp) - (config.stamp - 1) / 2
    radius = axis[:, None] ** 2 + axis**2
    weights = [torch.exp(-radius / (2 * sigma**2)) for sigma in config.apertures]
    normed = [F.normalize(weight.flatten(), dim=0).view_as(weight) for weight in weights]
    return torch.stack(normed) if normed else torch.zeros(0, config.stamp, config.stamp)
