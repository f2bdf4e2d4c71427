"""Phase two of Wang et al. 2022: deblender and counter trained together (section II.E)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.counter import CLASSES, Counter, CounterConfig
from raydeblend.networks.forward import forward
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.config import check_positive, learning_rate_at
from raydeblend.train.counter import PRESETS as COUNTER_PRESETS
from raydeblend.train.counter import CounterData, CounterRun, CounterTraining
from raydeblend.train.counting import make_peel
from raydeblend.train.epoch import Step
from raydeblend.train.isolated import (
    TINY,
    TINY_TWO,
    TWO,
    UP_TO_THREE,
    BlendTraining,
    load_network,
)
from raydeblend.train.network_training import Networks
from raydeblend.train.peeling import PeelBatch, fresh_blends
from raydeblend.train.rdn import PRESETS as RDN_PRESETS
from raydeblend.train.rdn import DeblenderRun, RdnRun, RdnTraining, fit_channels
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.steps import rdn_step
from raydeblend.train.streams import RandomStream, ResumableStep

PEELS = 2
"""The deblender is run twice because the input contains two galaxies."""
# Of the seven images of S: I_blend holds 2 galaxies, res-1, deblend-1, deblend-2, gt-1 and gt-2
# one each, res-2 none.  One-galaxy images weigh 0.2, so that each class weighs the same.
ALPHA_ONE = 0.2


@dataclass(frozen=True)
class RdnJointModel:
    """Sizes of the two networks."""

    rdn: RdnConfig = field(default_factory=RdnConfig)
    counter: CounterConfig = field(default_factory=CounterConfig)


@dataclass(frozen=True)
class RdnJointRun(DeblenderRun):
    """A run of phase two.

    Attributes
    ----------
    learning_rate, counter_rate
        Of the deblender and of the counter.
    trade_off
        Lambda of Eq. 4.
    counter_scaling
        The counter's; `scaling` is the deblender's.
    rdn_weights, counter_weights
        Where phase one's networks are: paths, or names of the shipped.  None: there are no
        shipped weights of this size, the user must name some.
    """

    model: RdnJointModel
    counter_rate: float = 1e-6
    trade_off: float = 1e-4
    counter_scaling: Scaling = field(default_factory=Scaling)
    rdn_weights: str | None = None
    counter_weights: str | None = None

    def fitted(self) -> Self:
        """Return this with the channels that `bands` and the scalings ask for."""
        channels = self.counter_scaling.channels(len(self.bands))
        rdn = fit_channels(self.model.rdn, self.bands, self.scaling)
        counter = replace(self.model.counter, in_channels=channels)
        return replace(self, model=RdnJointModel(rdn, counter))

    def check(self) -> None:
        """Raise ConfigError if a number is out of range."""
        super().check()
        check_positive("counter_rate", self.counter_rate)
        check_positive("trade_off", self.trade_off)

    def architecture(self, name: str) -> dict[str, Any]:
        """Return the configuration of one of the networks."""
        return asdict(self.model)[name]  # type: ignore[no-any-return]

    def scaling_of(self, name: str) -> Scaling:
        """Return the scaling of one of the networks."""
        return self.scaling if name == "rdn" else self.counter_scaling

    def rdn_run(self) -> RdnRun:
        """Return what the deblender's scores need."""
        return replace(
            RDN_PRESETS[self.preset],
            model=self.model.rdn,
            scaling=self.scaling,
            loss=self.loss,
            recipe=self.recipe,
            bands=self.bands,
            validation=self.validation,
        )

    def counter_run(self) -> CounterRun:
        """Return what the counter's scores need: blends of none to three galaxies."""
        return replace(
            COUNTER_PRESETS[self.preset],
            model=self.model.counter,
            scaling=self.counter_scaling,
            recipe=replace(self.recipe, n_sources=UP_TO_THREE, noiseless=0.5),
            bands=self.bands,
            validation=self.validation,
        )


# Section III.A.1: learning rates 1e-5 and 1e-6, lambda 1e-4, batches of 8, 10 epochs; an epoch
# shows the 50,000 blends of two galaxies of phase one.  The optimizer is not printed: Adam.
_PAPER = RdnJointRun(
    "rdn-joint", "paper", RdnJointModel(), 8, 6250, 10, 1e-5, recipe=TWO, images_at_once=4
)
_SHIPPED: dict[str, Any] = {
    "model": RdnJointModel(RDN_PRESETS["small"].model, COUNTER_PRESETS["small"].model),
    "scaling": RDN_PRESETS["small"].scaling,
    "counter_scaling": COUNTER_PRESETS["small"].scaling,
    "loss": RDN_PRESETS["small"].loss,
    "images_at_once": 0,
    # d(l + lambda c) / l = d log(l) + (lambda / l) c: for the logarithm of the error the printed
    # 1e-4 is to be divided by a typical l_RDN, 1e-3.
    "trade_off": 0.1,
    "rdn_weights": "rdn",
    "counter_weights": "counter",
}
PRESETS: Mapping[str, RdnJointRun] = {
    "paper": _PAPER,
    "small": replace(
        _PAPER,
        **_SHIPPED,
        preset="small",
        batch=16,
        steps=500,
        clip=1.0,
        surveys=("LSST", "HSC"),
        n_galaxies=20_000,
        group=250,
        validation=256,
        recipe=replace(TWO, stamp=64),
    ),
    # Not smaller: the shipped counter knows crops of 48 pixels and more.
    "tiny": replace(
        _PAPER, **_SHIPPED, **TINY | {"batch": 8, "steps": 6}, recipe=replace(TINY_TWO, stamp=48)
    ),
}


@dataclass(frozen=True)
class Peels:
    """The images of S, in noise units: the blend, and models and residuals of both peels.

    Attributes
    ----------
    batch
        The blends and their galaxies.
    models, residuals
        Of each peel, ``(n, bands, y, x)``.
    """

    batch: PeelBatch
    models: Sequence[Tensor]
    residuals: Sequence[Tensor]

    def labeled(self) -> list[tuple[Tensor, int]]:
        """Return all of S, each with the number of galaxies in it."""
        truth = [self.batch.sources[:, k] for k in range(PEELS)]
        ones = [*self.models, *truth, self.residuals[0]]
        return [(self.batch.image, 2), *((image, 1) for image in ones), (self.residuals[1], 0)]


Peeled = tuple[Tensor, Tensor, Peels]
"""Shares of Eq. 4 and of its first term, and the peels, of a part of a batch."""


class RdnJointTraining(BlendTraining[RdnJointRun]):
    """Train phase one's deblender by Eq. 4 and its counter by Eq. 3, on the same blends."""

    exported: ClassVar[tuple[str, ...]] = ("rdn", "counter")
    columns: ClassVar[tuple[str, ...]] = ("blend", "model", "truth", "residual")

    def check(self, root: str) -> None:
        """Check that phase one's networks are there and of the right size, and the shards."""
        super().check(root)
        self.build()

    def build(self) -> dict[str, nn.Module]:
        """Return the two networks as phase one left them."""
        return {name: self._phase_one(name) for name in self.exported}

    def _phase_one(self, name: str) -> nn.Module:
        config = self.config
        weights = config.rdn_weights if name == "rdn" else config.counter_weights
        if weights is None:
            raise ConfigError(
                f"{config.network} {config.preset} goes on from phase one: "
                f"--{name}-weights must name a trained {name} of the same preset"
            )
        network, card = load_network(weights, name, config.bands, torch.device("cpu"))
        same_size = isinstance(network, Rdn | Counter) and (
            asdict(network.config) == config.architecture(name)
        )
        if not same_size or card.scaling != config.scaling_of(name):
            raise ConfigError(f"{weights} is not a {name} of the preset {config.preset}")
        return network

    def steps(
        self, state: TrainState, networks: Networks, data: IsolatedImages, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch: the deblender by Eq. 4, the counter by Eq. 3.

        Each batch of S holds other proportions of images than a counter will see; its batch
        statistics therefore stay those of phase one (the paper does not say).
        """
        config, counter = self.config, state.networks["counter"]
        counter.eval()
        generator = torch.Generator(data.images.device).manual_seed(seed)

        def step(number: int) -> dict[str, Tensor]:
            batch, peeled = fresh_blends(data, config.recipe, n, generator), list[Peeled]()
            losses = self._deblender_losses(networks["rdn"], counter, batch, peeled)
            self.descend_in_parts(state, "rdn", losses, learning_rate_at(config, number))
            loss, deblend, peels = zip(*peeled, strict=True)
            counted = list[Tensor]()
            losses = self._counter_losses(networks["counter"], peels, counted)
            rate = learning_rate_at(config, number, config.counter_rate)
            self.descend_in_parts(state, "counter", losses, rate)
            update_averages(state, config.ema, number)
            parts = {"loss": loss, "loss_rdn": deblend, "loss_counter": counted}
            return {name: torch.stack(list(values)).sum() for name, values in parts.items()}

        return ResumableStep(step, RandomStream(generator))

    def _deblender_losses(
        self, rdn: nn.Module, counter: nn.Module, batch: PeelBatch, peeled: list[Peeled]
    ) -> Iterator[Tensor]:
        """Yield each part's share of Eq. 4; add what it gave to `peeled`."""
        for part in batch.parts(self.config.images_at_once):
            share = len(part.n_sources) / len(batch.n_sources)
            loss, deblend, peels = self.deblender_loss(rdn, counter, part)
            peeled.append((share * loss.detach(), share * deblend, peels))
            yield share * loss

    def _counter_losses(
        self, counter: nn.Module, peels: Sequence[Peels], counted: list[Tensor]
    ) -> Iterator[Tensor]:
        """Yield each part's share of Eq. 3; add it to `counted`."""
        n = sum(len(part.batch.n_sources) for part in peels)
        for part in peels:
            loss = len(part.batch.n_sources) / n * self.counter_loss(counter, part)
            counted.append(loss.detach())
            yield loss

    def deblender_loss(
        self, rdn: nn.Module, counter: nn.Module, batch: PeelBatch
    ) -> tuple[Tensor, Tensor, Peels]:
        """Peel twice; return Eq. 4, its first term, and the images for the counter, detached.

        l_CE(I_deblend) is over the deblended images of both peels, which hold one galaxy each.
        """
        deblend, first, chosen = rdn_step(rdn, batch, self.config.scaling, self.config.loss)
        left = batch.peel(first, chosen)
        # "divided by the maximum", and scaled back: as `Scaling.apply` does for every image.  The
        # residual is an input, through which no gradient goes back into the first peel.
        channels, maximum = self.config.scaling.apply(left.image.detach())
        second = forward(rdn, channels) * maximum
        logits = self.count_logits(counter, torch.cat([first, second]))
        one = torch.ones(len(logits), dtype=torch.long, device=logits.device)
        counted = F.cross_entropy(logits, one)
        residuals = [left.image.detach(), (left.image - second).detach()]
        peels = Peels(batch, [first.detach(), second.detach()], residuals)
        return deblend + self.config.trade_off * counted, deblend.detach(), peels

    def counter_loss(self, counter: nn.Module, peels: Peels) -> Tensor:
        """Eq. 3: the weighted cross-entropy of all images of S, each a mean over the batch."""
        images, labels = zip(*peels.labeled(), strict=True)
        n = len(images[0])
        logits = self.count_logits(counter, torch.cat(images))
        label = torch.tensor(labels, device=logits.device).repeat_interleave(n)
        each = F.cross_entropy(logits, label, reduction="none")
        alpha = torch.where(label == 1, ALPHA_ONE, 1.0)
        return (alpha * each).sum() / n

    def count_logits(self, counter: nn.Module, image: Tensor) -> Tensor:
        """Return the counter's logits ``(n, CLASSES)`` of images in noise units."""
        logits = forward(counter, self.config.counter_scaling.apply(image)[0])
        return logits.view(-1, CLASSES)

    def validate(self, state: TrainState, held_out: IsolatedImages) -> Scalars:
        """Return the scores of phase one for both networks."""
        rdn = state.final("rdn")
        scores = RdnTraining(self.config.rdn_run()).scores(rdn, held_out)
        rdn.eval()
        counted = CounterData(held_out, make_peel(rdn, self.config.scaling))
        counter_training = CounterTraining(self.config.counter_run())
        scores |= counter_training.scores(state.final("counter"), counted)
        rdn.train()
        return scores

    def picture(self, state: TrainState, held_out: IsolatedImages) -> Tensor:
        """Draw blend, model, truth and residual of a few held-out blends, a row each."""
        return RdnTraining(self.config.rdn_run()).draw(state.final("rdn"), held_out)
