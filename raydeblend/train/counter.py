"""The counter of Wang et al. 2022: its run, presets and training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from raydeblend.networks.counter import CLASSES, Counter, CounterConfig
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.board import draw_columns
from raydeblend.train.config import learning_rate_at
from raydeblend.train.counting import CountStream, Peel, make_peel
from raydeblend.train.data import VALIDATION_CHUNK, VALIDATION_SEED
from raydeblend.train.epoch import Step
from raydeblend.train.isolated import (
    SMALL,
    TINY,
    TINY_TWO,
    TWO,
    UP_TO_THREE,
    BlendRun,
    IsolatedTraining,
    load_held_out,
    load_network,
    load_share,
)
from raydeblend.train.network_training import Networks
from raydeblend.train.peeling import PeelBatch
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.steps import counter_step
from raydeblend.train.streams import ResumableStep

EXAMPLES = 8
"""Images in each row of the picture on the board."""


@dataclass(frozen=True)
class CounterRun(BlendRun):
    """A run of the counter.

    Attributes
    ----------
    deblender
        Weights (a path, or a name of the shipped) that leave the residuals it learns from.
    """

    model: CounterConfig
    deblender: str | None = None

    def fitted(self) -> Self:
        """Return this with the channels that `bands` and `scaling` ask for."""
        channels = self.scaling.channels(len(self.bands))
        return replace(self, model=replace(self.model, in_channels=channels))


@dataclass(frozen=True)
class CounterData:
    """Isolated images, and the deblender whose residuals are classified too, if any."""

    isolated: IsolatedImages
    peel: Peel | None


# Wang et al. 2022, sections II.D and III.A.1: 400,000 images in batches of 200 are 2000 steps.
_PAPER = CounterRun(
    "counter", "paper", CounterConfig(), 200, 2000, 200, 0.1, optimizer="sgd",
    # Only the initial rate and the epochs are printed.  Decay and weight decay are those of
    # Zagoruyko & Komodakis 2016 (section 3) for the same two numbers.
    schedule="milestones", milestones=(0.3, 0.6, 0.8), decay=0.2, weight_decay=5e-4,
    recipe=replace(TWO, n_sources=UP_TO_THREE, noiseless=0.5),
    validation=8000,
)  # fmt: skip
PRESETS: Mapping[str, CounterRun] = {
    "paper": _PAPER,
    "small": replace(
        _PAPER,
        **SMALL,
        batch=64,
        epochs=12,
        learning_rate=2e-3,
        weight_decay=1e-3,
        scaling=Scaling("asinh"),
        model=CounterConfig(width_divisor=4, hidden=128, pooled=2, dropout=0.2),
        recipe=BlendRecipe(64, n_sources=(0.25, 0.25, 0.25, 0.15, 0.1), noiseless=0.3),
        residual_fraction=0.5,
        deblender="rdn",
    ),
    "tiny": replace(
        _PAPER,
        **TINY,
        learning_rate=0.02,
        model=CounterConfig(width_divisor=16, hidden=16, pooled=1, dropout=0.0),
        recipe=replace(TINY_TWO, n_sources=UP_TO_THREE, noiseless=0.5),
    ),
}


class CounterTraining(IsolatedTraining[CounterRun, CounterData]):
    """Classify blends of none to three galaxies, and what a deblender leaves of them (Eq. 2)."""

    exported: ClassVar[tuple[str, ...]] = ("counter",)
    columns: ClassVar[tuple[str, ...]] = ("counted 0", "1", "2", "3 or more")

    def check(self, root: str) -> None:
        """Check the deblender named in the configuration and the place of the shards."""
        super().check(root)
        self.load_peel(torch.device("cpu"))

    def load(
        self, paths: Sequence[str], rank: int, world: int, device: torch.device
    ) -> CounterData:
        """Return what worker `rank` of `world` trains on."""
        isolated = load_share(paths, rank, world, self.config.bands, device)
        return CounterData(isolated, self.load_peel(device))

    def load_validation(self, paths: Sequence[str], device: torch.device) -> CounterData:
        """Return the galaxies kept for validation."""
        isolated = load_held_out(paths, self.config.bands, device)
        return CounterData(isolated, self.load_peel(device))

    def load_peel(self, device: torch.device) -> Peel | None:
        """Return the deblender named in the configuration, None where it has none.

        Raises
        ------
        ConfigError
            If there are no such weights, or they are of other bands.
        """
        if self.config.deblender is None:
            return None
        network, card = load_network(self.config.deblender, "rdn", self.config.bands, device)
        return make_peel(network, card.scaling)

    def build(self) -> dict[str, nn.Module]:
        """Return the counter at random."""
        return {"counter": Counter(self.config.model)}

    def steps(
        self, state: TrainState, networks: Networks, data: CounterData, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch: classify a batch (Eq. 2)."""
        config = self.config
        batches = CountStream(
            data.isolated, config.recipe, n, seed, data.peel, config.residual_fraction
        )

        def step(number: int) -> dict[str, Tensor]:
            batch = next(batches)
            loss, accuracy = counter_step(
                networks["counter"], batch.image, batch.n_sources, config.scaling
            )
            self.descend(state, "counter", loss, learning_rate_at(config, number))
            update_averages(state, config.ema, number)
            return {"loss": loss.detach(), "training_accuracy": accuracy}

        return ResumableStep(step, batches)

    def validate(self, state: TrainState, held_out: CounterData) -> Scalars:
        """Return the accuracy on noisy, noiseless and once more peeled images, and per class."""
        return self.scores(state.final("counter"), held_out)

    def scores(self, network: nn.Module, held_out: CounterData) -> Scalars:
        """Return the accuracies of a counter on the device of the data."""
        right: dict[str, list[Tensor]] = {}
        for kind, batch in self._validation_batches(held_out):
            label = batch.n_sources.clamp(max=CLASSES - 1)
            hit = (classify(network, batch.image, self.config.scaling) == label).float()
            right.setdefault("accuracy", []).append(hit)
            right.setdefault(f"accuracy_{kind}", []).append(hit)
            for k in range(CLASSES):
                right.setdefault(f"accuracy_{k}", []).append(hit[label == k])
        joined = {name: torch.cat(hits) for name, hits in right.items()}
        return {name: float(hits.mean()) for name, hits in joined.items() if len(hits)}

    def picture(self, state: TrainState, held_out: CounterData) -> Tensor:
        """Draw held-out images, one column for each count that the network gives: 0, 1, 2, 3+."""
        scaling = self.config.scaling
        _, batch = next(self._validation_batches(held_out))
        counted = classify(state.final("counter"), batch.image, scaling)
        image = batch.image / scaling.apply(batch.image)[1]
        return draw_columns([_first(image[counted == k]) for k in range(CLASSES)])

    def _validation_batches(self, held_out: CounterData) -> Iterator[tuple[str, PeelBatch]]:
        chunks = -(-self.config.validation // (2 * VALIDATION_CHUNK))
        for kind, noiseless in (("noisy", 0.0), ("noiseless", 1.0)):
            recipe = replace(self.config.recipe, noiseless=noiseless)
            stream = CountStream(held_out.isolated, recipe, VALIDATION_CHUNK, VALIDATION_SEED)
            for batch in islice(stream, chunks):
                yield kind, batch
                if held_out.peel is not None and kind == "noisy":
                    yield "peeled", held_out.peel(batch.select(batch.n_sources > 0))


def _first(images: Tensor) -> Tensor:
    """Return the first `EXAMPLES` images, black ones where there are too few."""
    black = images.new_zeros(EXAMPLES, *images.shape[1:])
    return torch.cat([images, black])[:EXAMPLES]


@torch.no_grad()
def classify(network: nn.Module, image: Tensor, scaling: Scaling) -> Tensor:
    """Return the most likely class of each image ``(n, bands, y, x)``: 0, 1, 2, 3 or more."""
    network.eval()
    channels, _ = scaling.apply(image)
    logits = forward(network, channels)
    network.train()
    return torch.argmax(logits, dim=1)
