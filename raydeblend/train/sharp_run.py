"""What the trainings on pairs of low and high resolution share: galaxies, recipe, a generator."""

from __future__ import annotations

import hashlib
import io
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.instruments import FACTOR, FINE_SCALE, check_hst_bands
from raydeblend.networks.srgan import Srgan, SrganConfig, widened
from raydeblend.networks.weights import load_weights, weights_path
from raydeblend.simulate.hst import load_hst
from raydeblend.simulate.sharp import SharpGalaxies, draw_sharp, join, real_sharp
from raydeblend.simulate.sharp_blends import reference_band
from raydeblend.train.config import RunConfig
from raydeblend.train.epoch import Step
from raydeblend.train.network_training import Networks, NetworkTraining
from raydeblend.train.srgan_data import (
    PairBatch,
    PairRecipe,
    SharpPool,
    compose_pairs,
    make_pool,
)
from raydeblend.train.state import TrainState, update_averages
from raydeblend.train.streams import RandomStream, ResumableStep

SHARP_SIZE = 72
"""Side of the single galaxies in fine pixels, 4.3 arcsec."""


@dataclass(frozen=True)
class SharpRun(RunConfig):
    """A run on pairs of low and high resolution.

    Attributes
    ----------
    data
        Folder of real HST galaxies (see `raydeblend.simulate.hst`); None: parametric ones only.
    n_galaxies, real_fraction, faint
        Images of single galaxies; which part of them are real where there is `data`; their
        faintest i magnitude (AB).
    recipe
        How they are blended and degraded.
    srgan_weights
        Shipped name or file of a generator to start from, of as many bands or of one (`widened`);
        layers that it lacks start at random.
    """

    data: str | None = None
    n_galaxies: int = 6000
    real_fraction: float = 0.5
    faint: float = 25.2
    recipe: PairRecipe = field(default_factory=PairRecipe)
    srgan_weights: str | None = None

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the input."""
        return FACTOR * FINE_SCALE, FACTOR * FINE_SCALE

    def describe_data(self) -> str:
        """Return which galaxies."""
        percent = round(100 * self.real_fraction) if self.data else 0
        return (
            f"blends of up to three of {self.n_galaxies} galaxies, {percent} % of them real HST "
            f"stamps, i < {self.faint}, degraded to HSC's PSF, 0.18 arcsec and depth"
        )

    def check(self) -> None:
        """Raise ConfigError if a band is unknown or a number is out of range."""
        super().check()
        check_hst_bands(self.bands)
        if self.n_galaxies < 32:
            raise ConfigError(f"n_galaxies must be at least 32, not {self.n_galaxies}")
        if not 0 <= self.real_fraction <= 1:
            raise ConfigError(f"real_fraction must be 0 to 1, not {self.real_fraction}")


R = TypeVar("R", bound=SharpRun)


class SharpTraining(NetworkTraining[R, SharpPool, SharpPool]):
    """Such a run: its data are single galaxies, drawn and read once; each step blends new pairs."""

    def check(self, root: str) -> None:
        """Raise ConfigError unless the real galaxies and the weights to start from can be used."""
        if self.config.data is not None:
            load_hst(self.config.data, limit=1)
        if self.config.srgan_weights is not None:
            self.build()

    def prepare(self, root: str) -> tuple[str, ...]:
        """Draw and read the single galaxies, once for one configuration; return the file's path."""
        path = storage.join(root, f"sharp-{_data_hash(self.config)}.npz")
        if not storage.exists(path):
            galaxies = make_galaxies(self.config)
            buffer = io.BytesIO()
            np.savez(buffer, images=galaxies.images, galaxy=galaxies.galaxy)
            storage.write_bytes(path, buffer.getvalue())
        return (path,)

    def load(self, paths: Sequence[str], rank: int, world: int, device: torch.device) -> SharpPool:
        """Return all galaxies to train on; each worker blends them differently."""
        return self._read(paths[0], validation=False).to(device)

    def steps(
        self, state: TrainState, networks: Networks, data: SharpPool, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch: an `update` by new pairs."""
        generator = torch.Generator(data.images.device).manual_seed(seed)

        def step(number: int) -> dict[str, Tensor]:
            batch = compose_pairs(data, n, self.config.recipe, generator)
            scalars = self.update(state, networks, batch, number, generator)
            update_averages(state, self.config.ema, number)
            return scalars

        return ResumableStep(step, RandomStream(generator))

    @abstractmethod
    def update(
        self,
        state: TrainState,
        networks: Networks,
        batch: PairBatch,
        number: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Update the networks once, as step `number`; return detached losses ``()``.

        What is random, apart from the pairs, is drawn from `generator`.
        """

    def load_validation(self, paths: Sequence[str], device: torch.device) -> SharpPool:
        """Return the galaxies kept for validation."""
        return self._read(paths[0], validation=True).to(device)

    def _read(self, path: str, validation: bool) -> SharpPool:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
            galaxies = SharpGalaxies(arrays["images"], arrays["galaxy"], self.config.bands)
        rows = galaxies.is_validation == validation
        chosen = SharpGalaxies(galaxies.images[rows], galaxies.galaxy[rows], galaxies.bands)
        return make_pool(chosen, self.config.recipe)


def _data_hash(config: SharpRun) -> str:
    """Return the hash of all that the single galaxies depend on."""
    names = ("bands", "data", "n_galaxies", "real_fraction", "faint", "seed")
    values = [SHARP_SIZE, *(getattr(config, name) for name in names)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def make_galaxies(config: SharpRun) -> SharpGalaxies:
    """Return the single galaxies of a run."""
    rng = np.random.default_rng(config.seed)
    real = round(config.real_fraction * config.n_galaxies) if config.data else 0
    parts = [draw_sharp(config.n_galaxies - real, config.bands, rng, SHARP_SIZE, config.faint)]
    if config.data and real:
        parts.append(real_sharp(real, config.data, config.bands, rng, SHARP_SIZE, config.faint))
    return join(parts)


def first_generator(config: SharpRun, model: SrganConfig) -> Srgan:
    """Return a generator of the size `model` at random, or one that begins as earlier weights.

    Raises
    ------
    ConfigError
        If those weights are missing or of another size.
    """
    generator = Srgan(model)
    if config.srgan_weights is not None:
        earlier, card = load_weights(weights_path(config.srgan_weights))
        free = {"sources": 0} | ({"bands": 0} if card.architecture["bands"] == 1 else {})
        if dict(card.architecture) | free != asdict(model) | free:
            raise ConfigError(f"{config.srgan_weights} is not a network of this run's size")
        layers = earlier.state_dict()
        if card.architecture["bands"] < model.bands:
            layers = widened(layers, model.bands, reference_band(config.bands))
        generator.load_state_dict(layers, strict=False)
    return generator
