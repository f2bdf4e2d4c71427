"""Scores of a network after an epoch, on galaxies that it was never trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from raydeblend.networks.counter import CLASSES
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendBatch, IsolatedImages
from raydeblend.train.config import TrainConfig
from raydeblend.train.counting import Peel, count_batches
from raydeblend.train.data import VALIDATION_CHUNK, validation_blends
from raydeblend.train.peeling import PeelBatch
from raydeblend.train.steps import Scalars, rdn_scores, rdn_step

VALIDATION_SEED = 1_000_003


@dataclass(frozen=True)
class Examples:
    """First peels, each ``(n, bands, y, x)``, divided by the maximum of the noisy blend."""

    blend: Tensor
    model: Tensor
    truth: Tensor


def validate(
    network: nn.Module, config: TrainConfig, isolated: IsolatedImages, peel: Peel | None = None
) -> Scalars:
    """Return the scores of the network on its device; leaves it in training mode."""
    if config.network == "counter":
        return _counter_scores(network, config, isolated, peel)
    return _mean(
        (len(chunk.n_sources), _peel_scores(network, config, chunk))
        for chunk in validation_blends(isolated, config.recipe, config.validation, VALIDATION_SEED)
    )


@torch.no_grad()
def peel_examples(network: nn.Module, config: TrainConfig, blends: BlendBatch) -> Examples:
    """Peel each blend once."""
    network.eval()
    batch = PeelBatch(blends.blend, blends.sources, blends.n_sources)
    _, model, chosen = rdn_step(network, batch, config.scaling, config.loss)
    network.train()
    truth = blends.sources[torch.arange(len(chosen), device=chosen.device), chosen]
    _, maximum = config.scaling.apply(blends.blend)
    return Examples(blends.blend / maximum, model / maximum, truth / maximum)


def mean_ssim(examples: Examples) -> float:
    """Mean structural similarity of model and truth (scikit-image, data_range 1)."""
    pairs = zip(examples.model.cpu().numpy(), examples.truth.cpu().numpy(), strict=True)
    return float(
        np.mean([structural_similarity(t, m, data_range=1.0, channel_axis=0) for m, t in pairs])
    )


def _peel_scores(network: nn.Module, config: TrainConfig, blends: BlendBatch) -> Scalars:
    scores = rdn_scores(network, blends, config.scaling, config.loss)
    return scores | {"ssim_1": mean_ssim(peel_examples(network, config, blends))}


def _counter_scores(
    network: nn.Module, config: TrainConfig, isolated: IsolatedImages, peel: Peel | None
) -> Scalars:
    """Accuracy on noisy, noiseless and once more peeled images, and per class over all."""
    right: dict[str, list[Tensor]] = {}
    for kind, batch in _counter_batches(config, isolated, peel):
        label = batch.n_sources.clamp(max=3)
        hit = (count(network, batch.image, config.scaling) == label).float()
        right.setdefault("accuracy", []).append(hit)
        right.setdefault(f"accuracy_{kind}", []).append(hit)
        for k in range(CLASSES):
            right.setdefault(f"accuracy_{k}", []).append(hit[label == k])
    joined = {name: torch.cat(hits) for name, hits in right.items()}
    return {name: float(hits.mean()) for name, hits in joined.items() if len(hits)}


def _counter_batches(
    config: TrainConfig, isolated: IsolatedImages, peel: Peel | None
) -> Iterator[tuple[str, PeelBatch]]:
    chunks = -(-config.validation // (2 * VALIDATION_CHUNK))
    for kind, noiseless in (("noisy", 0.0), ("noiseless", 1.0)):
        recipe = replace(config.recipe, noiseless=noiseless)
        stream = count_batches(isolated, recipe, VALIDATION_CHUNK, VALIDATION_SEED)
        for batch in islice(stream, chunks):
            yield kind, batch
            if peel is not None and kind == "noisy":
                yield "peeled", peel(batch.select(batch.n_sources > 0))


@torch.no_grad()
def count(network: nn.Module, image: Tensor, scaling: Scaling) -> Tensor:
    """Return the most likely class of each image ``(n, bands, y, x)``: 0, 1, 2, 3 or more."""
    network.eval()
    channels, _ = scaling.apply(image)
    logits = forward(network, channels)
    network.train()
    return torch.argmax(logits, dim=1)


def _mean(weighted: Iterable[tuple[int, Scalars]]) -> Scalars:
    counts, scores = zip(*weighted, strict=True)
    return {
        name: float(np.average([score[name] for score in scores], weights=counts))
        for name in scores[0]
    }
