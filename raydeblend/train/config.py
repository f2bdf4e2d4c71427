"""What a training run is: every number of it, validated once, with a hash that names the run."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from raydeblend.errors import ConfigError
from raydeblend.networks.counter import CounterConfig
from raydeblend.networks.rdn import RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.survey import get_survey
from raydeblend.train.blends import BlendRecipe
from raydeblend.train.losses import DeblendLoss

COUNTER_MILESTONES = (0.3, 0.6, 0.8)
COUNTER_DECAY = 0.2
ISOLATED_SIZE = 96
"""Side of the isolated images; no blend can be larger."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes
    ----------
    network, preset
        Which network (``rdn`` or ``counter``) and which of its presets this began as.
    model
        Size of the network; its channels follow from `bands` and `scaling`.
    batch
        Blends per step, over all workers together.
    steps, epochs
        Steps per epoch, and epochs; no two epochs see the same blend.
    learning_rate, schedule, warmup
        See `learning_rate_at`; `warmup` is in steps.
    optimizer, momentum, weight_decay, clip
        ``adam`` (with decoupled decay) or ``sgd``; `momentum` is SGD's; `clip` limits the norm
        of the gradient (0: off).
    surveys, bands
        Whose PSF, noise and pixel scale the blends have; the galaxies are shared equally.
    catalog, held_out, faint
        CatSim table of galaxies (None: drawn from published distributions), the test set whose
        galaxies are left out of it, and the faintest i magnitude.
    n_galaxies, group
        Isolated galaxies to render, and how many of them share one PSF (one shard on disk).
    recipe, residual_fraction
        How blends are composed, and which part of a batch are residuals of the one before.
    deblender
        Weights (a path, or a name of the shipped) that leave the residuals for a counter.
    loss
        The deblender's.
    ema
        Decay per step of the averaged weights, which are validated and exported (0: off).
    validation
        Blends of galaxies that are never trained on, the same after every epoch.
    checkpoint_every
        Epochs between checkpoints.
    """

    network: str
    preset: str
    model: RdnConfig | CounterConfig
    batch: int
    steps: int
    epochs: int
    learning_rate: float
    schedule: str = "paper"
    warmup: int = 0
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 0.0
    surveys: tuple[str, ...] = ("LSST",)
    bands: tuple[str, ...] = ("g", "r", "i")
    catalog: str | None = None
    held_out: str | None = None
    faint: float = 25.3
    n_galaxies: int = 100_000
    group: int = 500
    scaling: Scaling = field(default_factory=Scaling)
    recipe: BlendRecipe = field(default_factory=BlendRecipe)
    residual_fraction: float = 0.0
    deblender: str | None = None
    loss: DeblendLoss = field(default_factory=DeblendLoss)
    ema: float = 0.0
    validation: int = 1000
    checkpoint_every: int = 1
    seed: int = 0


# Wang et al. 2022, sections II.D and III.A.1.  50,000 blends of two galaxies in batches of 128
# are 391 steps an epoch; 400,000 images in batches of 200 are 2000.
_TWO = BlendRecipe(stamp=80, max_shift=12, n_sources=(0, 0, 1, 0, 0), brighten=0.0)
_UP_TO_THREE = replace(_TWO, n_sources=(0.25, 0.25, 0.25, 0.25, 0), noiseless=0.5)
_RDN = TrainConfig("rdn", "paper", RdnConfig(), 128, 391, 150, 1e-4, recipe=_TWO)
_COUNTER = TrainConfig(
    "counter", "paper", CounterConfig(), 200, 2000, 200, 0.1, optimizer="sgd",
    # Not printed by Wang et al.; of the same source as the schedule, see learning_rate_at.
    weight_decay=5e-4,
    recipe=_UP_TO_THREE,
    validation=8000,
)  # fmt: skip

# What we ship: fewer maps at half resolution, and a loss for which faint blends count too.
_SMALL: dict[str, Any] = {
    "preset": "small",
    "steps": 500,
    "schedule": "cosine",
    "warmup": 300,
    "optimizer": "adam",
    "clip": 1.0,
    "surveys": ("LSST", "HSC"),
    "n_galaxies": 20_000,
    "group": 250,
    "ema": 0.999,
    "validation": 256,
}
_TINY: dict[str, Any] = {
    "preset": "tiny",
    "batch": 16,
    "steps": 12,
    "epochs": 3,
    "clip": 1.0,
    "n_galaxies": 64,
    "group": 32,
    "validation": 16,
}
PRESETS: dict[str, dict[str, TrainConfig]] = {
    "rdn": {
        "paper": _RDN,
        "small": replace(
            _RDN,
            **_SMALL,
            batch=32,
            epochs=40,
            learning_rate=1e-3,
            weight_decay=1e-4,
            scaling=Scaling("maximum+asinh"),
            model=RdnConfig(blocks=6, layers=4, features=48, growth=32, downscale=2),
            recipe=BlendRecipe(stamp=64),
            residual_fraction=0.4,
            loss=DeblendLoss("log_mse", flux_weight=0.2, tie_ratio=0.8),
        ),
        "tiny": replace(
            _RDN,
            **_TINY,
            learning_rate=2e-3,
            model=RdnConfig(blocks=2, layers=2, features=16, growth=8, downscale=2),
            recipe=replace(_TWO, stamp=32, max_shift=6),
        ),
    },
    "counter": {
        "paper": _COUNTER,
        "small": replace(
            _COUNTER,
            **_SMALL,
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
            _COUNTER,
            **_TINY,
            learning_rate=0.02,
            model=CounterConfig(width_divisor=16, hidden=16, pooled=1, dropout=0.0),
            recipe=replace(_UP_TO_THREE, stamp=32, max_shift=6),
        ),
    },
}


def get_config(network: str, preset: str = "paper", **overrides: Any) -> TrainConfig:
    """Return a preset with some of its fields replaced (those given as None are kept).

    Raises
    ------
    ConfigError
        If the network, the preset, a survey or a band is unknown, or a number is out of range.
    """
    if network not in PRESETS:
        raise ConfigError(f"unknown network {network!r}; known are {', '.join(PRESETS)}")
    if preset not in PRESETS[network]:
        raise ConfigError(f"unknown preset {preset!r}; known are {', '.join(PRESETS[network])}")
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = sorted(set(given) - {option.name for option in fields(TrainConfig)})
    if unknown:
        raise ConfigError(f"unknown training option {unknown[0]!r}")
    config = replace(PRESETS[network][preset], **given)
    _check(config)
    return replace(config, model=_fit_channels(config))


def _fit_channels(config: TrainConfig) -> RdnConfig | CounterConfig:
    channels, bands = config.scaling.channels(len(config.bands)), len(config.bands)
    if isinstance(config.model, RdnConfig):
        return replace(config.model, in_channels=channels, out_channels=bands)
    return replace(config.model, in_channels=channels)


def _check(config: TrainConfig) -> None:
    _check_sky(config)
    for name in ("batch", "steps", "epochs", "validation", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {getattr(config, name)}")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise ConfigError(f"learning_rate must be positive, not {config.learning_rate}")
    if config.group < 16 or config.n_galaxies < 16:
        raise ConfigError("n_galaxies and group must be at least 16: one in eight is validated on")
    if not 24 <= config.recipe.stamp <= ISOLATED_SIZE:
        raise ConfigError(f"stamp must be 24 to {ISOLATED_SIZE} pixels, not {config.recipe.stamp}")
    _check_choice("schedule", config.schedule, ("paper", "cosine"))
    _check_choice("optimizer", config.optimizer, ("adam", "sgd"))


def _check_sky(config: TrainConfig) -> None:
    if not config.surveys or not config.bands:
        raise ConfigError("at least one survey and one band are needed")
    for survey in config.surveys:
        for band in config.bands:
            get_survey(survey).band(band)


def _check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ConfigError(f"unknown {name} {value!r}; known are {', '.join(valid)}")


def check_workers(config: TrainConfig, workers: int) -> None:
    """Raise ConfigError unless `workers` can share a batch equally."""
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    if config.batch % workers:
        raise ConfigError(
            f"a batch of {config.batch} cannot be shared equally by {workers} workers"
        )


def learning_rate_at(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step, counted from 0 over all epochs.

    ``paper``: Wang et al. 2022, section III.A.1, keep 1e-4 for the RDN.  For the counter they
    print only the initial 0.1 and the 200 epochs; its decay, by 0.2 after 30, 60 and 80 % of the
    epochs, is that of Zagoruyko & Komodakis 2016 (section 3) for the same two numbers.
    ``cosine``: half a cosine down to a hundredth (Loshchilov & Hutter 2017, equation 5).
    The first `warmup` steps rise linearly.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup + 1))
    done = step / (config.steps * config.epochs)
    if config.schedule == "cosine":
        return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    if config.network == "counter":
        return rate * COUNTER_DECAY ** sum(done >= milestone for milestone in COUNTER_MILESTONES)
    return rate


def config_hash(config: TrainConfig) -> str:
    """Return the hash that names a run: equal for two runs if one may continue the other.

    `epochs` is left out, so that a finished run can be given more.
    """
    values = asdict(config)
    del values["epochs"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
