"""Phase two of Wang et al. 2022: deblender and counter trained together (section II.E)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.counter import CLASSES, CounterConfig
from raydeblend.networks.forward import forward
from raydeblend.networks.rdn import RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import IsolatedImages, compose
from raydeblend.train.config import check_positive, learning_rate_at
from raydeblend.train.counter import PRESETS as COUNTER_PRESETS
from raydeblend.train.counter import CounterData, CounterRun, count_scores
from raydeblend.train.counting import make_peel
from raydeblend.train.epoch import descend
from raydeblend.train.family import Family, Step
from raydeblend.train.isolated import (
    TINY,
    TINY_TWO,
    TWO,
    UP_TO_THREE,
    BlendRun,
    check_shards,
    load_held_out,
    load_network,
    load_share,
    make_optimizer,
    render_shards,
)
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.peeling import PeelBatch
from raydeblend.train.rdn import PRESETS as RDN_PRESETS
from raydeblend.train.rdn import RdnRun, draw_peels, fit_channels, peel_scores
from raydeblend.train.state import Scalars, TrainState, start_state, update_averages

PEELS = 2
"""The deblender is run twice because the input contains two galaxies."""
# Of the seven images of S: I_blend holds 2 galaxies, res-1, deblend-1, deblend-2, gt-1 and gt-2
# one each, res-2 none.  One-galaxy images weigh 0.2, so that each class weighs the same.
ALPHA_ONE = 0.2


@dataclass(frozen=True)
class JointModel:
    """Sizes of the two networks."""

    rdn: RdnConfig = field(default_factory=RdnConfig)
    counter: CounterConfig = field(default_factory=CounterConfig)


@dataclass(frozen=True)
class JointRun(BlendRun):
    """A run of phase two.

    Attributes
    ----------
    learning_rate, counter_rate
        Of the deblender and of the counter.
    trade_off
        Lambda of Eq. 4.
    loss
        The deblender's, l_RDN of Eq. 4.
    counter_scaling
        The counter's; `scaling` is the deblender's.
    rdn_weights, counter_weights
        Where phase one's networks are: paths, or names of the shipped.  None: there are no
        shipped weights of this size, the user must name some.
    """

    model: JointModel
    counter_rate: float = 1e-6
    trade_off: float = 1e-4
    loss: DeblendLoss = field(default_factory=DeblendLoss)
    counter_scaling: Scaling = field(default_factory=Scaling)
    rdn_weights: str | None = None
    counter_weights: str | None = None

    def fitted(self) -> Self:
        """Return this with the channels that `bands` and the scalings ask for."""
        channels = self.counter_scaling.channels(len(self.bands))
        rdn = fit_channels(self.model.rdn, self.bands, self.scaling)
        counter = replace(self.model.counter, in_channels=channels)
        return replace(self, model=JointModel(rdn, counter))

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
_PAPER = JointRun("rdn-joint", "paper", JointModel(), 8, 6250, 10, 1e-5, recipe=TWO)
_SHIPPED: dict[str, Any] = {
    "model": JointModel(RDN_PRESETS["small"].model, COUNTER_PRESETS["small"].model),
    "scaling": RDN_PRESETS["small"].scaling,
    "counter_scaling": COUNTER_PRESETS["small"].scaling,
    "loss": RDN_PRESETS["small"].loss,
    # d(l + lambda c) / l = d log(l) + (lambda / l) c: for the logarithm of the error the printed
    # 1e-4 is to be divided by a typical l_RDN, 1e-3.
    "trade_off": 0.1,
    "rdn_weights": "rdn",
    "counter_weights": "counter",
}
PRESETS: Mapping[str, JointRun] = {
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

    def labelled(self) -> list[tuple[Tensor, int]]:
        """Return all of S, each with the number of galaxies in it."""
        truth = [self.batch.sources[:, k] for k in range(PEELS)]
        ones = [*self.models, *truth, self.residuals[0]]
        return [(self.batch.image, 2), *((image, 1) for image in ones), (self.residuals[1], 0)]


def check(config: JointRun, root: str) -> None:
    """Check that phase one's networks are there and of the right size, and the shards."""
    check_shards(config, root)
    _phase_one(config, torch.device("cpu"))


def _phase_one(config: JointRun, device: torch.device) -> dict[str, nn.Module]:
    """Return the two networks as phase one left them."""
    given = {"rdn": config.rdn_weights, "counter": config.counter_weights}
    networks = {}
    for name, weights in given.items():
        if weights is None:
            raise ConfigError(
                f"{config.network} {config.preset} goes on from phase one: "
                f"--{name}-weights must name a trained {name} of the same preset"
            )
        network, card = load_network(weights, name, config.bands, device)
        same_size = dict(card.architecture) == config.architecture(name)
        if not same_size or card.scaling != config.scaling_of(name):
            raise ConfigError(f"{weights} is not a {name} of the preset {config.preset}")
        networks[name] = network
    return networks


def start(config: JointRun, device: torch.device) -> TrainState:
    """Return the state before the first epoch: phase one's networks."""
    torch.manual_seed(config.seed)
    averaged = ("rdn", "counter") if config.ema else ()
    return start_state(
        _phase_one(config, device), partial(make_optimizer, config), device, averaged
    )


def make_steps(
    config: JointRun,
    state: TrainState,
    networks: Mapping[str, nn.Module],
    isolated: IsolatedImages,
    n: int,
    seed: int,
) -> Step:
    """Return the step function of one epoch: the deblender by Eq. 4, the counter by Eq. 3.

    Each batch of S holds other proportions of images than a counter will see; its batch
    statistics therefore stay those of phase one (the paper does not say).
    """
    state.networks["counter"].eval()
    generator = torch.Generator(isolated.images.device).manual_seed(seed)

    def step(number: int) -> dict[str, Tensor]:
        blends = compose(isolated, n, config.recipe, generator)
        batch = PeelBatch(blends.blend, blends.sources, blends.n_sources)
        loss, deblend, peels = deblender_loss(
            config, networks["rdn"], state.networks["counter"], batch
        )
        rate = learning_rate_at(config, number)
        descend(state.optimizers["rdn"], loss, rate, config.clip)
        counted = counter_loss(config, networks["counter"], peels)
        rate = learning_rate_at(config, number, config.counter_rate)
        descend(state.optimizers["counter"], counted, rate, config.clip)
        update_averages(state, config.ema, number)
        return {"loss": loss.detach(), "loss_rdn": deblend, "loss_counter": counted.detach()}

    return step


def deblender_loss(
    config: JointRun, rdn: nn.Module, counter: nn.Module, batch: PeelBatch
) -> tuple[Tensor, Tensor, Peels]:
    """Peel twice; return Eq. 4, its first term, and the images for the counter, detached.

    l_CE(I_deblend) is over the deblended images of both peels, which hold one galaxy each.
    """
    first, chosen, deblend = _first_peel(config, rdn, batch)
    left = batch.peel(first, chosen)
    # "divided by the maximum", and scaled back: as `Scaling.apply` does for every image.  The
    # residual is an input, through which no gradient goes back into the first peel.
    channels, maximum = config.scaling.apply(left.image.detach())
    second = forward(rdn, channels) * maximum
    said = count_logits(config, counter, torch.cat([first, second]))
    counted = F.cross_entropy(said, torch.ones(len(said), dtype=torch.long, device=said.device))
    residuals = [left.image.detach(), (left.image - second).detach()]
    peels = Peels(batch, [first.detach(), second.detach()], residuals)
    return deblend + config.trade_off * counted, deblend.detach(), peels


def _first_peel(
    config: JointRun, rdn: nn.Module, batch: PeelBatch
) -> tuple[Tensor, Tensor, Tensor]:
    channels, maximum = config.scaling.apply(batch.image)
    model = forward(rdn, channels)
    loss, chosen = config.loss(model, batch.sources / maximum[:, None])
    return model * maximum, chosen, loss


def counter_loss(config: JointRun, counter: nn.Module, peels: Peels) -> Tensor:
    """Eq. 3: the weighted cross-entropy of all images of S, each a mean over the batch."""
    images, labels = zip(*peels.labelled(), strict=True)
    n = len(images[0])
    logits = count_logits(config, counter, torch.cat(images))
    label = torch.tensor(labels, device=logits.device).repeat_interleave(n)
    each = F.cross_entropy(logits, label, reduction="none")
    alpha = torch.where(label == 1, ALPHA_ONE, 1.0)
    return (alpha * each).sum() / n


def count_logits(config: JointRun, counter: nn.Module, image: Tensor) -> Tensor:
    """Return the counter's logits ``(n, CLASSES)`` of images in noise units."""
    logits = forward(counter, config.counter_scaling.apply(image)[0])
    return logits.view(-1, CLASSES)


def validate(config: JointRun, state: TrainState, held_out: IsolatedImages) -> Scalars:
    """Return the scores of phase one for both networks."""
    rdn = state.final("rdn")
    scores = peel_scores(rdn, config.rdn_run(), held_out)
    rdn.eval()
    counted = CounterData(held_out, make_peel(rdn, config.scaling))
    scores |= count_scores(state.final("counter"), config.counter_run(), counted)
    rdn.train()
    return scores


def picture(config: JointRun, state: TrainState, held_out: IsolatedImages) -> Tensor:
    """Draw blend, model, truth and residual of a few held-out blends, a row each."""
    return draw_peels(state.final("rdn"), config.rdn_run(), held_out)


FAMILY = Family(
    exported=("rdn", "counter"),
    check=check,
    prepare=render_shards,
    load=load_share,
    load_validation=load_held_out,
    start=start,
    steps=make_steps,
    validate=validate,
    picture=picture,
)
