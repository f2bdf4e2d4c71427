"""The deblender of Wang et al. 2022 for one to six bands, which sees masks and the PSF.

It begins as a network of g, r and i, and goes on with two kinds of galaxies: those of the paper, in
LSST's g, r and i, and the realistic population in all bands of the surveys, whose PSFs, depths and
pixel scales are drawn anew for each group (`raydeblend.simulate.isolated_realistic`).  Bands are
left out and pixels masked at random.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.networks.context import PLANES
from raydeblend.networks.rdn import Rdn, widened
from raydeblend.networks.weights import load_weights, weights_path
from raydeblend.simulate.galaxies import CATSIM_BANDS
from raydeblend.simulate.isolated_realistic import PIXEL_SCALE
from raydeblend.simulate.shards import IsolatedConfig, check_isolated, render_isolated
from raydeblend.survey import Survey, get_survey
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.data import load_isolated, worker_share
from raydeblend.train.isolated import ISOLATED_SIZE
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.rdn import PRESETS as RDN_PRESETS
from raydeblend.train.rdn import RdnRun, RdnTraining

PAPER_SURVEY, PAPER_BANDS = "LSST", ("g", "r", "i")


@dataclass(frozen=True)
class RdnMultibandRun(RdnRun):
    """A run on two kinds of galaxies.

    Attributes
    ----------
    catalog, held_out
        Of the paper's galaxies, see `BlendRun`.
    data
        Folder of real galaxies for the realistic population; None for clumpy ones in their place.
    rdn_weights
        A deblender of some of the bands to begin from, a file or shipped name; None: at random.
    paper_share
        Of the images, which part is of the paper's galaxies.
    """

    data: str | None = None
    rdn_weights: str | None = None
    paper_share: float = 0.5

    def fitted(self) -> Self:
        """Return this with the channels that `bands`, `scaling` and the context ask for."""
        fitted = super().fitted()
        channels = fitted.model.in_channels + PLANES * len(self.bands)
        return replace(fitted, model=replace(fitted.model, in_channels=channels))

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the training images, smallest and largest."""
        return PIXEL_SCALE

    def describe_data(self) -> str:
        """Return how many galaxies of which kinds."""
        surveys = " and ".join(get_survey(survey).name for survey in self.surveys)
        galaxies = os.path.basename(self.catalog) if self.catalog else "drawn galaxies"
        real = "real HST stamps among them" if self.data else "no real ones among them"
        return (
            f"{self.n_galaxies} images, i < {self.faint}: {self.paper_share:.0%} {PAPER_SURVEY} "
            f"g, r, i of {galaxies}, the others of the realistic population with PSFs, depths and "
            f"pixel scales of {surveys} drawn anew, {real}"
        )

    def check_bands(self, surveys: Sequence[Survey]) -> None:
        """Raise ConfigError unless the bands are the paper's and others that there are colors for.

        A survey may lack some of them.
        """
        if not set(PAPER_BANDS) <= set(self.bands) <= set(CATSIM_BANDS):
            raise ConfigError(
                f"bands must be g, r, i and any of u, z, y, not {', '.join(self.bands)}"
            )


def isolated_sets(config: RdnMultibandRun, root: str) -> dict[str, tuple[IsolatedConfig, int]]:
    """Return which isolated images are rendered, and how many, by their directory."""
    common = IsolatedConfig(group=config.group, size=ISOLATED_SIZE, faint=config.faint)
    paper = replace(
        common,
        survey=PAPER_SURVEY,
        bands=PAPER_BANDS,
        seed=config.seed,
        catalog=config.catalog,
        held_out=config.held_out,
    )
    n_paper = round(config.paper_share * config.n_galaxies)
    sets = {storage.join(root, "paper"): (paper, n_paper)}
    share = (config.n_galaxies - n_paper) // len(config.surveys)
    for number, key in enumerate(config.surveys):
        survey = get_survey(key)
        known = {band.name for band in survey.bands}
        realistic = replace(
            common,
            survey=key,
            bands=tuple(band for band in config.bands if band in known),
            seed=config.seed + 1 + number,
            realistic=True,
            stamps=config.data,
        )
        sets[storage.join(root, survey.name)] = (realistic, share)
    return sets


def first_network(config: RdnMultibandRun) -> Rdn:
    """Return a network at random, or one that begins as an earlier one of fewer bands.

    Raises
    ------
    ConfigError
        If those weights are missing, or of another network or size.
    """
    network = Rdn(config.model)
    if config.rdn_weights is None:
        return network
    earlier, card = load_weights(weights_path(config.rdn_weights))
    if not isinstance(earlier, Rdn) or card.scaling != config.scaling:
        raise ConfigError(f"{config.rdn_weights} is not an rdn of this run's scaling")
    layers: Mapping[str, Tensor] = earlier.state_dict()
    try:
        if not earlier.config.context:
            layers = widened(layers, card.bands, config.bands, config.model)
        network.load_state_dict(layers)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{config.rdn_weights} is an rdn of another size or bands") from error
    return network


class RdnMultibandTraining(RdnTraining):
    """Peel blends with gaps in bands and pixels once and compare with the brightest."""

    config: RdnMultibandRun

    def check(self, root: str) -> None:
        """Check that isolated images can be rendered into `root`, and the weights to begin from."""
        for folder, (images, _) in isolated_sets(self.config, root).items():
            check_isolated(folder, images)
        self.build()

    def prepare(self, root: str) -> tuple[str, ...]:
        """Render the isolated images into `root`; return the shards."""
        sets = isolated_sets(self.config, root)
        shards = [render_isolated(folder, images, n) for folder, (images, n) in sets.items()]
        return tuple(path for paths in shards for path in paths)

    def load(
        self, paths: Sequence[str], rank: int, world: int, device: torch.device
    ) -> IsolatedImages:
        """Return the galaxies that worker `rank` of `world` trains on."""
        share = worker_share(paths, rank, world)
        return load_isolated(share, self.config.bands, gaps=True).to(device)

    def load_validation(self, paths: Sequence[str], device: torch.device) -> IsolatedImages:
        """Return the galaxies kept for validation, of all shards."""
        return load_isolated(paths, self.config.bands, validation=True, gaps=True).to(device)

    def build(self) -> dict[str, nn.Module]:
        """Return the network that the run begins with."""
        return {"rdn": first_network(self.config)}


def _preset(name: str, **fields: Any) -> RdnMultibandRun:
    """Return the preset of `rdn` with all bands, their gaps and close pairs."""
    base = RDN_PRESETS[name]
    recipe = replace(base.recipe, close=0.25, context=True, fewer_bands=0.5, masked=0.25)
    common = {
        "network": "rdn-multiband",
        "bands": CATSIM_BANDS,
        "surveys": ("LSST", "HSC"),
        "model": replace(base.model, context=True),
        "recipe": recipe,
    }
    return RdnMultibandRun(**vars(base) | common | fields)


PRESETS: Mapping[str, RdnMultibandRun] = {
    "paper": _preset("paper"),
    "small": _preset(
        "small",
        rdn_weights="rdn",
        learning_rate=5e-4,
        # Each group has a sky of its own.
        group=64,
        loss=DeblendLoss("log_mse", flux_weight=0.5, tie_ratio=0.8),
    ),
    "tiny": _preset("tiny", n_galaxies=96, group=16),
}
