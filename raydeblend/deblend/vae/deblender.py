"""The variational autoencoder on survey stamps: every detected peak is centered and decoded.

Nemani et al. 2023 encode the galaxy in the middle of a blend (section 1).  Here each peak of a
stamp takes its turn in the middle; a second pass encodes each again with the models of the others
taken off; then all move together in latent space to where the pixels want them
(`raydeblend.deblend.vae.latent_fit`).  The flux is the decoder's; for bands that the network does
not know it is that of template amplitudes, as T-PHOT does with such models (their conclusions).
The width of the latent posterior says how well each model is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.deblend.bands import band_amplitudes, nearest_channels
from raydeblend.deblend.base import Batch, NetworkDeblender
from raydeblend.deblend.holes import holes_of
from raydeblend.deblend.sources import Sources, brightest_first
from raydeblend.deblend.vae.config import VAE
from raydeblend.deblend.vae.latent_fit import (
    Corners,
    Decoded,
    LatentBlend,
    cut_out,
    fit_latents,
    paste,
)
from raydeblend.deblend.vae.peaks import detect, detect_missed
from raydeblend.errors import ConfigError
from raydeblend.networks.vae import Posterior, Vae
from raydeblend.networks.vae_tangents import main_directions
from raydeblend.networks.weights import Card
from raydeblend.tile import FloatArray

BATCH = 64


@dataclass(frozen=True)
class Pixels:
    """One stamp ``(bands, y, x)`` in noise units, its weight, and the noise ``(bands, 1, 1)``."""

    image: FloatArray
    weight: FloatArray
    sigma: FloatArray


@dataclass(frozen=True)
class VaeDeblender(NetworkDeblender):
    """The blend encoder and its decoder; implements `raydeblend.tile.Deblender`.

    `psf` sets the width of the filter that finds peaks; `pixel_scale` is not used.  In
    `Deblended.extra`, in the unit of the images: ``flux_err_model`` ``(n, k, bands)`` and
    ``model_std``, the shape of the models: standard deviations, see `latent_fit`.
    """

    shipped: ClassVar[str] = "vae-deblend"
    tuned: ClassVar = (VAE,)

    network: Vae
    name: str = "vae"

    @classmethod
    def check_weights(cls, path: str, network: nn.Module, card: Card) -> None:
        """Refuse weights of another network."""
        if not isinstance(network, Vae):
            raise ConfigError(f"{path} is a {card.network}, not an autoencoder")

    def parts(self, batch: Batch) -> list[Batch]:
        """Return the whole batch: its sources, not its stamps, are encoded `BATCH` at a time."""
        return [batch] if len(batch) else []

    def separate(self, batch: Batch) -> list[Sources]:
        """Decode the peaks of each stamp, and those of what the first models leave."""
        stamps = batch.stamps
        pixels = zip(stamps.image, stamps.weight, batch.psf_widths, strict=True)
        peaks = [detect(*each) for each in pixels]
        peaks, decoded = self.decode_all(*network_pixels(batch), peaks, batch.psf_widths)
        arrays = zip(stamps.image, stamps.weight, stamps.sigma, strict=True)
        return [
            _sources(Pixels(*own), batch.channels, xy, self.corners(xy), part)
            for own, xy, part in zip(arrays, peaks, decoded, strict=True)
        ]

    def corners(self, xy: FloatArray) -> Corners:
        """Return the first pixel ``(k, 2)`` (y, x) of the network's stamp about each peak."""
        middle = (self.network.config.stamp - 1) / 2
        return np.round(xy[:, ::-1] - middle).astype(np.int64)

    @cached_property
    def directions(self) -> Tensor:
        """Directions ``(d, latent)`` along which galaxies are moved."""
        return main_directions(self.network.decoder, self.network.config.latent, VAE.directions).to(
            self.device
        )

    def decode_all(
        self,
        image: FloatArray,
        weight: FloatArray,
        peaks: list[FloatArray],
        widths: NDArray[np.float64],
    ) -> tuple[list[FloatArray], list[Decoded]]:
        """Encode the peaks of all stamps, look for missed ones, encode again and fit each stamp.

        From the second time on, pixels that are bad in a band hold the first models' light.

        Parameters
        ----------
        image, weight
            ``(n, bands, y, x)`` in noise units, the network's bands, and the inverse variance.
        peaks
            ``(k, 2)`` (x, y) of each stamp.
        widths
            ``(n,)`` of the PSF in pixels (sigma).

        Returns
        -------
        peaks, decoded
            Of each stamp; the peaks given are the first.
        """
        size = self.network.config.stamp
        blends = self._blends(image, weight, peaks)
        cuts = [cut_out(stamp.image, stamp.corners, size) for stamp in blends]
        models = np.split(self._draw_batches(self._encode(cuts).mean), _ends(peaks))
        peaks = [
            _with_missed(stamp, model, known, width)
            for stamp, model, known, width in zip(blends, models, peaks, widths, strict=True)
        ]
        light = np.stack([stamp.light(model) for stamp, model in zip(blends, models, strict=True)])
        blends = self._blends(np.where(holes_of(weight), light, image), weight, peaks)
        cuts = [
            stamp.without_others(_padded(model, len(stamp.corners)))
            for stamp, model in zip(blends, models, strict=True)
        ]
        second = self._encode(cuts)
        parts = zip(
            *(torch.tensor_split(part, _ends(peaks)) for part in vars(second).values()), strict=True
        )
        return peaks, [
            fit_latents(stamp, Posterior(*part), lambda cut: self._encode([cut]))
            for stamp, part in zip(blends, parts, strict=True)
        ]

    def _blends(
        self, image: FloatArray, weight: FloatArray, peaks: list[FloatArray]
    ) -> list[LatentBlend]:
        return [
            LatentBlend(self.network.decoder, self.directions, pixels, known, self.corners(xy))
            for pixels, known, xy in zip(image, weight, peaks, strict=True)
        ]

    def _encode(self, cuts: list[FloatArray]) -> Posterior:
        """Return the posterior of all sources of all stamps, in a row."""
        every = np.concatenate(cuts)
        parts = [
            self._encode_batch(torch.from_numpy(every[i : i + BATCH]).to(self.device))
            for i in range(0, max(len(every), 1), BATCH)
        ]
        return Posterior(
            torch.cat([part.mean for part in parts]), torch.cat([part.log_sigma for part in parts])
        )

    def _draw_batches(self, z: Tensor) -> FloatArray:
        return np.asarray(
            torch.cat([self._draw(part) for part in torch.split(z, BATCH)]).cpu().numpy()
        )

    def _encode_batch(self, image: Tensor) -> Posterior:
        channels, _ = self.scaling.apply(image)
        with torch.autocast(self.device.type, torch.bfloat16):
            ready = channels.contiguous(memory_format=torch.channels_last)
            mean, log_sigma = self.network.encoder(ready, image)
        return Posterior(mean.float(), log_sigma.float())

    def _draw(self, z: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.network.draw(z).float()


def _ends(peaks: list[FloatArray]) -> list[int]:
    """Return where the sources of each stamp end, but for the last."""
    return [int(end) for end in np.cumsum([len(xy) for xy in peaks])[:-1]]


def _padded(models: FloatArray, count: int) -> FloatArray:
    """Append empty models, of sources that the first pass did not know."""
    more = np.zeros((count - len(models), *models.shape[1:]), np.float32)
    return np.concatenate([models, more])


def _with_missed(
    stamp: LatentBlend, models: FloatArray, known: FloatArray, width: float
) -> FloatArray:
    """Return the peaks of a stamp and those of what the first models leave."""
    if not len(known):
        return known
    total = stamp.light(models)
    return np.concatenate([known, detect_missed(stamp.image, stamp.weight, total, known, width)])


def network_pixels(batch: Batch) -> tuple[FloatArray, FloatArray]:
    """Pick the network's bands of image and weight.

    One without usable pixels becomes the mean of the others, of weight 0.
    """
    stamps, chosen = batch.stamps, batch.channels
    there = (~stamps.missing[:, chosen])[:, :, None, None]
    image = stamps.image[:, chosen]
    mean = (image * there).sum(axis=1, keepdims=True) / np.maximum(there.sum(axis=1), 1)[:, None]
    return np.where(there, image, mean).astype(np.float32), stamps.weight[:, chosen]


def _sources(
    pixels: Pixels, channels: Sequence[int], xy: FloatArray, corners: Corners, decoded: Decoded
) -> Sources:
    """Give each source of one stamp its model in all bands; keep the significant ones."""
    shape = pixels.image.shape
    nearest = nearest_channels(channels, shape[0])
    templates = paste(decoded.model, corners, shape[1:])[:, nearest]
    amplitude = band_amplitudes(pixels.image[None], pixels.weight[None], templates[None], channels)
    factor = amplitude[0].astype(np.float32)[..., None, None]
    models = templates * factor
    keep = brightest_first(models, pixels.weight)
    spread = paste(decoded.spread, corners, shape[1:])[:, nearest] * factor
    flux_spread = decoded.flux_spread[:, nearest] * factor[..., 0, 0] * pixels.sigma[:, 0, 0]
    return Sources(
        models[keep] * pixels.sigma,
        xy[keep],
        quality_of(pixels.image, pixels.weight, models[keep]),
        {"flux_err_model": flux_spread[keep]},
        {"model_std": spread[keep] * pixels.sigma},
    )


def quality_of(image: FloatArray, weight: FloatArray, models: FloatArray) -> str:
    """Rate by the residual where the models ``(k, bands, y, x)`` outshine the noise."""
    if len(models) == 0:
        return "none"
    total = models.sum(axis=0)
    bright = (total > 1) & (weight > 0)
    residual = ((image - total) ** 2 * weight)[bright]
    chi2 = float(residual.mean()) if residual.size else 1.0
    if chi2 <= VAE.high_chi2:
        return "high"
    return "medium" if chi2 <= VAE.medium_chi2 else "low"
