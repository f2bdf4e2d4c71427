"""From shards of isolated images to the blends of a training step.

Blends are made in the worker that trains on them: a worker's stream depends on the run's seed,
the epoch and its rank, and every epoch has a fixed number of steps, so that a resumed run sees
what the uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.detect.footprints import gaussian_width
from raydeblend.errors import ConfigError
from raydeblend.simulate.isolated import IsolatedGroup
from raydeblend.simulate.shards import Shard, read_shard
from raydeblend.tile import FloatArray
from raydeblend.train.blends import BlendBatch, BlendRecipe, IsolatedImages, compose

VALIDATION_SEED = 1_000_003
VALIDATION_CHUNK = 64
"""Blends composed at a time, so that memory stays bounded."""


def load_isolated(
    paths: Sequence[str], bands: tuple[str, ...], validation: bool = False, gaps: bool = False
) -> IsolatedImages:
    """Read shards into memory: their training galaxies, or those kept for validation.

    With `gaps`, shards may lack some of the bands, whose images and PSF widths are zero then.

    Raises
    ------
    ConfigError
        If a shard has other bands, or none of the galaxies asked for is in any.
    """
    groups = []
    for path in paths:
        shard = read_shard(path)
        if shard.group.bands != bands and not (gaps and set(shard.group.bands) <= set(bands)):
            raise ConfigError(f"{path} holds bands {shard.group.bands}, not {bands}")
        kept = _usable(shard) & (shard.is_validation == validation)
        if kept.any():
            groups.append(_in_bands(shard.group, kept, bands))
    if not groups:
        raise ConfigError("the isolated images hold too few galaxies to train and validate on")
    images, sky_sigma, psf_width = zip(*groups, strict=True)
    count = torch.tensor([len(group) for group in images])
    return IsolatedImages(
        torch.cat(images),
        count.cumsum(0) - count,
        count,
        torch.stack(sky_sigma),
        torch.stack(psf_width),
    )


def _usable(shard: Shard) -> NDArray[np.bool_]:
    # The brightest galaxies can overflow float16.
    return np.asarray(np.isfinite(shard.group.images).all(axis=(1, 2, 3)))


def _in_bands(
    group: IsolatedGroup, kept: NDArray[np.bool_], bands: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images ``(n, bands, y, x)``, sky noise and PSF widths ``(bands,)`` of a group."""
    slots = [bands.index(band) for band in group.bands]
    images = torch.zeros(int(kept.sum()), len(bands), *group.images.shape[2:], dtype=torch.float16)
    images[:, slots] = torch.from_numpy(group.images[kept])
    sky_sigma, psf_width = torch.ones(len(bands)), torch.zeros(len(bands))
    sky_sigma[slots] = torch.from_numpy(group.sky_sigma)
    psf_width[slots] = torch.tensor([gaussian_width([stamp]) for stamp in group.psf])
    return images, sky_sigma, psf_width


def worker_share(paths: Sequence[str], rank: int, world: int) -> list[str]:
    """Return the shards that worker `rank` of `world` holds: its share, or all if too few."""
    return list(paths[rank::world] or paths)


def stream_seed(seed: int, epoch: int, rank: int, step: int = 0) -> int:
    """Return the seed of one worker's blends in one epoch, or in what is left of it from `step` on.

    Different arguments do not collide.
    """
    numbers = [seed, epoch, rank, *([step] if step else [])]
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def blends_of(group: IsolatedGroup, n: int, recipe: BlendRecipe, seed: int) -> FloatArray:
    """Return `n` noisy blends of a group's galaxies, ``(n, bands, y, x)`` in noise units."""
    count = torch.tensor([len(group.images)])
    everything = np.ones(len(group.images), dtype=bool)
    images, sky_sigma, psf_width = _in_bands(group, everything, group.bands)
    isolated = IsolatedImages(images, count - count, count, sky_sigma[None], psf_width[None])
    blends = compose(isolated, n, recipe, torch.Generator().manual_seed(seed)).blend
    return np.asarray(blends.numpy())


def validation_blends(
    isolated: IsolatedImages, recipe: BlendRecipe, n: int, seed: int
) -> Iterator[BlendBatch]:
    """Yield the same `n` noisy blends of two galaxies at every call, in chunks.

    That is Wang et al.'s test set, whatever the recipe mixes for training.
    """
    pairs = replace(recipe, n_sources=(0, 0, 1, 0, 0), brighten=0.0, noiseless=0.0)
    generator = torch.Generator(isolated.images.device).manual_seed(seed)
    for first in range(0, n, VALIDATION_CHUNK):
        yield compose(isolated, min(VALIDATION_CHUNK, n - first), pairs, generator)
