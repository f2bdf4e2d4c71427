"""Scores and pictures of the branched network on galaxies never trained on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from raydeblend.networks.forward import forward
from raydeblend.train.board import draw_columns
from raydeblend.train.branched_data import PairBatch
from raydeblend.train.branched_steps import discriminate
from raydeblend.train.losses import flux_error, psnr
from raydeblend.train.state import Scalars

EXAMPLES = 6
"""Blends in the picture on the board."""


@torch.no_grad()
def pair_scores(
    generator: nn.Module, discriminator: nn.Module, batches: Iterable[PairBatch]
) -> Scalars:
    """Return the mean scores of all blends, and the health of the adversarial pair.

    PSNR (dB), SSIM and flux error of either branch, of outputs clipped at zero; MAX = 1.  The
    networks are left in training mode.
    """
    generator.eval()
    discriminator.eval()
    collected: dict[str, list[Tensor]] = {}
    for batch in batches:
        model = forward(generator, batch.channels).clamp(min=0)
        for name, values in _scores(model, batch, discriminator).items():
            collected.setdefault(name, []).append(values)
    generator.train()
    discriminator.train()
    means = {name: float(torch.cat(values).mean()) for name, values in collected.items()}
    return _ratios(means)


def _scores(model: Tensor, batch: PairBatch, discriminator: nn.Module) -> dict[str, Tensor]:
    """One number for each blend, by name."""
    scores = {}
    for k in range(model.shape[1]):
        one, true = model[:, k], batch.galaxies[:, k]
        scores[f"psnr_{k + 1}"] = psnr(one, true)
        scores[f"ssim_{k + 1}"] = _ssim(one, true)
        scores[f"flux_error_{k + 1}"] = flux_error(one, true)
    real, fake = discriminate(discriminator, batch.galaxies, model)
    return scores | {
        "discriminator_real": torch.sigmoid(real),
        "discriminator_fake": torch.sigmoid(fake),
        "spread": _distances(model),
        "spread_true": _distances(batch.galaxies),
        "mean": model.mean(dim=(1, 2, 3, 4)),
        "mean_true": batch.galaxies.mean(dim=(1, 2, 3, 4)),
    }


def _ratios(means: Scalars) -> Scalars:
    """Replace the helpers by what `raydeblend.train.stopping` watches."""
    diversity = means.pop("spread") / means.pop("spread_true")
    brightness = means.pop("mean") / means.pop("mean_true")
    return means | {"diversity": diversity, "brightness": brightness}


def _distances(images: Tensor) -> Tensor:
    """Rms distance of each blend's images to those of the next blend, ``(n,)``."""
    return (images - images.roll(1, dims=0)).square().mean(dim=(1, 2, 3, 4)).sqrt()


def _ssim(model: Tensor, truth: Tensor) -> Tensor:
    pairs = zip(truth.cpu().numpy(), model.cpu().numpy(), strict=True)
    values = [structural_similarity(t, m, data_range=1.0, channel_axis=0) for t, m in pairs]
    return torch.from_numpy(np.array(values, dtype=np.float32))


@torch.no_grad()
def draw_pairs(generator: nn.Module, batch: PairBatch, stretch: float) -> Tensor:
    """Draw blend, model and truth of either branch for a few blends, ``(3, rows, columns)``."""
    generator.eval()
    model = forward(generator, batch.channels[:EXAMPLES]).clamp(min=0)
    generator.train()
    truth, bands = batch.galaxies[:EXAMPLES], batch.galaxies.shape[2]
    blend = batch.channels[:EXAMPLES, :bands]
    return draw_columns([blend, model[:, 0], truth[:, 0], model[:, 1], truth[:, 1]], stretch)
