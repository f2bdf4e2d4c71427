"""Shards of isolated Euclid VIS galaxies, in the format of `raydeblend.simulate.shards`."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass

import numpy as np

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.simulate.euclid import (
    BRIGHTEST,
    FAINT,
    SersicFits,
    draw_euclid,
    read_cosmos_sersic,
    render_euclid,
)
from raydeblend.simulate.euclid_real import load_real, render_real
from raydeblend.simulate.hst import HstStamps
from raydeblend.simulate.isolated import IsolatedGroup
from raydeblend.simulate.shards import Shard, write_shard

log = logging.getLogger(__name__)

MANIFEST = "euclid.json"


@dataclass(frozen=True)
class EuclidConfig:
    """How a set of isolated VIS images is rendered; all of its shards agree on this.

    Attributes
    ----------
    group
        Galaxies in a shard.
    seed
        Shard k depends on this and on k alone.
    size
        Side of the images in pixels.
    faint
        Faintest magnitude (AB).
    catalog
        The COSMOS Sérsic fits, or None for the distributions fitted to them.
    hst
        Folder of HST galaxies, or None for none.
    realistic
        Part of each shard that is HST galaxies.
    """

    group: int = 500
    seed: int = 0
    size: int = 80
    faint: float = FAINT
    catalog: str | None = None
    hst: str | None = None
    realistic: float = 0.0


@dataclass(frozen=True)
class Sources:
    """What the galaxies of a configuration are drawn from, read once."""

    fits: SersicFits | None
    real: HstStamps | None


def check_euclid(out: str, config: EuclidConfig) -> Sources:
    """Check that images can be rendered into `out`; return what they are drawn from.

    Raises
    ------
    ConfigError
        If a number is out of range, a file or folder cannot be used, or `out` holds images of
        another configuration.
    """
    if config.group < 1:
        raise ConfigError(f"group must be positive, not {config.group}")
    if not BRIGHTEST < config.faint < 28:
        raise ConfigError(f"faint must be between {BRIGHTEST} and 28, not {config.faint}")
    if not 0 <= config.realistic <= 1:
        raise ConfigError(f"realistic must be between 0 and 1, not {config.realistic}")
    if config.realistic and config.hst is None:
        raise ConfigError("realistic galaxies need hst, a folder of HST galaxies")
    path = storage.join(out, MANIFEST)
    if storage.exists(path) and storage.read_bytes(path) != _manifest(config):
        raise ConfigError(f"{out} holds isolated images of other settings, see {path}")
    fits = read_cosmos_sersic(config.catalog) if config.catalog else None
    return Sources(fits, load_real(str(config.hst)) if config.realistic else None)


def render_euclid_shards(out: str, config: EuclidConfig, n_galaxies: int) -> list[str]:
    """Render at least `n_galaxies` into `out`, keeping what is there; return all paths.

    Raises
    ------
    ConfigError
        As `check_euclid`.
    """
    sources = check_euclid(out, config)
    storage.write_bytes(storage.join(out, MANIFEST), _manifest(config))
    count = -(-n_galaxies // config.group)
    paths = [storage.join(out, f"shard-{index:05d}.npz") for index in range(count)]
    done = {os.path.basename(path) for path in storage.list_files(out, ".npz")}
    for index, path in enumerate(paths):
        if os.path.basename(path) not in done:
            write_shard(path, make_euclid_shard(config, index, sources))
            log.info("isolated VIS images in %s: shard %d of %d", out, index + 1, count)
    return paths


def make_euclid_shard(config: EuclidConfig, index: int, sources: Sources) -> Shard:
    """Render shard number `index`: analytic galaxies, then real ones."""
    rng = np.random.default_rng([config.seed, index])
    n_real = round(config.group * config.realistic)
    galaxies = draw_euclid(config.group - n_real, rng, sources.fits, config.faint)
    group, ids = render_euclid(galaxies, rng, config.size), galaxies.galaxy
    if n_real and sources.real is not None:
        real, real_ids = render_real(sources.real, n_real, rng, config.size, config.faint)
        group = _join(group, real)
        ids = np.concatenate([ids, real_ids])
    return Shard(ids, group)


def _join(first: IsolatedGroup, second: IsolatedGroup) -> IsolatedGroup:
    images = np.concatenate([first.images, second.images])
    return IsolatedGroup(images, first.psf, first.sky_sigma, first.bands, first.pixel_scale)


def _manifest(config: EuclidConfig) -> bytes:
    return json.dumps(asdict(config), indent=1).encode()
