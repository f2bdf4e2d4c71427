"""What `rdn`, `counter`, `rdn-joint` and `branched` share: training on blends of isolated images.

The driver renders isolated images into shards, workers hold their share of them in memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.networks.weights import Card, load_weights, weights_path
from raydeblend.simulate.shards import IsolatedConfig, check_isolated, render_isolated
from raydeblend.survey import Survey, get_survey
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.config import RunConfig, check_choice
from raydeblend.train.data import load_isolated, worker_share
from raydeblend.train.network_training import D, NetworkTraining

ISOLATED_SIZE = 96
"""Side of the isolated images; no blend can be larger."""


@dataclass(frozen=True)
class BlendRun(RunConfig):
    """A run on blends of isolated images; no two epochs see the same blend.

    Attributes
    ----------
    optimizer, momentum, weight_decay
        ``adam`` (with decoupled decay) or ``sgd``; `momentum` is SGD's.
    surveys
        Whose PSF, noise and pixel scale the blends have (`raydeblend.survey.survey_key`); the
        galaxies are shared equally.
    catalog, held_out, faint
        CatSim table of galaxies (None: drawn from published distributions), the test set whose
        galaxies are left out of it, and the faintest i magnitude.
    n_galaxies, group
        Isolated galaxies to render, and how many of them share one PSF (one shard on disk).
    recipe, residual_fraction
        How blends are composed, and which part of a batch are residuals of the one before.
    """

    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    surveys: tuple[str, ...] = ("LSST",)
    catalog: str | None = None
    held_out: str | None = None
    faint: float = 25.3
    n_galaxies: int = 100_000
    group: int = 500
    recipe: BlendRecipe = field(default_factory=BlendRecipe)
    residual_fraction: float = 0.0

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the surveys, smallest and largest."""
        scales = [get_survey(survey).pixel_scale for survey in self.surveys]
        return min(scales), max(scales)

    def describe_data(self) -> str:
        """Return how many galaxies of which kind."""
        galaxies = os.path.basename(self.catalog) if self.catalog else "drawn galaxies"
        surveys = " and ".join(get_survey(survey).name for survey in self.surveys)
        return f"{surveys}: {self.n_galaxies} images of {galaxies}, i < {self.faint}"

    def check(self) -> None:
        """Raise ConfigError if a survey or a band is unknown, or a number is out of range."""
        if not self.surveys or not self.bands:
            raise ConfigError("at least one survey and one band are needed")
        surveys = [get_survey(survey) for survey in self.surveys]
        if len({survey.name for survey in surveys}) < len(surveys):
            raise ConfigError(
                f"a survey is given twice in {', '.join(survey.name for survey in surveys)}"
            )
        self.check_bands(surveys)
        super().check()
        if self.group < 16 or self.n_galaxies < 16:
            raise ConfigError(
                "n_galaxies and group must be at least 16: one in eight is validated on"
            )
        if not 24 <= self.recipe.stamp <= ISOLATED_SIZE:
            raise ConfigError(
                f"stamp must be 24 to {ISOLATED_SIZE} pixels, not {self.recipe.stamp}"
            )
        check_choice("optimizer", self.optimizer, ("adam", "sgd"))

    def check_bands(self, surveys: Sequence[Survey]) -> None:
        """Raise ConfigError unless the surveys have the bands that are needed: all of them."""
        for survey in surveys:
            for band in self.bands:
                survey.band(band)


UP_TO_THREE: tuple[float, float, float, float, float] = (0.25, 0.25, 0.25, 0.25, 0.0)
"""The counter's classes, equally often."""

# Wang et al. 2022, section II.D.
TWO = BlendRecipe(stamp=80, max_shift=12, n_sources=(0, 0, 1, 0, 0), brighten=0.0)
TINY_TWO = replace(TWO, stamp=32, max_shift=6)

# What we ship: fewer maps at half resolution, and a loss for which faint blends count too.
SMALL: dict[str, Any] = {
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
TINY: dict[str, Any] = {
    "preset": "tiny",
    "batch": 16,
    "steps": 12,
    "epochs": 3,
    "clip": 1.0,
    "n_galaxies": 64,
    "group": 32,
    "validation": 16,
}


R = TypeVar("R", bound=BlendRun)


class IsolatedTraining(NetworkTraining[R, D, D], Generic[R, D]):
    """Training from shards of isolated images, whatever a worker makes of them."""

    def check(self, root: str) -> None:
        """Check that isolated images can be rendered into `root`."""
        check_shards(self.config, root)

    def prepare(self, root: str) -> tuple[str, ...]:
        """Render the isolated images into `root`; return the shards."""
        return render_shards(self.config, root)

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer that the configuration names."""
        config, parameters = self.config, network.parameters()
        rate, decay = config.learning_rate, config.weight_decay
        if config.optimizer == "sgd":
            return torch.optim.SGD(parameters, rate, config.momentum, weight_decay=decay)
        return torch.optim.AdamW(parameters, rate, weight_decay=decay)


class BlendTraining(IsolatedTraining[R, IsolatedImages], Generic[R]):
    """Training on blends of isolated images and nothing else."""

    def load(
        self, paths: Sequence[str], rank: int, world: int, device: torch.device
    ) -> IsolatedImages:
        """Return the galaxies that worker `rank` of `world` trains on."""
        return load_share(paths, rank, world, self.config.bands, device)

    def load_validation(self, paths: Sequence[str], device: torch.device) -> IsolatedImages:
        """Return the galaxies kept for validation, of all shards."""
        return load_held_out(paths, self.config.bands, device)


def check_shards(config: BlendRun, root: str) -> None:
    """Check that isolated images can be rendered into `root`, see `check_isolated`."""
    for folder, images in isolated_of(config, root).items():
        check_isolated(folder, images)


def render_shards(config: BlendRun, root: str) -> tuple[str, ...]:
    """Render the isolated images of every survey into `root`; return the shards."""
    isolated = isolated_of(config, root)
    share = -(-config.n_galaxies // len(isolated))
    shards = [render_isolated(folder, images, share) for folder, images in isolated.items()]
    return tuple(path for paths in shards for path in paths)


def isolated_of(config: BlendRun, root: str) -> dict[str, IsolatedConfig]:
    """Return the isolated images of each survey, by their directory."""
    return {
        storage.join(root, get_survey(survey).name): IsolatedConfig(
            survey=survey,
            bands=config.bands,
            group=config.group,
            seed=config.seed + number,
            size=ISOLATED_SIZE,
            faint=config.faint,
            catalog=config.catalog,
            held_out=config.held_out,
        )
        for number, survey in enumerate(config.surveys)
    }


def load_share(
    paths: Sequence[str], rank: int, world: int, bands: tuple[str, ...], device: torch.device
) -> IsolatedImages:
    """Return the galaxies that worker `rank` of `world` trains on."""
    return load_isolated(worker_share(paths, rank, world), bands).to(device)


def load_held_out(
    paths: Sequence[str], bands: tuple[str, ...], device: torch.device
) -> IsolatedImages:
    """Return the galaxies kept for validation, of all shards."""
    return load_isolated(paths, bands, validation=True).to(device)


def load_network(
    name: str, network: str, bands: tuple[str, ...], device: torch.device
) -> tuple[nn.Module, Card]:
    """Load weights by path or shipped name.

    Raises
    ------
    ConfigError
        If there are none, or they are not of the kind `network` and of these bands.
    """
    path = weights_path(name)
    loaded, card = load_weights(path, device)
    # A network of phase two is as good as one of phase one.
    kinds = {"rdn": ("rdn", "rdn-joint"), "counter": ("counter", "rdn-joint-counter")}[network]
    if card.network not in kinds or card.bands != bands:
        raise ConfigError(
            f"{path} is a {card.network} of {', '.join(card.bands)}, "
            f"not the {network} of {', '.join(bands)} that is needed"
        )
    return loaded, card
