"""What a run saves beside its catalog, and stamps without neighbors from it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from in_process import catalogs_in_process

from benchmarks.gaussian_sky import BANDS, COLORS, draw_galaxies, write_tile
from raydeblend import models, parents, storage
from raydeblend.catalog import read_catalog
from raydeblend.cli.main import main
from raydeblend.config import PRODUCTS, CatalogConfig
from raydeblend.detect.background import without_background
from raydeblend.draw import inspect
from raydeblend.draw.finished import open_finished
from raydeblend.draw.inspect import take_apart
from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles, read_tile
from raydeblend.models import SourceModel
from raydeblend.pipeline.ledger import read_run
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.shards import product_path
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog
from raydeblend.products import (
    open_products,
    read_models,
    read_residual,
    read_segmentation,
)
from raydeblend.survey import get_survey
from raydeblend.tile import Box

SIZE = 128
XY = np.array([[40.2, 60.1], [48.0, 64.3], [62.9, 30.4], [70.2, 33.0], [100.3, 100.1]])
FLUX = np.array([4000.0, 2500.0, 3000.0, 3500.0, 5000.0])
NJY_PER_COUNT = 57.544
"""Of zero point 27."""


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("tiles"))
    write_tile(folder, "t", draw_galaxies(XY, FLUX, np.full(len(XY), 2.2), SIZE))
    return folder


def config(save: tuple[str, ...] = PRODUCTS, cell_size: int = SIZE) -> CatalogConfig:
    return CatalogConfig(BANDS, survey="HSC", cell_size=cell_size, save=save)


@pytest.fixture(scope="module")
def out(tiles: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("run") / "out")
    with catalogs_in_process():
        run_catalog(tiles, out, config(), progress=False)
    return out


@pytest.fixture(scope="module")
def cut(tiles: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same in four cells: a pair lies across an edge."""
    out = str(tmp_path_factory.mktemp("cut") / "out")
    with catalogs_in_process():
        run_catalog(tiles, out, config(cell_size=64), progress=False)
    return out


@pytest.fixture(scope="module")
def image(tiles: str) -> np.ndarray:
    """The pixels of the tile, the sky taken off."""
    (header,), _ = find_tiles(tiles, BANDS)
    tile = read_tile(header, header.box, get_survey("HSC"))
    return without_background(tile, "auto").image


def key(out: str) -> tuple[str, str]:
    return read_entries(out)[0].key


def test_the_catalog_does_not_know_what_was_saved(
    tiles: str, out: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = str(tmp_path_factory.mktemp("plain") / "out")
    with catalogs_in_process():
        run_catalog(tiles, plain, config(()), progress=False)
    assert read_catalog(plain) == read_catalog(out)
    assert parents.read_parents(plain) == parents.read_parents(out)
    assert read_run(plain).config_hash == read_run(out).config_hash
    folders = {Path(path).relative_to(plain).parts[0] for path in storage.list_files(plain)}
    assert not folders & set(PRODUCTS)


def test_models_and_residual_are_the_image(out: str, image: np.ndarray) -> None:
    found = read_models(out, *key(out))
    assert sorted(found) == read_catalog(out)["source_id"].to_pylist()
    together = read_residual(out, *key(out)).image.copy()
    for model in found.values():
        together[:, *model.box.slices] += model.light
    # Beyond its box a model is below a hundredth of the noise, of 1 count.
    assert np.abs(together - image).max() < 0.03 * NJY_PER_COUNT
    assert np.std(together - image) < 0.01 * NJY_PER_COUNT
    sizes = [max(model.box.shape) for model in found.values()]
    assert max(sizes) < SIZE / 2


def test_the_residual_of_galaxies_that_are_fitted_is_noise(out: str) -> None:
    sigma = np.std(read_residual(out, *key(out)).image, axis=(1, 2))
    np.testing.assert_allclose(sigma, NJY_PER_COUNT, rtol=0.05)


def test_pixels_belong_to_the_footprints_of_the_table(out: str) -> None:
    found = read_segmentation(out, *key(out))
    assert found.shape == (SIZE, SIZE)
    table = parents.read_parents(out)
    areas = dict(zip(table["parent_id"].to_pylist(), table["area"].to_pylist(), strict=True))
    assert Counter(found[found > 0].tolist()) == areas
    for row in table.to_pylist():
        assert found[round(row["y"]), round(row["x"])] == row["parent_id"]


def test_the_images_of_a_cell_lie_where_it_lies_on_the_sky(tiles: str, cut: str) -> None:
    whole = WCS(fits.getheader(f"{tiles}/t_g.fits", "IMAGE"))
    for entry in read_entries(cut):
        inner = open_products(cut).cells[entry.key]
        for product, name in (("residual", "g"), ("segmentation", "SEGMENTATION")):
            own = WCS(fits.getheader(product_path(cut, product, *entry.key), name))
            place = own.pixel_to_world(3.0, 5.0)
            expected = whole.pixel_to_world(3.0 + inner.x0, 5.0 + inner.y0)
            assert place.separation(expected).arcsec < 1e-4


@pytest.mark.parametrize("which", ["out", "cut"])
def test_a_stamp_holds_a_source_and_none_of_its_neighbors(
    which: str, request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(which)
    products, rows = open_products(out), read_catalog(out).to_pandas()
    size = 25
    for place, flux in zip(XY, FLUX, strict=True):
        row = rows.loc[np.hypot(rows["x"] - place[0], rows["y"] - place[1]).idxmin()]
        stamp = products.stamp(int(row["source_id"]), size)
        alone = draw_galaxies(place[None], np.array([flux]), np.array([2.2]), SIZE)
        truth = alone[stamp.box.slices].sum()
        counts = stamp.image.sum(axis=(1, 2)) / NJY_PER_COUNT / np.array(COLORS)
        # Noise of 25 x 25 pixels of 1 count, and what the fit takes of a neighbor's light.
        assert np.abs(counts - truth).max() < 3 * size / min(COLORS) + 0.04 * FLUX.sum() / 5
        assert np.isfinite(stamp.image).all()


def test_stamps_do_not_depend_on_how_a_tile_is_cut(out: str, cut: str) -> None:
    identifiers = read_catalog(out)["source_id"].to_pylist()
    assert identifiers == sorted(read_catalog(cut)["source_id"].to_pylist())
    for source in identifiers:
        one, other = (open_products(each).stamp(source, 33).image for each in (out, cut))
        # In units of the noise; wings of a neighbor's footprint that ends before the edge stay.
        assert np.abs(one - other).max() < 0.5 * NJY_PER_COUNT


def test_what_lies_off_the_tile_is_not_known(out: str) -> None:
    source = read_catalog(out)["source_id"].to_pylist()[0]
    stamp = open_products(out).stamp(source, 2 * SIZE)
    inside = stamp.box.clip(Box(0, 0, SIZE, SIZE))
    assert np.isfinite(stamp.image).sum() == len(BANDS) * SIZE**2
    assert np.isfinite(stamp.image[:, *inside.shift(-stamp.box.y0, -stamp.box.x0).slices]).all()


def test_what_is_missing_is_told_and_done_again(
    tiles: str, out: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = str(tmp_path_factory.mktemp("copy") / "out")
    for path in storage.list_files(out):
        storage.write_bytes(path.replace(out, copy), storage.read_bytes(path))
    assert verify_catalog(copy) == []
    path = product_path(copy, "residual", *key(copy))
    storage.remove_files([path])
    (said,) = verify_catalog(copy)
    assert said.startswith(f"{copy}/residual has no file of cell")
    with pytest.raises(ConfigError, match="made without --save residual"):
        read_residual(copy, *key(copy))
    with catalogs_in_process():
        run_catalog(tiles, copy, config(), RunRequest(resume=True), progress=False)
    assert storage.read_bytes(path) == storage.read_bytes(path.replace(copy, out))
    with catalogs_in_process():
        run_catalog(tiles, copy, config(()), RunRequest(overwrite=True), progress=False)
    assert not storage.exists(path)


def test_a_table_of_models_keeps_four_digits() -> None:
    rng = np.random.default_rng(2)
    light = (rng.normal(0, 1, (2, 5, 7)) * 10.0 ** rng.integers(-6, 7, (2, 5, 7))).astype("f4")
    one = SourceModel(7, 3, Box(10, 20, 15, 27), light)
    (same,) = models.from_table(models.to_table([one], ("g", "r")), ("g", "r"))
    assert (same.source_id, same.parent_id, same.box) == (7, 3, one.box)
    np.testing.assert_allclose(same.light, light, rtol=2.0**-13)
    assert models.to_table([], ("g",)).num_rows == 0


def test_unknown_products_and_sources_are_refused(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["catalog", str(tmp_path), str(tmp_path / "o"), "--bands", "g", "--save", "models,x"])
    assert stopped.value.code == 2
    assert "unknown product 'x'; valid: models, residual, segmentation" in (capsys.readouterr().err)
    with pytest.raises(ConfigError, match="has no cell with source 12"):
        open_products(out).model(12)


def test_inspect_draws_the_models_that_were_saved(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = open_finished(out)
    rows = read_catalog(out)
    blended = rows.filter(pc.greater(rows["n_blended"], 1)).slice(0, 1)

    def deblend(*_: object) -> None:
        raise AssertionError("deblended again")

    monkeypatch.setattr(inspect, "first_opinion", deblend)
    seen = take_apart(finished, blended)
    assert len(seen.part.models) == len(seen.rows) == blended["n_blended"][0].as_py()
    rest = (seen.blend.image - seen.part.models.sum(axis=0))[:, seen.blend.footprint]
    np.testing.assert_allclose(np.std(rest), NJY_PER_COUNT, rtol=0.2)
    models_of = read_models(out, *key(out))
    for row, model in zip(seen.rows.to_pylist(), seen.part.models, strict=True):
        assert model.sum() == pytest.approx(models_of[row["source_id"]].light.sum(), rel=0.02)
