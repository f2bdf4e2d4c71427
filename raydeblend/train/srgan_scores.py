"""Scores of the super-resolution GAN on galaxies never trained on: images, blends resolved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from raydeblend.deblend.srgan import sharp_peaks, sharpen
from raydeblend.detect.sharp_peaks import PeakRule, find_sharp_peaks
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srgan import FACTOR, enlarge, pair_channels, stretch, unstretch
from raydeblend.simulate.sharp import PIXEL_SCALE, hst_psf
from raydeblend.survey import draw_psf, get_survey, psf_profile
from raydeblend.train.board import draw_columns
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool, compose_pairs
from raydeblend.train.state import Scalars

EXAMPLES = 8
CHUNK = 32
VALIDATION_SEED = 1_000_003
MATCH_RADIUS = 4.0
"""Fine pixels, 0.24 arcsec: a peak within this is of the galaxy."""
GROUND_RULE = PeakRule()
HST_NOISE = 0.12
"""Coarse sky sigmas in a fine pixel: CANDELS' depth, 28.5 mag at 5 sigma in 0.2 arcsec (§2)."""
HST_RULE = PeakRule(contrast=0.1, relative=0.06)


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
    """Yield the same `n` pairs of so many galaxies at every call."""
    generator = torch.Generator(pool.images.device).manual_seed(VALIDATION_SEED + galaxies)
    for first in range(0, n, CHUNK):
        yield compose_pairs(pool, min(CHUNK, n - first), recipe, generator, galaxies)


def _scores(
    generator: nn.Module, critic: nn.Module, batch: PairBatch, scaling: Scaling, galaxies: int
) -> dict[str, NDArray[np.floating]]:
    """One number for each pair, by name."""
    low, _ = scaling.apply(batch.low)
    real = stretch(batch.high, scaling.softening)
    fake = forward(generator, low)[:, : real.shape[1]]
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
    sharp = unstretch(fake, scaling.softening)
    return arrays | (_resolved(batch, sharp) if galaxies == 2 else _false_peaks(batch, sharp))


def _distances(images: Tensor) -> Tensor:
    """Rms distance of each image to the next, ``(n,)``."""
    return (images - images.roll(1, dims=0)).square().mean(dim=(1, 2, 3)).sqrt()


def _resolved(batch: PairBatch, sharp: Tensor) -> dict[str, NDArray[np.floating]]:
    truth = batch.xy[:, :2].cpu().numpy()
    found = {
        "resolved_low": [low_peaks(image) for image in _reference(batch.low)],
        "resolved_high": [high_peaks(image) for image in _reference(batch.high)],
        "resolved": [sharp_peaks(image) for image in _reference(sharp)],
    }
    return {
        name: np.array([both_found(p, t) for p, t in zip(peaks, truth, strict=True)], dtype=float)
        for name, peaks in found.items()
    }


def _false_peaks(batch: PairBatch, sharp: Tensor) -> dict[str, NDArray[np.floating]]:
    """Tell where the network's image has more than one peak and HST's has not (section 4)."""
    pairs = zip(_reference(sharp), _reference(batch.high), strict=True)
    false = [len(sharp_peaks(image)) > 1 >= len(high_peaks(high)) for image, high in pairs]
    return {"false_peaks": np.array(false, dtype=float)}


def _reference(images: Tensor) -> NDArray[np.float32]:
    """Return ``(n, y, x)`` of the band in which peaks are sought: the third of seven, F775W."""
    return images[:, min(2, images.shape[1] - 1)].float().cpu().numpy()


def low_peaks(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``(k, 2)`` peaks of a low-resolution image, in fine pixels."""
    psf = draw_psf(psf_profile(get_survey("HSC"), "i"), FACTOR * PIXEL_SCALE, 25)
    peaks = find_sharp_peaks(image, psf, 1.0, GROUND_RULE)
    return FACTOR * peaks.xy + (FACTOR - 1) / 2


def high_peaks(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ``(k, 2)`` peaks of HST's image, in its pixels."""
    psf = draw_psf(hst_psf("F775W"), PIXEL_SCALE, 21)
    return find_sharp_peaks(image, psf, HST_NOISE, HST_RULE).xy


def both_found(peaks: NDArray[np.float64], truth: NDArray[np.floating]) -> bool:
    """Tell whether each true position has a peak of its own within `MATCH_RADIUS`."""
    if len(peaks) < len(truth):
        return False
    distance = np.hypot(*(truth[:, None] - peaks[None]).transpose(2, 0, 1))
    rows, columns = linear_sum_assignment(np.where(distance < MATCH_RADIUS, distance, 1e3))
    return bool((distance[rows, columns] < MATCH_RADIUS).all())


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
