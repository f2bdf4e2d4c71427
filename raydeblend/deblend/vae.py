"""The variational autoencoder on survey stamps: every detected peak is centred and decoded.

Nemani et al. 2023 encode the galaxy in the middle of a blend (section 1).  Here each peak of a
stamp takes its turn in the middle; a second pass encodes each again with the models of the others
taken off.  The flux is the posterior's, or with `refit`, and for bands that the network does not
know, that of template amplitudes, as T-PHOT does with such models (their conclusions).  Samples
of the latent posterior say how well each model is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor

from raydeblend.deblend.sources import MIN_SIGNIFICANCE, stack_sources
from raydeblend.deblend.stamps import Stamps, choose_bands, nearest_channels, prepare
from raydeblend.deblend.templates import fit_amplitudes
from raydeblend.detect.footprints import DetectConfig, gaussian_width, significant_peaks
from raydeblend.errors import ConfigError
from raydeblend.networks.forward import choose_device
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import Posterior, Vae
from raydeblend.networks.weights import load_weights, weights_path
from raydeblend.tile import Deblended, FloatArray

DETECT = DetectConfig()
PSF_WIDTH = 1.5
"""Pixels (sigma) where no PSF is given: HSC's i band in median seeing."""
MAX_SOURCES = 12
"""Peaks in one stamp, the highest; there are rarely more than a handful."""
PASSES = 2
SAMPLES = 16
SEED = 20230228
"""Of the latent samples: the same stamps always give the same uncertainties."""
BATCH = 64
QUALITY = ((1.5, "high"), (3.0, "medium"))
"""Largest reduced chi-squared, where the models are brighter than the noise, of each quality."""


Corners = NDArray[np.int64]


@dataclass(frozen=True)
class Pixels:
    """One stamp ``(bands, y, x)`` in noise units, its weight, and the noise ``(bands, 1, 1)``."""

    image: FloatArray
    weight: FloatArray
    sigma: FloatArray


@dataclass(frozen=True)
class Decoded:
    """What is decoded for ``m`` peaks, in noise units and the network's bands.

    Attributes
    ----------
    model, spread
        ``(m, bands, y, x)`` on the network's stamp: of the posterior's mean, and the standard
        deviation of its samples.
    flux_spread
        ``(m, bands)`` standard deviation of the samples' fluxes.
    """

    model: FloatArray
    spread: FloatArray
    flux_spread: FloatArray

    def split(self, counts: list[int]) -> list[Decoded]:
        """Return the peaks of each stamp, of which there are so many."""
        ends = np.cumsum(counts)[:-1]
        parts = [np.split(values, ends) for values in vars(self).values()]
        return [Decoded(*values) for values in zip(*parts, strict=True)]


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
        ``model_std``, the shape of the models, the scatter of the posterior's samples.

        Raises
        ------
        ConfigError
            If the shapes of the arrays or the number of bands do not agree.
        """
        stamps = prepare(images, variance, mask)
        chosen = choose_bands(bands, stamps.image.shape[1], self.bands)
        widths = _psf_widths(psf, len(stamps.image))
        peaks = [
            detect(image, weight, width)
            for image, weight, width in zip(stamps.image, stamps.weight, widths, strict=True)
        ]
        corners = [self.corners(xy) for xy in peaks]
        decoded = self.decode_all(_network_image(stamps, chosen), corners)
        parts = [
            _sources(Pixels(*arrays), chosen, self.refit, *peak)
            for arrays, peak in zip(
                zip(stamps.image, stamps.weight, stamps.sigma, strict=True),
                zip(peaks, corners, decoded, strict=True),
                strict=True,
            )
        ]
        return _stack(parts, stamps.image.shape)

    def corners(self, xy: FloatArray) -> Corners:
        """Return the first pixel ``(k, 2)`` (y, x) of the network's stamp about each peak."""
        middle = (self.network.config.stamp - 1) / 2
        return np.round(xy[:, ::-1] - middle).astype(np.int64)

    def decode_all(self, image: FloatArray, corners: list[Corners]) -> list[Decoded]:
        """Encode and decode the peaks of all stamps, the second time less the others' models.

        Parameters
        ----------
        image
            ``(n, bands, y, x)`` in noise units, the network's bands.
        corners
            ``(k, 2)`` of the network's stamps in each image.
        """
        size = self.network.config.stamp
        counts = [len(each) for each in corners]
        models = [np.zeros((k, image.shape[1], size, size), np.float32) for k in counts]
        for _ in range(PASSES):
            cuts = [
                cut_out(_without_others(*stamp), stamp[2], size)
                for stamp in zip(image, models, corners, strict=True)
            ]
            decoded = self._decode(np.concatenate(cuts)).split(counts)
            models = [part.model for part in decoded]
        return decoded

    def _decode(self, cuts: FloatArray) -> Decoded:
        parts = [self._decode_batch(cuts[i : i + BATCH]) for i in range(0, len(cuts), BATCH)]
        if not parts:
            return Decoded(cuts, cuts, np.zeros(cuts.shape[:2], np.float32))
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Decoded(*(np.concatenate(column) for column in columns))

    def _decode_batch(self, cuts: FloatArray) -> Decoded:
        posterior = self._encode(torch.from_numpy(cuts).to(self.device))
        # One set of noise for all sources, so that none depends on what else is in the batch.
        shape = (SAMPLES, posterior.mean.shape[1])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
        samples = torch.stack([self._draw(posterior.sample(z)) for z in noise.to(self.device)])
        return Decoded(
            self._draw(posterior.mean).cpu().numpy(),
            samples.std(dim=0).cpu().numpy(),
            samples.sum(dim=(3, 4)).std(dim=0).cpu().numpy(),
        )

    def _encode(self, image: Tensor) -> Posterior:
        channels, _ = self.scaling.apply(image)
        with torch.autocast(self.device.type, torch.bfloat16):
            ready = channels.contiguous(memory_format=torch.channels_last)
            mean, log_sigma = self.network.encoder(ready, image)
        return Posterior(mean.float(), log_sigma.float())

    def _draw(self, z: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.network.draw(z).float()


def detect(image: FloatArray, weight: FloatArray, width: float) -> FloatArray:
    """Return the peaks ``(k, 2)`` (x, y) of one stamp, highest first.

    Parameters
    ----------
    image, weight
        ``(bands, y, x)`` in noise units, and the inverse variance.
    width
        Of the PSF in pixels (sigma).
    """
    _, xy = significant_peaks(significance_image(image, weight, width), width, DETECT)
    return xy[:MAX_SOURCES].astype(np.float32)


def significance_image(image: FloatArray, weight: FloatArray, width: float) -> FloatArray:
    """Return the significance ``(y, x)`` of a point source, as `footprints.detection_image`."""
    top = ndimage.gaussian_filter((image * weight).sum(axis=0), width, mode="constant")
    square = ndimage.gaussian_filter(weight.sum(axis=0), width / np.sqrt(2), mode="constant")
    square /= 4 * np.pi * width**2
    return np.asarray(top / np.sqrt(np.maximum(square, 1e-6)), dtype=np.float32)


def cut_out(images: FloatArray, corners: Corners, size: int) -> FloatArray:
    """Cut ``(k, bands, size, size)`` out of ``(k, bands, y, x)``; zero beyond their edges."""
    pad = size
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cuts = [
        image[:, y + pad : y + pad + size, x + pad : x + pad + size]
        for image, (y, x) in zip(padded, corners, strict=True)
    ]
    shape = (0, images.shape[1], size, size)
    return np.stack(cuts) if cuts else np.zeros(shape, dtype=np.float32)


def paste(models: FloatArray, corners: Corners, shape: tuple[int, int]) -> FloatArray:
    """Put models ``(k, bands, size, size)`` at their corners into stamps ``(k, bands, y, x)``."""
    size = models.shape[-1]
    padded = np.zeros((*models.shape[:2], shape[0] + 2 * size, shape[1] + 2 * size), np.float32)
    for frame, model, (y, x) in zip(padded, models, corners, strict=True):
        frame[:, y + size : y + 2 * size, x + size : x + 2 * size] = model
    return padded[:, :, size:-size, size:-size]


def _without_others(image: FloatArray, models: FloatArray, corners: Corners) -> FloatArray:
    """Return for each source the stamp ``(k, bands, y, x)`` less the models of the others."""
    placed = paste(models, corners, image.shape[1:])
    residual = image - placed.sum(axis=0)
    return np.asarray(residual + placed)


def _network_image(stamps: Stamps, chosen: list[int]) -> FloatArray:
    """Pick the network's bands; one without usable pixels becomes the mean of the others."""
    there = (~stamps.missing[:, chosen])[:, :, None, None]
    image = stamps.image[:, chosen]
    mean = (image * there).sum(axis=1, keepdims=True) / np.maximum(there.sum(axis=1), 1)[:, None]
    return np.where(there, image, mean).astype(np.float32)


def _psf_widths(psf: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return the width (sigma, pixels) of a Gaussian as high as the PSF of each stamp."""
    if psf is None:
        return np.full(n, PSF_WIDTH)
    stamps = np.asarray(psf, dtype=np.float64)
    each = stamps if stamps.ndim == 4 else stamps[np.newaxis]
    return np.broadcast_to([gaussian_width(list(bands)) for bands in each], (n,))


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


def brightest_first(models: FloatArray, weight: FloatArray) -> NDArray[np.int64]:
    """Return which models ``(k, bands, y, x)`` are significant, brightest first."""
    significance = np.sqrt((models**2 * weight).sum(axis=(1, 2, 3)))
    order = np.argsort(-models.sum(axis=(1, 2, 3)), kind="stable")
    return np.asarray(order[significance[order] > MIN_SIGNIFICANCE])


def quality_of(image: FloatArray, weight: FloatArray, models: FloatArray) -> str:
    """Judge by the residual where the models ``(k, bands, y, x)`` outshine the noise."""
    if len(models) == 0:
        return "none"
    total = models.sum(axis=0)
    bright = (total > 1) & (weight > 0)
    residual = ((image - total) ** 2 * weight)[bright]
    chi2 = float(residual.mean()) if residual.size else 1.0
    return next((name for limit, name in QUALITY if chi2 <= limit), "low")


@dataclass(frozen=True)
class CentredVae:
    """The paper's own use: one galaxy, known to be in the middle, its flux the decoder's."""

    vae: VaeDeblender
    name: str = "vae-centred"

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
        stamps = prepare(images, variance, mask)
        n, _, height, width = stamps.image.shape
        chosen = choose_bands(bands, stamps.image.shape[1], self.vae.bands)
        xy = np.array([[(width - 1) / 2, (height - 1) / 2]], dtype=np.float32)
        corners = [self.vae.corners(xy)] * n
        decoded = self.vae.decode_all(_network_image(stamps, chosen), corners)
        nearest = nearest_channels(chosen, stamps.image.shape[1])
        models = [paste(part.model, corners[0], (height, width))[:, nearest] for part in decoded]
        sources = [(m * sigma, xy) for m, sigma in zip(models, stamps.sigma, strict=True)]
        spread = [part.flux_spread[:, nearest] for part in decoded]
        extra = {"flux_err_model": np.stack(spread) * stamps.sigma[:, None, :, 0, 0]}
        return stack_sources(sources, ["medium"] * n, stamps.image.shape, extra)
