"""Training images for the deblender: fresh blends, and what peeling has left of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from raydeblend.train.blends import BlendBatch, BlendRecipe, IsolatedImages, compose


@dataclass(frozen=True)
class PeelBatch:
    """Images to peel once, with the galaxies that are still in them.

    Attributes
    ----------
    image
        ``(n, bands, y, x)`` in units of the sky noise.
    sources
        ``(n, k, bands, y, x)``, brightest first, zeros behind the last.
    n_sources
        ``(n,)``, at least 1.
    context
        ``(n, planes, y, x)``, what a network is shown in addition to the images.
    """

    image: Tensor
    sources: Tensor
    n_sources: Tensor
    context: Tensor

    @classmethod
    def of(cls, blends: BlendBatch) -> PeelBatch:
        """Return blends that nothing was peeled from."""
        return cls(blends.blend, blends.sources, blends.n_sources, blends.context)

    def select(self, rows: Tensor) -> PeelBatch:
        """Return the chosen images."""
        return PeelBatch(*(tensor[rows] for tensor in vars(self).values()))

    def parts(self, size: int) -> Iterator[PeelBatch]:
        """Yield the images in parts of at most `size`; all at once for 0."""
        rows = torch.arange(len(self.n_sources), device=self.image.device)
        return (self.select(part) for part in torch.split(rows, size or len(rows)))

    def peel(self, model: Tensor, chosen: Tensor) -> PeelBatch:
        """Subtract `model`, which stands for source `chosen`; some may have none left."""
        others = _without(self.sources, chosen)
        return PeelBatch(self.image - model, others, self.n_sources - 1, self.context)

    def join(self, other: PeelBatch) -> PeelBatch:
        """Return both batches as one."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return PeelBatch(*(torch.cat(pair) for pair in pairs))


class PeelStream:
    """An endless stream of batches; a part of each is residuals of the batch before.

    A deblender trained on blends alone meets its own residuals only at the second peel and fails
    there; here they are in the training set, at no cost, since the models exist already.
    """

    def __init__(
        self,
        isolated: IsolatedImages,
        recipe: BlendRecipe,
        seed: int,
        residual_fraction: float = 0.4,
    ) -> None:
        self._isolated = isolated
        self._recipe = recipe
        self._residual_fraction = residual_fraction
        self._generator = torch.Generator(isolated.images.device).manual_seed(seed)
        self._residual: PeelBatch | None = None

    def draw(self, n: int) -> PeelBatch:
        """Return `n` images."""
        if self._residual is None:
            return fresh_blends(self._isolated, self._recipe, n, self._generator)
        keep = min(int(n * self._residual_fraction), len(self._residual.n_sources))
        fresh = fresh_blends(self._isolated, self._recipe, n - keep, self._generator)
        return fresh.join(self._residual.select(torch.arange(keep, device=fresh.image.device)))

    def feed_back(self, batch: PeelBatch, model: Tensor, chosen: Tensor) -> None:
        """Keep the residuals of `batch` for the next draw."""
        left = batch.peel(model.detach(), chosen)
        self._residual = left.select(left.n_sources > 0)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the random state and the residuals for the next draw."""
        return stream_state(self._generator, self._residual)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` has returned."""
        self._residual = restore_stream(self._generator, state)


def stream_state(generator: torch.Generator, kept: PeelBatch | None) -> dict[str, Tensor]:
    """Return the state of a stream that keeps a part of one batch for the next."""
    return {"generator": generator.get_state(), **({} if kept is None else vars(kept))}


def restore_stream(generator: torch.Generator, state: Mapping[str, Tensor]) -> PeelBatch | None:
    """Put a generator back to a `stream_state`; return what was kept."""
    generator.set_state(state["generator"].cpu())
    kept = {name: each.to(generator.device) for name, each in state.items() if name != "generator"}
    return PeelBatch(**kept) if kept else None


def fresh_blends(
    isolated: IsolatedImages, recipe: BlendRecipe, n: int, generator: torch.Generator
) -> PeelBatch:
    """Compose `n` blends that nothing was peeled from."""
    return PeelBatch.of(compose(isolated, n, recipe, generator))


def _without(sources: Tensor, chosen: Tensor) -> Tensor:
    """Drop source `chosen` of each image; the others close up and zeros follow."""
    k = sources.shape[1]
    order = torch.arange(k - 1, device=sources.device).expand(len(sources), k - 1)
    order = order + (order >= chosen[:, None]).long()
    rest = sources.gather(1, order[:, :, None, None, None].expand(-1, -1, *sources.shape[2:]))
    return torch.cat([rest, torch.zeros_like(sources[:, :1])], dim=1)
