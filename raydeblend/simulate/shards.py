"""Isolated galaxy images on disk: rendered once on Ray Data, one shard for each PSF.

A shard is one ``.npz`` object with a deterministic name and deterministic bytes, written
atomically: those that exist are the index of what is done, and a run that was killed goes on.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.session import ray_session, shared_folder
from raydeblend.simulate.galaxies import Galaxies, draw_galaxies, read_catsim
from raydeblend.simulate.heldout import exclude_held_out
from raydeblend.simulate.isolated import IsolatedGroup, render_group
from raydeblend.simulate.isolated_realistic import realistic_group
from raydeblend.simulate.population.stamps import Stamps, find_stamps
from raydeblend.survey import get_survey

Item = dict[str, Any]

log = logging.getLogger(__name__)

MANIFEST = "isolated.json"
VALIDATION_MODULUS = 8
"""One galaxy in eight is never trained on, in whatever shard and at whatever PSF it appears."""


@dataclass(frozen=True)
class IsolatedConfig:
    """How a set of isolated images is rendered; all of its shards agree on this.

    Attributes
    ----------
    survey, bands
        Whose PSF, pixel scale and noise.
    group
        Galaxies in a shard, all behind one PSF.
    seed
        Shard k depends on this and on k alone.
    size
        Side of the stamps in pixels.
    faint
        Faintest i-band magnitude (AB).
    catalog
        A CatSim table whose rows are drawn, or None for `draw_galaxies`.
    held_out
        A test set whose galaxies are left out of the catalog.
    realistic, stamps
        Whether the images are of the realistic population (`isolated_realistic`), and the folder of
        real galaxies for it, or None for none.
    """

    survey: str = "HSC"
    bands: tuple[str, ...] = ("g", "r", "i")
    group: int = 400
    seed: int = 0
    size: int = 96
    faint: float = 26.5
    catalog: str | None = None
    held_out: str | None = None
    realistic: bool = False
    stamps: str | None = None


@dataclass(frozen=True)
class Shard:
    """One group of isolated images and the number of each galaxy.

    Attributes
    ----------
    galaxy_id
        ``(n,)``; two images with one id are of the same galaxy, in this or another shard.
    """

    galaxy_id: NDArray[np.int64]
    group: IsolatedGroup

    @property
    def is_validation(self) -> NDArray[np.bool_]:
        """``(n,)``: true for galaxies that must not be trained on."""
        return is_validation(self.galaxy_id)


def is_validation(galaxy_id: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which galaxies must not be trained on."""
    return np.asarray(galaxy_id % VALIDATION_MODULUS == 0)


def render_isolated(
    out: str, config: IsolatedConfig, n_galaxies: int, address: str | None = None
) -> list[str]:
    """Render isolated images of at least `n_galaxies` galaxies into `out`; keep what is there.

    Returns
    -------
    list of str
        The paths of all the shards, in order.

    Raises
    ------
    ConfigError
        If the survey, a band or the catalog is unusable, or `out` holds images of another
        configuration.
    """
    out = storage.absolute(out)
    table = check_isolated(out, config)
    storage.write_bytes(storage.join(out, MANIFEST), _manifest(config))
    names = [f"shard-{index:05d}.npz" for index in range(-(-n_galaxies // config.group))]
    done = {os.path.basename(path) for path in storage.list_files(out, ".npz")}
    missing = [index for index, name in enumerate(names) if name not in done]
    log.info("isolated images in %s: %d of %d shards to do", out, len(missing), len(names))
    if missing:
        items = [{"index": index, "path": storage.join(out, names[index])} for index in missing]
        with ray_session(address), shared_folder(out):
            _run(items, partial(_render_to, config=config, table=table))
    return [storage.join(out, name) for name in names]


def _run(items: list[Item], task: Callable[[Item], Item]) -> None:
    tasks = ray.data.from_items(items, override_num_blocks=len(items)).map(task)
    tasks.context.enable_progress_bars = False
    tasks.materialize()


def check_isolated(out: str, config: IsolatedConfig) -> Galaxies | None:
    """Check that images can be rendered into `out`; return the catalog's galaxies, if any.

    Raises
    ------
    ConfigError
        As `render_isolated`; nothing has been written then.
    """
    survey = get_survey(config.survey)
    for band in config.bands:
        survey.band(band)
    if config.group < 1:
        raise ConfigError(f"group must be positive, not {config.group}")
    path = storage.join(out, MANIFEST)
    if storage.exists(path) and storage.read_bytes(path) != _manifest(config):
        raise ConfigError(f"{out} holds isolated images of other settings, see {path}")
    return _read_table(config)


def _manifest(config: IsolatedConfig) -> bytes:
    return json.dumps(asdict(config), indent=1).encode()


def _read_table(config: IsolatedConfig) -> Galaxies | None:
    if config.realistic:
        _find_sides(config)
        return None
    if config.catalog is None:
        if config.held_out is not None:
            raise ConfigError("held_out requires a catalog: drawn galaxies are in no test set")
        return None
    if not os.path.exists(config.catalog):
        raise ConfigError(f"there is no catalog {config.catalog}")
    table = read_catsim(config.catalog, config.bands, config.faint)
    return table if config.held_out is None else exclude_held_out(table, config.held_out)


def make_shard(config: IsolatedConfig, index: int, table: Galaxies | None = None) -> Shard:
    """Render shard number `index`; `table` holds the catalog's galaxies where there is one."""
    rng = np.random.default_rng([config.seed, index])
    first = index * config.group
    ids = np.arange(first, first + config.group)
    if config.realistic:
        survey, sides = get_survey(config.survey), _find_sides(config)
        chosen = is_validation(ids)
        return Shard(
            ids,
            realistic_group(survey, config.bands, chosen, sides, rng, config.size, config.faint),
        )
    if table is None:
        galaxies = draw_galaxies(config.group, config.bands, rng, config.faint)
    else:
        # Every row of a catalog is used once before any is used again.
        ids = np.random.default_rng(config.seed).permutation(len(table))[ids % len(table)]
        galaxies = table.take(ids)
    return Shard(ids, render_group(galaxies, get_survey(config.survey), rng, config.size))


def _find_sides(config: IsolatedConfig) -> tuple[Stamps, Stamps]:
    """Return the real galaxies to train on, and those to validate with."""
    return find_stamps(config.stamps, "train"), find_stamps(config.stamps, "validation")


def write_shard(path: str, shard: Shard) -> None:
    """Write a shard as one object; equal shards give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, galaxy_id=shard.galaxy_id, **vars(shard.group))
    storage.write_bytes(path, buffer.getvalue())


def read_shard(path: str) -> Shard:
    """Read a shard.

    Raises
    ------
    ConfigError
        If the file is not a shard of isolated images.
    """
    with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
        missing = {"galaxy_id", "images", "psf", "sky_sigma", "bands"} - set(arrays)
        if missing:
            raise ConfigError(f"{path} is not a shard of isolated images: no {min(missing)}")
        group = IsolatedGroup(
            images=arrays["images"],
            psf=arrays["psf"],
            sky_sigma=arrays["sky_sigma"],
            bands=tuple(str(band) for band in arrays["bands"]),
            pixel_scale=float(arrays["pixel_scale"]),
        )
        return Shard(arrays["galaxy_id"], group)


def _render_to(item: Item, config: IsolatedConfig, table: Galaxies | None) -> Item:
    write_shard(item["path"], make_shard(config, item["index"], table))
    return item
