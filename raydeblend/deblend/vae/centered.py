"""The paper's own use of the autoencoder: one galaxy, known to be in the middle of its stamp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from raydeblend.deblend.bands import nearest_channels
from raydeblend.deblend.base import Batch, Call
from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.deblend.vae.config import VAE
from raydeblend.deblend.vae.deblender import VaeDeblender, network_pixels
from raydeblend.deblend.vae.latent_fit import paste
from raydeblend.deblend.vae.peaks import detect
from raydeblend.tile import Deblended, FloatArray


@dataclass(frozen=True)
class CenteredVae:
    """Nemani et al. 2023: one galaxy, known to be in the middle, its flux the decoder's.

    Its neighbors are detected and decoded with it, but only it is returned.
    """

    vae: VaeDeblender
    name: str = "vae-centered"
    band_masks: ClassVar[bool] = True

    @torch.inference_mode()
    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
    ) -> Deblended:
        """Decode the middle of each stamp; `variance` and the rest as `Deblender`."""
        batch = self.vae.batch(Call(images, variance, mask, psf, bands, pixel_scale))
        found = self.separate(batch) if len(batch) else []
        return stack_sources(found, batch.stamps.image.shape)

    def separate(self, batch: Batch) -> list[Sources]:
        """Return the galaxy in the middle of each stamp."""
        stamps = batch.stamps
        n_bands, height, width = stamps.image.shape[1:]
        middle = np.array([[(width - 1) / 2, (height - 1) / 2]], dtype=np.float32)
        pixels = zip(stamps.image, stamps.weight, batch.psf_widths, strict=True)
        peaks = [np.concatenate([middle, others(detect(*each), middle)]) for each in pixels]
        _, decoded = self.vae.decode_all(*network_pixels(batch), peaks, batch.psf_widths)
        corner = self.vae.corners(middle)
        nearest = nearest_channels(batch.channels, n_bands)
        return [
            Sources(
                paste(part.model[:1], corner, (height, width))[:, nearest] * sigma,
                middle,
                "medium",
                {"flux_err_model": part.flux_spread[:1, nearest] * sigma[:, 0, 0]},
            )
            for part, sigma in zip(decoded, stamps.sigma, strict=True)
        ]


def others(peaks: FloatArray, middle: FloatArray) -> FloatArray:
    """Return the peaks ``(k, 2)`` that are not the galaxy's in the middle ``(1, 2)``."""
    return np.asarray(peaks[np.linalg.norm(peaks - middle, axis=1) > VAE.own_radius])
