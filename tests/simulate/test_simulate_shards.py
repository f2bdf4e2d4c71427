"""Isolated images on disk: deterministic shards, and only the missing ones are rendered."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import draw_galaxies
from raydeblend.simulate.shards import (
    IsolatedConfig,
    make_shard,
    read_shard,
    render_isolated,
    write_shard,
)
from raydeblend.survey import get_survey

CONFIG = IsolatedConfig(survey="LSST", bands=("r", "i"), group=4, seed=3, size=48, faint=24.0)


def test_a_shard_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(str(tmp_path / name), make_shard(CONFIG, 1))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_shard_survives_writing(tmp_path: Path) -> None:
    shard = make_shard(CONFIG, 2)
    write_shard(str(tmp_path / "shard.npz"), shard)
    again = read_shard(str(tmp_path / "shard.npz"))
    assert again.galaxy_id.tolist() == [8, 9, 10, 11]
    assert again.group.bands == ("r", "i")
    assert again.group.pixel_scale == get_survey("LSST").pixel_scale
    for name in ("images", "psf", "sky_sigma"):
        assert np.array_equal(getattr(again.group, name), getattr(shard.group, name))


def test_shards_hold_different_galaxies_behind_different_seeing() -> None:
    first, second = make_shard(CONFIG, 0).group, make_shard(CONFIG, 1).group
    assert not np.allclose(first.images.max((2, 3)), second.images.max((2, 3)), rtol=1e-2)
    assert not np.allclose(first.psf, second.psf, rtol=1e-2)


def test_rows_of_a_catalog_are_used_in_turn() -> None:
    table = draw_galaxies(6, CONFIG.bands, np.random.default_rng(0), faint=22.0)
    shards = [make_shard(CONFIG, index, table) for index in range(3)]
    ids = np.concatenate([shard.galaxy_id for shard in shards])
    assert sorted(ids[:6]) == sorted(ids[6:]) == list(range(6))
    # The images are of the rows that the ids name: they have the colors of the catalog, which
    # unlike fluxes hardly change where a stamp cuts off a large galaxy.
    sigma = np.array([get_survey("LSST").band(band).sky_sigma for band in CONFIG.bands])
    flux = shards[1].group.images.astype(float).sum((2, 3)) * sigma
    color = -2.5 * np.log10(flux[:, 0] / flux[:, 1])
    expected = table.magnitude[shards[1].galaxy_id]
    assert color == pytest.approx(expected[:, 0] - expected[:, 1], abs=0.05)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(ConfigError, match="not a shard"):
        read_shard(str(tmp_path / "other.npz"))


@pytest.mark.usefixtures("ray_local")
def test_only_missing_shards_are_rendered(tmp_path: Path) -> None:
    out = str(tmp_path)
    paths = render_isolated(out, CONFIG, 7)
    assert [os.path.basename(path) for path in paths] == ["shard-00000.npz", "shard-00001.npz"]
    before = [Path(path).read_bytes() for path in paths]
    untouched = os.stat(paths[0]).st_mtime_ns
    os.remove(paths[1])
    assert render_isolated(out, CONFIG, 12)[:2] == paths
    assert [Path(path).read_bytes() for path in paths] == before
    assert os.stat(paths[0]).st_mtime_ns == untouched
    assert len(list(tmp_path.glob("*.npz"))) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"survey": "ACME"}, "unknown survey"),
        ({"bands": ("r", "q")}, "no band 'q'"),
        ({"group": 0}, "positive"),
        ({"catalog": "/no/such/file.fits"}, "no catalog"),
        ({"held_out": "/no/such/file.npz"}, "requires a catalog"),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=said):
        render_isolated(str(out), dataclasses.replace(CONFIG, **change), 8)
    assert not out.exists()


def test_images_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "isolated.json").write_text("{}")
    with pytest.raises(ConfigError, match="other settings"):
        render_isolated(str(tmp_path), CONFIG, 8)
