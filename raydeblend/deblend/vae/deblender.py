"""The variational autoencoder on survey stamps: every detected peak is centred and decoded.

Nemani et al. 2023 encode the galaxy in the middle of a blend (section 1).  Here each peak of a
stamp takes its turn in the middle; a second pass encodes each again with the models of the others
taken off; then all move together in latent space to where the pixels want them, see `vae_fit`.
The flux is the decoder's, or with `refit`, and for bands that the network does not know, that of
template amplitudes, as T-PHOT does with such models (their conclusions).  The width of the latent
posterior says how well each model is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from raydeblend.deblend.holes import holes_of
from raydeblend.deblend.sources import brightest_first, stack_sources
from raydeblend.deblend.stamps import Stamps, choose_bands, nearest_channels, prepare, psf_widths
from raydeblend.deblend.templates import fit_amplitudes
from raydeblend.deblend.vae.latent_fit import (
    DIRECTIONS,
    Corners,
    Decoded,
    Moving,
    cut_out,
    fit_latents,
    paste,
)
from raydeblend.deblend.vae.peaks import detect, detect_missed
from raydeblend.errors import ConfigError
from raydeblend.networks.forward import choose_device
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import Posterior, Vae
from raydeblend.networks.vae_tangents import main_directions
from raydeblend.networks.weights import load_weights, weights_path
from raydeblend.tile import Deblended, FloatArray

BATCH = 64
QUALITY = ((1.5, "high"), (3.0, "medium"))
"""Largest reduced chi-squared, where the models are brighter than the noise, of each quality."""


@dataclass(frozen=True)
class Pixels:
    """One stamp ``(bands, y, x)`` in noise units, its weight, and the noise ``(bands, 1, 1)``."""

    image: FloatArray
    weight: FloatArray
    sigma: FloatArray


@dataclass(frozen=True)
class _Stamp:
    """The sources of one stamp, brightest first, in the unit of the images."""

    models: FloatArray
    spread: FloatArray
    flux_spread: FloatArray
    xy: FloatArray
    quality: str


@dataclass(frozen=True)
class VaeDeblender:
    """The blend encoder and its decoder; implements `raydeblend.tile.Deblender`.

    With `refit` the fluxes of the network's own bands, too, are template amplitudes fitted to the
    pixels.  A least-squares amplitude trusts the shape of the model; the posterior, which was
    trained on its own errors of shape, does not.
    """

    network: Vae
    scaling: Scaling
    bands: tuple[str, ...]
    device: torch.device
    weights_hash: str = ""
    refit: bool = False
    name: str = "vae"
    band_masks: ClassVar[bool] = True

    @classmethod
    def load(cls, device: str | None = None, weights: str | None = None) -> VaeDeblender:
        """Load shipped weights by name, or those at a path; by default ``vae-deblend``.

        Raises
        ------
        ConfigError
            If weights are missing or damaged.
        """
        chosen = choose_device(device)
        path = weights_path(weights or "vae-deblend")
        network, card = load_weights(path, chosen)
        if not isinstance(network, Vae):
            raise ConfigError(f"{path} is a {card.network}, not an autoencoder")
        return cls(network, card.scaling, card.bands, chosen, card.sha256[:16])

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
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        `psf` sets the width of the filter that finds peaks; `pixel_scale` is not used.  In
        `Deblended.extra`, in the unit of the images: ``flux_err_model`` ``(n, k, bands)`` and
        ``model_std``, the shape of the models: standard deviations, see `vae_fit`.

        Raises
        ------
        ConfigError
            If the shapes of the arrays or the number of bands do not agree.
        """
        stamps = prepare(images, variance, mask)
        chosen = choose_bands(bands, stamps.image.shape[1], self.bands)
        widths = psf_widths(psf, len(stamps.image))
        peaks = [
            detect(image, weight, width)
            for image, weight, width in zip(stamps.image, stamps.weight, widths, strict=True)
        ]
        peaks, decoded = self.decode_all(*network_pixels(stamps, chosen), peaks, widths)
        parts = [
            _sources(Pixels(*arrays), chosen, self.refit, *peak)
            for arrays, peak in zip(
                zip(stamps.image, stamps.weight, stamps.sigma, strict=True),
                zip(peaks, map(self.corners, peaks), decoded, strict=True),
                strict=True,
            )
        ]
        return _stack(parts, stamps.image.shape)

    def corners(self, xy: FloatArray) -> Corners:
        """Return the first pixel ``(k, 2)`` (y, x) of the network's stamp about each peak."""
        middle = (self.network.config.stamp - 1) / 2
        return np.round(xy[:, ::-1] - middle).astype(np.int64)

    @cached_property
    def directions(self) -> Tensor:
        """Directions ``(d, latent)`` along which galaxies are moved."""
        return main_directions(self.network.decoder, self.network.config.latent, DIRECTIONS).to(
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
        moving = self._moving(image, weight, peaks)
        cuts = [cut_out(stamp.image, stamp.corners, size) for stamp in moving]
        models = np.split(self._draw_batches(self._encode(cuts).mean), _ends(peaks))
        peaks = [
            _with_missed(stamp, model, known, width)
            for stamp, model, known, width in zip(moving, models, peaks, widths, strict=True)
        ]
        light = np.stack([stamp.light(model) for stamp, model in zip(moving, models, strict=True)])
        moving = self._moving(np.where(holes_of(weight), light, image), weight, peaks)
        cuts = [
            stamp.without_others(_padded(model, len(stamp.corners)))
            for stamp, model in zip(moving, models, strict=True)
        ]
        second = self._encode(cuts)
        parts = zip(
            *(torch.tensor_split(part, _ends(peaks)) for part in vars(second).values()), strict=True
        )
        return peaks, [
            fit_latents(stamp, Posterior(*part), lambda cut: self._encode([cut]))
            for stamp, part in zip(moving, parts, strict=True)
        ]

    def _moving(
        self, image: FloatArray, weight: FloatArray, peaks: list[FloatArray]
    ) -> list[Moving]:
        return [
            Moving(self.network.decoder, self.directions, pixels, known, self.corners(xy))
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


def _with_missed(stamp: Moving, models: FloatArray, known: FloatArray, width: float) -> FloatArray:
    """Return the peaks of a stamp and those of what the first models leave."""
    if not len(known):
        return known
    total = stamp.light(models)
    return np.concatenate([known, detect_missed(stamp.image, stamp.weight, total, known, width)])


def network_pixels(stamps: Stamps, chosen: list[int]) -> tuple[FloatArray, FloatArray]:
    """Pick the network's bands of image and weight.

    One without usable pixels becomes the mean of the others, of weight 0.
    """
    there = (~stamps.missing[:, chosen])[:, :, None, None]
    image = stamps.image[:, chosen]
    mean = (image * there).sum(axis=1, keepdims=True) / np.maximum(there.sum(axis=1), 1)[:, None]
    return np.where(there, image, mean).astype(np.float32), stamps.weight[:, chosen]


def _sources(
    pixels: Pixels,
    chosen: list[int],
    refit: bool,
    xy: FloatArray,
    corners: Corners,
    decoded: Decoded,
) -> _Stamp:
    """Give each source of one stamp its model in all bands; keep the significant ones."""
    bands, *shape = pixels.image.shape
    nearest = nearest_channels(chosen, bands)
    templates = paste(decoded.model, corners, (shape[0], shape[1]))[:, nearest]
    amplitude = fit_amplitudes(pixels.image[None], pixels.weight[None], templates[None])[0]
    if not refit:
        known = np.isin(np.arange(bands), chosen) & (pixels.weight > 0).any(axis=(1, 2))
        amplitude = np.where(known, 1.0, amplitude)
    factor = amplitude.astype(np.float32)[..., None, None]
    models = templates * factor
    keep = brightest_first(models, pixels.weight)
    spread = paste(decoded.spread, corners, (shape[0], shape[1]))[:, nearest] * factor
    flux_spread = decoded.flux_spread[:, nearest] * factor[..., 0, 0] * pixels.sigma[:, 0, 0]
    return _Stamp(
        models=models[keep] * pixels.sigma,
        spread=spread[keep] * pixels.sigma,
        flux_spread=flux_spread[keep],
        xy=xy[keep],
        quality=quality_of(pixels.image, pixels.weight, models[keep]),
    )


def _stack(parts: list[_Stamp], shape: tuple[int, ...]) -> Deblended:
    """Put the sources of all stamps of ``(n, bands, y, x)`` together."""
    quality = [part.quality for part in parts]
    spread = stack_sources([(part.spread, part.xy) for part in parts], quality, shape).models
    flux_spread = np.zeros(spread.shape[:3], dtype=np.float32)
    for row, part in enumerate(parts):
        flux_spread[row, : len(part.flux_spread)] = part.flux_spread
    extra = {"flux_err_model": flux_spread, "model_std": spread}
    return stack_sources([(part.models, part.xy) for part in parts], quality, shape, extra)


def quality_of(image: FloatArray, weight: FloatArray, models: FloatArray) -> str:
    """Judge by the residual where the models ``(k, bands, y, x)`` outshine the noise."""
    if len(models) == 0:
        return "none"
    total = models.sum(axis=0)
    bright = (total > 1) & (weight > 0)
    residual = ((image - total) ** 2 * weight)[bright]
    chi2 = float(residual.mean()) if residual.size else 1.0
    return next((name for limit, name in QUALITY if chi2 <= limit), "low")
