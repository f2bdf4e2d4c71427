"""Shards to blends: no galaxy on both sides of the split, and streams that repeat exactly."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from raydeblend.errors import ConfigError
from raydeblend.simulate.isolated import IsolatedGroup
from raydeblend.simulate.shards import Shard, write_shard
from raydeblend.train.blends import BlendRecipe
from raydeblend.train.data import (
    load_isolated,
    stream_seed,
    validation_blends,
    worker_share,
)

BANDS = ("g", "r")
RECIPE = BlendRecipe(stamp=24, max_shift=3)


def write(path: Path, galaxy_id: np.ndarray, sky_sigma: float = 100.0) -> str:
    """Write a shard whose every pixel is the number of its galaxy."""
    images = np.broadcast_to(galaxy_id[:, None, None, None], (len(galaxy_id), 2, 32, 32))
    psf = np.full((2, 5, 5), 0.04, np.float32)
    sigma = np.full(2, sky_sigma, np.float32)
    with np.errstate(over="ignore"):
        group = IsolatedGroup(images.astype(np.float16), psf, sigma, BANDS, 0.2)
    write_shard(str(path), Shard(galaxy_id, group))
    return str(path)


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Three shards; galaxies 8 to 39 appear twice, as those of a catalog can."""
    ids = [np.arange(0, 24), np.arange(24, 40), np.arange(8, 40)]
    return [write(tmp_path / f"{i}.npz", chosen, 100.0 + i) for i, chosen in enumerate(ids)]


def numbers(paths: list[str], validation: bool) -> list[float]:
    return load_isolated(paths, BANDS, validation).images[:, 0, 0, 0].tolist()


def test_no_galaxy_is_both_trained_and_validated_on(shards: list[str]) -> None:
    trained, held_out = numbers(shards, False), numbers(shards, True)
    assert not set(trained) & set(held_out)
    assert set(trained) | set(held_out) == set(range(40))
    assert len(trained) + len(held_out) == 24 + 16 + 32
    assert len(set(held_out)) == 40 / 8


def test_groups_keep_their_rows_and_noise(shards: list[str]) -> None:
    isolated = load_isolated(shards, BANDS)
    assert isolated.count.tolist() == [21, 14, 28]
    assert isolated.start.tolist() == [0, 21, 35]
    assert isolated.sky_sigma[:, 0].tolist() == [100, 101, 102]
    assert isolated.images[21, 0, 0, 0] == 25  # 24 is held out


def test_images_that_overflowed_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "bright.npz", np.array([1, 2, 70000]))
    assert numbers([path], False) == [1, 2]


def test_other_bands_are_refused(shards: list[str]) -> None:
    with pytest.raises(ConfigError, match="bands"):
        load_isolated(shards, ("g", "r", "i"))


def test_groups_may_lack_bands_where_gaps_are_allowed(shards: list[str]) -> None:
    isolated = load_isolated(shards[:1], ("u", "r", "g"), gaps=True)
    assert isolated.images[0, :, 0, 0].tolist() == [0, 1, 1]
    assert isolated.sky_sigma.tolist() == [[1, 100, 100]]
    # As high as a Gaussian of this width: 1 / (2 pi sigma^2) = 0.04.
    width = 1 / np.sqrt(0.08 * np.pi)
    np.testing.assert_allclose(isolated.psf_width, [[0, width, width]], rtol=1e-5)
    with pytest.raises(ConfigError, match="bands"):
        load_isolated(shards, ("u", "g"), gaps=True)


def test_a_split_without_galaxies_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "few.npz", np.array([1, 2, 3]))
    with pytest.raises(ConfigError, match="too few"):
        load_isolated([path], BANDS, validation=True)


def test_workers_share_the_shards() -> None:
    paths = [str(i) for i in range(7)]
    shares = [worker_share(paths, rank, 3) for rank in range(3)]
    assert sorted(itertools.chain(*shares)) == paths
    # With more workers than shards nobody is left without.
    assert [worker_share(["a"], rank, 2) for rank in range(2)] == [["a"], ["a"]]


def test_seeds_differ_between_runs_epochs_and_ranks() -> None:
    triples = list(itertools.product(range(6), repeat=3))
    seeds = {stream_seed(*triple) for triple in triples}
    assert len(seeds) == len(triples)
    assert stream_seed(0, 1, 2) == stream_seed(0, 1, 2)


def test_validation_is_the_same_pairs_every_time(shards: list[str]) -> None:
    isolated = load_isolated(shards, BANDS, validation=True)
    first, again = (list(validation_blends(isolated, RECIPE, 100, seed=1)) for _ in range(2))
    assert sum(len(chunk.n_sources) for chunk in first) == 100
    assert all(torch.equal(a.blend, b.blend) for a, b in zip(first, again, strict=True))
    assert all((chunk.n_sources == 2).all() for chunk in first)
