"""Training images for the counter: fresh blends, and what a deblender leaves of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.peeling import PeelBatch, fresh_blends

Peel = Callable[[PeelBatch], PeelBatch]

# Whichever of the two brightest galaxies is nearer to the model is the one that was peeled.
EITHER = DeblendLoss("l1", tie_ratio=0.0)


def count_batches(
    isolated: IsolatedImages,
    recipe: BlendRecipe,
    n: int,
    seed: int,
    peel: Peel | None = None,
    residual_fraction: float = 0.0,
) -> Iterator[PeelBatch]:
    """Yield batches of `n` images without end, each with the number of galaxies in it.

    With `peel`, that fraction of a batch is what one more peel leaves of images of the batch
    before; while peeling a survey, most images that a counter sees are of that kind.
    """
    generator = torch.Generator(isolated.images.device).manual_seed(seed)
    batch = fresh_blends(isolated, recipe, n, generator)
    while True:
        yield batch
        keep = int(n * residual_fraction) if peel else 0
        left = batch.select(torch.nonzero(batch.n_sources > 0).flatten()[:keep])
        fresh = fresh_blends(isolated, recipe, n - len(left.n_sources), generator)
        batch = fresh.join(peel(left)) if peel else fresh


def make_peel(network: nn.Module, scaling: Scaling) -> Peel:
    """Return the function that peels each image of a batch once with a trained deblender."""

    @torch.no_grad()
    def peel(batch: PeelBatch) -> PeelBatch:
        channels, maximum = scaling.apply(batch.image)
        model = forward(network, channels).clamp(min=0) * maximum
        _, chosen = EITHER(model, batch.sources)
        return batch.peel(model, chosen)

    return peel
