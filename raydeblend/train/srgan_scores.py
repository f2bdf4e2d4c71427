"""Scores of the super-resolution GAN on galaxies never trained on: images, blends resolved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydeblend.deblend.srgan.deblender import sharp_peaks, sharpen, source_peaks
from raydeblend.deblend.srgan.resolutions import both_found, high_peaks, low_peaks
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srgan import enlarge, pair_channels, stretch, unstretch
from raydeblend.train.board import draw_columns
from raydeblend.train.data import VALIDATION_SEED
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool, compose_pairs
from raydeblend.train.state import Scalars

EXAMPLES = 8
CHUNK = 32

Peaks = list[NDArray[np.float64]]


@torch.no_grad()
def pair_scores(
    generator: nn.Module,
    critic: nn.Module,
    pool: SharpPool,
    recipe: PairRecipe,
    scaling: Scaling,
    n: int,
) -> Scalars:
    """Return the means over `n` blends of two and as many single galaxies, always the same.

    ``psnr`` (dB) of the stretched images; ``resolved_low``, ``resolved_high`` and ``resolved``:
    blends of two of which both galaxies are found at low, HST's and the network's resolution;
    ``false_peaks``: single galaxies that make two peaks in the network's image and not in HST's;
    the health of the adversarial pair.  Networks are left in training mode.
    """
    generator.eval()
    critic.eval()
    collected: dict[str, list[NDArray[np.floating]]] = {}
    for galaxies in (2, 1):
        for batch in validation_pairs(pool, recipe, n, galaxies):
            for name, values in _scores(generator, critic, batch, scaling, galaxies).items():
                collected.setdefault(name, []).append(values)
    generator.train()
    critic.train()
    means = {name: float(np.concatenate(values).mean()) for name, values in collected.items()}
    diversity = means.pop("spread") / means.pop("spread_true")
    brightness = means.pop("mean") / means.pop("mean_true")
    return means | {"diversity": diversity, "brightness": brightness}


def validation_pairs(
    pool: SharpPool, recipe: PairRecipe, n: int, galaxies: int
) -> Iterator[PairBatch]:
    """Yield the same `n` pairs of that many galaxies at every call."""
    generator = torch.Generator(pool.images.device).manual_seed(VALIDATION_SEED + galaxies)
    for first in range(0, n, CHUNK):
        yield compose_pairs(pool, min(CHUNK, n - first), recipe, generator, galaxies)


def _scores(
    generator: nn.Module, critic: nn.Module, batch: PairBatch, scaling: Scaling, galaxies: int
) -> dict[str, NDArray[np.floating]]:
    """One number for each pair, by name."""
    low, _ = scaling.apply(batch.low)
    real = stretch(batch.high, scaling.softening)
    output = forward(generator, low)
    fake, sources = output[:, : real.shape[1]], torch.sigmoid(output[:, real.shape[1] :])
    logits = [forward(critic, pair_channels(low, image)) for image in (real, fake)]
    scores = {
        "psnr": -10 * torch.log10((fake - real).square().mean(dim=(1, 2, 3)) + 1e-12),
        "discriminator_real": torch.sigmoid(logits[0]),
        "discriminator_fake": torch.sigmoid(logits[1]),
        "spread": _distances(fake),
        "spread_true": _distances(real),
        "mean": fake.mean(dim=(1, 2, 3)),
        "mean_true": real.mean(dim=(1, 2, 3)),
    }
    arrays = {name: values.float().cpu().numpy() for name, values in scores.items()}
    peaks = _network_peaks(unstretch(fake, scaling.softening), sources)
    return arrays | (_resolved(batch, peaks) if galaxies == 2 else _false_peaks(batch, peaks))


def _network_peaks(sharp: Tensor, sources: Tensor) -> Peaks:
    """Return the peaks that the deblender takes, ``(k, 2)`` for each pair."""
    if sources.shape[1]:
        return [source_peaks(image) for image in sources[:, 0].float().cpu().numpy()]
    return [sharp_peaks(image) for image in _reference(sharp)]


def _distances(images: Tensor) -> Tensor:
    """Rms distance of each image to the next, ``(n,)``."""
    return (images - images.roll(1, dims=0)).square().mean(dim=(1, 2, 3)).sqrt()


def _resolved(batch: PairBatch, network: Peaks) -> dict[str, NDArray[np.floating]]:
    truth = batch.xy[:, :2].cpu().numpy()
    found = {
        "resolved_low": [low_peaks(image) for image in _reference(batch.low)],
        "resolved_high": [high_peaks(image) for image in _reference(batch.high)],
        "resolved": network,
    }
    return {
        name: np.array([both_found(p, t) for p, t in zip(peaks, truth, strict=True)], dtype=float)
        for name, peaks in found.items()
    }


def _false_peaks(batch: PairBatch, network: Peaks) -> dict[str, NDArray[np.floating]]:
    """Tell where the network's image has more than one peak and HST's has not (section 4)."""
    pairs = zip(network, _reference(batch.high), strict=True)
    false = [len(peaks) > 1 >= len(high_peaks(high)) for peaks, high in pairs]
    return {"false_peaks": np.array(false, dtype=float)}


def _reference(images: Tensor) -> NDArray[np.float32]:
    """Return ``(n, y, x)`` of the band in which peaks are sought: the third of seven, F775W."""
    return images[:, min(2, images.shape[1] - 1)].float().cpu().numpy()


@torch.no_grad()
def draw_pairs(
    generator: nn.Module, pool: SharpPool, recipe: PairRecipe, scaling: Scaling
) -> Tensor:
    """Draw low resolution, network's and HST's image, a row each; ``(3, rows, columns)``."""
    batch = next(validation_pairs(pool, recipe, EXAMPLES, 2))
    generator.eval()
    sharp = sharpen(generator, batch.low, scaling)
    generator.train()
    top = batch.high.amax(dim=(1, 2, 3), keepdim=True)
    low = enlarge(batch.low)
    columns = [low / low.amax(dim=(1, 2, 3), keepdim=True), sharp / top, batch.high / top]
    return draw_columns(columns)
