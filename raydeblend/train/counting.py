"""Training images for the counter: fresh blends, and what a deblender leaves of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.peeling import PeelBatch, fresh_blends, restore_stream, stream_state

Peel = Callable[[PeelBatch], PeelBatch]

# Whichever of the two brightest galaxies is nearer to the model is the one that was peeled.
EITHER = DeblendLoss("l1", tie_ratio=0.0)


class CountStream(Iterator[PeelBatch]):
    """Batches of `n` images without end, each with the number of galaxies in it.

    With `peel`, a fraction of a batch is what one more peel leaves of images of the batch before;
    while peeling a survey, most images that a counter sees are of that kind.
    """

    def __init__(
        self,
        isolated: IsolatedImages,
        recipe: BlendRecipe,
        n: int,
        seed: int,
        peel: Peel | None = None,
        residual_fraction: float = 0.0,
    ) -> None:
        self._isolated, self._recipe, self._n = isolated, recipe, n
        self._peel, self._fraction = peel, residual_fraction
        self._generator = torch.Generator(isolated.images.device).manual_seed(seed)
        self._last: PeelBatch | None = None

    def __next__(self) -> PeelBatch:
        """Return the next batch."""
        left = self._left()
        n = self._n - (0 if left is None else len(left.n_sources))
        batch = fresh_blends(self._isolated, self._recipe, n, self._generator)
        if self._peel is not None and left is not None:
            batch = batch.join(self._peel(left))
        self._last = batch
        return batch

    def _left(self) -> PeelBatch | None:
        """Return the images of the last batch that are peeled once more."""
        if self._peel is None or self._last is None:
            return None
        keep = int(self._n * self._fraction)
        return self._last.select(torch.nonzero(self._last.n_sources > 0).flatten()[:keep])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the random state and what the next batch takes from the last."""
        return stream_state(self._generator, self._last if self._peel else None)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` has returned."""
        self._last = restore_stream(self._generator, state)


def make_peel(network: nn.Module, scaling: Scaling) -> Peel:
    """Return the function that peels each image of a batch once with a trained deblender."""

    @torch.no_grad()
    def peel(batch: PeelBatch) -> PeelBatch:
        channels, maximum = scaling.apply(batch.image)
        model = forward(network, channels).clamp(min=0) * maximum
        _, chosen = EITHER(model, batch.sources)
        return batch.peel(model, chosen)

    return peel
