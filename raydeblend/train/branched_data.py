"""Training pairs of the branched network, composed on the training device.

Two kinds: the pixelwise maxima of Galaxy Zoo pictures that Reiman & Göhre (2019) train on, and
sums of survey images in noise units, as for every other deblender here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from raydeblend.networks.branched import BRANCHES
from raydeblend.networks.scaling import Scaling
from raydeblend.simulate.galaxy_zoo import ZooBlends, compose_zoo
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.data import VALIDATION_CHUNK, VALIDATION_SEED, validation_blends
from raydeblend.train.peeling import PeelBatch, fresh_blends, restore_stream, stream_state

ZOO_SIGMAS = 80.0
"""Sky noise of a Galaxy Zoo picture at 80 pixels: its corners scatter by about 1/80."""
MAX_LEFT = 0.1
"""Part of the galaxies' power that a model may miss for its residual to be trained on."""


@dataclass(frozen=True)
class PairBatch:
    """Blends as the network takes them, and the two galaxies that it is to return.

    Attributes
    ----------
    channels
        ``(n, channels, y, x)``, the scaled blend.
    galaxies
        ``(n, 2, bands, y, x)`` in the unit of the output: central and other galaxy of a Galaxy
        Zoo blend, brightest and second of a survey's; zero where there is none.
    sigmas
        ``(n, 1, 1, 1)``: standard deviations of the noise in a pixel value of 1.
    """

    channels: Tensor
    galaxies: Tensor
    sigmas: Tensor


def zoo_pairs(blends: ZooBlends) -> PairBatch:
    """Return Galaxy Zoo blends as a batch; both are in [0, 1]."""
    sigmas = torch.full((len(blends.blend), 1, 1, 1), ZOO_SIGMAS, device=blends.blend.device)
    return PairBatch(blends.blend, (blends.galaxies + 1) / 2, sigmas)


def survey_pairs(blends: PeelBatch, scaling: Scaling) -> PairBatch:
    """Return blends of survey images as a batch; the unit is the maximum of each blend."""
    channels, maximum = scaling.apply(blends.image)
    return PairBatch(channels, blends.sources[:, :BRANCHES] / maximum[:, None], maximum)


class ZooStream:
    """An endless stream of Galaxy Zoo blends, the same for a seed."""

    def __init__(self, images: Tensor, seed: int) -> None:
        self._images = images
        self._generator = torch.Generator(images.device).manual_seed(seed)

    def draw(self, n: int) -> PairBatch:
        """Return `n` blends."""
        return zoo_pairs(compose_zoo(self._images, n, self._generator))

    def feed_back(self, output: Tensor) -> None:
        """Do nothing: there are always two galaxies, so that nothing is left of a blend."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the random state."""
        return stream_state(self._generator, None)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` has returned."""
        restore_stream(self._generator, state)


class SurveyStream:
    """An endless stream of survey blends; a part of each batch is residuals of the one before.

    Stamps with more than two galaxies are separated by running the network again on what it
    leaves, so residuals are in the training set, those of which nothing is left included.  Only
    where both galaxies are gone: what a black model leaves is the blend itself, and to call that
    empty teaches the network to stay black.
    """

    def __init__(
        self,
        isolated: IsolatedImages,
        recipe: BlendRecipe,
        scaling: Scaling,
        seed: int,
        residual_fraction: float = 0.0,
    ) -> None:
        self._isolated, self._recipe, self._scaling = isolated, recipe, scaling
        self._fraction = residual_fraction
        self._generator = torch.Generator(isolated.images.device).manual_seed(seed)
        self._drawn: PeelBatch | None = None
        self._left: PeelBatch | None = None

    def draw(self, n: int) -> PairBatch:
        """Return `n` images with their two brightest galaxies."""
        left = 0 if self._left is None else len(self._left.n_sources)
        keep = min(int(n * self._fraction), left)
        batch = fresh_blends(self._isolated, self._recipe, n - keep, self._generator)
        if self._left is not None and keep:
            rows = torch.arange(keep, device=batch.image.device)
            batch = batch.join(self._left.select(rows))
        self._drawn = batch
        return survey_pairs(batch, self._scaling)

    def feed_back(self, output: Tensor) -> None:
        """Keep what the network's output ``(n, 2, bands, y, x)`` leaves of the last draw."""
        if self._drawn is None or not self._fraction:
            return
        drawn = self._drawn
        _, maximum = self._scaling.apply(drawn.image)
        model = (output.detach().clamp(min=0) * maximum[:, None]).sum(dim=1)
        behind = torch.zeros_like(drawn.sources[:, :BRANCHES])
        sources = torch.cat([drawn.sources[:, BRANCHES:], behind], dim=1)
        n_sources = (drawn.n_sources - BRANCHES).clamp(min=0)
        gone = _is_gone(model, drawn.sources[:, :BRANCHES].sum(dim=1))
        left = PeelBatch(drawn.image - model, sources, n_sources, drawn.context)
        self._left = left.select(gone)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the random state and the residuals for the next draw."""
        return stream_state(self._generator, self._left)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` has returned."""
        self._left = restore_stream(self._generator, state)


def _is_gone(model: Tensor, truth: Tensor) -> Tensor:
    """Whether ``(n, bands, y, x)`` less its model holds little of it, ``(n,)``."""
    missed, power = ((x * x).sum(dim=(1, 2, 3)) for x in (model - truth, truth))
    return missed <= MAX_LEFT * power


PairStream = ZooStream | SurveyStream


def zoo_validation(images: Tensor, n: int) -> Iterator[PairBatch]:
    """Yield the same `n` Galaxy Zoo blends at every call, in chunks."""
    stream = ZooStream(images, VALIDATION_SEED)
    for first in range(0, n, VALIDATION_CHUNK):
        yield stream.draw(min(VALIDATION_CHUNK, n - first))


def survey_validation(
    isolated: IsolatedImages, recipe: BlendRecipe, scaling: Scaling, n: int
) -> Iterator[PairBatch]:
    """Yield the same `n` noisy survey blends of two galaxies at every call, in chunks."""
    for blends in validation_blends(isolated, recipe, n, VALIDATION_SEED):
        yield survey_pairs(PeelBatch.of(blends), scaling)
