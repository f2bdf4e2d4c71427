"""What every training run has: sizes, rates, seed; a hash that names the run.

Each network extends `RunConfig` by what its data and losses need, next to its presets:
`raydeblend/train/<network>.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from raydeblend.config import check_seed
from raydeblend.errors import ConfigError
from raydeblend.networks.scaling import Scaling

SCHEDULES = ("constant", "milestones", "cosine")
NOT_HASHED = {"epochs", "images_at_once", "checkpoint_seconds"}


@dataclass(frozen=True)
class RunConfig(ABC):
    """One training run.

    Attributes
    ----------
    network, preset
        Which network and which of its presets this began as.
    model
        Size of the network, a frozen dataclass of `raydeblend/networks`.
    batch
        Images per step, over all workers together.
    steps, epochs
        Steps per epoch, and epochs.
    learning_rate, schedule, warmup, milestones, decay
        See `learning_rate_at`; `warmup` is in steps, `milestones` are parts of the run.
    clip
        Limit on the norm of a gradient (0: off).
    ema
        Decay per step of the averaged weights, which are validated and exported (0: off).
    bands
        In the order of the channels.
    scaling
        How images become input.
    validation
        Images that are never trained on, the same after every epoch.
    checkpoint_every, checkpoint_seconds
        Epochs between checkpoints, and the time after which one is made within an epoch.
    grace
        Epochs in which a generator's samples may still be all alike or all black.
    """

    network: str
    preset: str
    model: Any
    batch: int
    steps: int
    epochs: int
    learning_rate: float
    schedule: str = "constant"
    warmup: int = 0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    clip: float = 0.0
    ema: float = 0.0
    bands: tuple[str, ...] = ("g", "r", "i")
    scaling: Scaling = field(default_factory=Scaling)
    validation: int = 1000
    checkpoint_every: int = 1
    checkpoint_seconds: float = 600.0
    grace: int = 0
    seed: int = 0

    @abstractmethod
    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the training images, smallest and largest."""

    @abstractmethod
    def describe_data(self) -> str:
        """Return what the network is trained on, for the card."""

    def fitted(self) -> Self:
        """Return this with the model's channels as `bands` and `scaling` ask for."""
        return self

    def architecture(self, name: str) -> dict[str, Any]:
        """Return the configuration of an exported network, for its card."""
        return asdict(self.model)

    def scaling_of(self, name: str) -> Scaling:
        """Return the scaling of an exported network, for its card."""
        return self.scaling

    def check(self) -> None:
        """Raise ConfigError if a number is out of range; networks check their own fields too."""
        for name in ("batch", "steps", "epochs", "validation", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        check_positive("learning_rate", self.learning_rate)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_seed(self.seed)
        if not self.bands:
            raise ConfigError("at least one band is needed")


def check_positive(name: str, value: float) -> None:
    """Raise ConfigError unless `value` is a positive number."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be positive, not {value}")


def check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `valid`."""
    if value not in valid:
        raise ConfigError(f"unknown {name} {value!r}; known: {', '.join(valid)}")


def check_workers(config: RunConfig, workers: int, min_workers: int | None = None) -> None:
    """Raise ConfigError unless each number of workers that a run may have can share a batch.

    A fixed number shares it equally.  Where the number changes (`min_workers` to `workers`), each
    takes the whole part of its share, so that a step may have a few blends fewer.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    if min_workers is None and config.batch % workers:
        raise ConfigError(
            f"a batch of {config.batch} cannot be shared equally by {workers} workers"
        )
    if min_workers is not None and not 1 <= min_workers <= workers <= config.batch:
        raise ConfigError(
            f"{min_workers} to {workers} workers with a batch of {config.batch}: the smaller "
            "number must be at least 1, and the larger one at most the batch"
        )


def learning_rate_at(config: RunConfig, step: int, rate: float | None = None) -> float:
    """Return the learning rate of a step, counted from 0 over all epochs.

    ``constant``: `rate`, by default that of the configuration.  ``milestones``: times `decay`
    after each of these parts of the run.  ``cosine``: half a cosine down to a hundredth
    (Loshchilov & Hutter 2017, equation 5).  The first `warmup` steps rise linearly.
    """
    base = (config.learning_rate if rate is None else rate) * min(
        1.0, (step + 1) / (config.warmup + 1)
    )
    done = step / (config.steps * config.epochs)
    if config.schedule == "cosine":
        return base * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    if config.schedule == "milestones":
        return base * config.decay ** sum(done >= milestone for milestone in config.milestones)
    return base


def config_hash(config: RunConfig) -> str:
    """Return the hash that names a run: equal for two runs if one may continue the other.

    `epochs` is left out, so that a finished run can be given more; so are how many images are in
    memory at once, so that it can go on where there is less, and when checkpoints are made.
    """
    values = asdict(config)
    for name in NOT_HASHED & set(values):
        del values[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
