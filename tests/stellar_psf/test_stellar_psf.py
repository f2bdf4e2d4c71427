"""PSFs from stars against those that the tile was drawn with."""

import numpy as np
import pytest
from dp2_files import Patch, noise

from raydeblend.cli.main import main
from raydeblend.detect.background import default_background
from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles, read_tile
from raydeblend.simulate.galaxies import Galaxies
from raydeblend.simulate.psf_variation import draw_variation
from raydeblend.simulate.scene import Grid, Scene
from raydeblend.simulate.tiles import write_tile
from raydeblend.stellar_psf.config import StellarPsfConfig
from raydeblend.stellar_psf.stars import Candidates, choose_stars, moments
from raydeblend.survey import draw_psf, get_survey

HSC = get_survey("HSC")
SIDE, STEP = 600, 50
CONFIG = StellarPsfConfig()


def make_scene(n_stars, kind="smooth"):
    """Sources on a grid: stars of 19 to 21.5 and galaxies as bright, a few of them compact."""
    rng = np.random.default_rng(7)
    grid = Grid(1, SIDE, 0, HSC.pixel_scale)
    places = np.stack(np.meshgrid(*[np.arange(STEP / 2, SIDE, STEP)] * 2), -1).reshape(-1, 2)
    places = rng.permutation(places + rng.uniform(-4, 4, places.shape))
    n = len(places) - n_stars
    magnitude = rng.uniform(19, 21.5, (len(places), 1))
    table = Galaxies(
        bands=("i",),
        magnitude=magnitude[:n],
        bulge_fraction=np.full((n, 1), 0.3),
        disk_radius=rng.uniform(0.25, 0.9, n),
        bulge_radius=np.full(n, 0.2),
        disk_g=rng.uniform(-0.3, 0.3, (n, 2)),
        bulge_g=np.zeros((n, 2)),
        redshift=np.full(n, 0.5),
    )
    variation = draw_variation(kind, 4, grid.extent, 1, 1, 5)
    flux = 10 ** (0.4 * (31.4 - magnitude))
    return Scene(HSC, grid, places, flux, table, variation=variation)


def truth(scene, x, y):
    return moments(draw_psf(scene.psf_at(0, x, y), HSC.pixel_scale))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tile without its PSF, and what the command makes of it."""
    folder = tmp_path_factory.mktemp("stars")
    scene = make_scene(70)
    write_tile(scene, 0, 3, str(folder / "tiles"))
    out = folder / "psfs"
    arguments = ["psf", str(folder / "tiles"), str(out), "--bands", "i", "--background", "none"]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code
    return scene, out, folder


def test_sizes_and_ellipticities_are_those_of_the_truth(made):
    scene, out, folder = made
    headers, _ = find_tiles(str(folder / "tiles"), ("i",), manifest=str(out / "manifest.parquet"))
    psf = read_tile(headers[0], headers[0].box, HSC).psf
    assert not psf.is_constant
    assert not psf.jumps([[10, 10], [500, 500]])
    places = np.arange(37.5, SIDE, 75)
    spread = []
    for x in places:
        for y in places:
            _, size, shear = moments(psf.at(x, y)[0])
            _, true_size, true_shear = truth(scene, x, y)
            spread.append((true_size, *true_shear))
            assert size == pytest.approx(true_size, rel=0.01)
            assert shear == pytest.approx(true_shear, abs=0.005)
    # One PSF for the tile would not do.
    assert np.ptp(spread, axis=0)[0] > 0.03 * true_size
    assert np.ptp(spread, axis=0)[1:].max() > 0.015


def test_there_is_a_picture_and_the_number_of_stars(made):
    _, out, _ = made
    assert (out / "psf.png").read_bytes().startswith(b"\x89PNG")


def test_stars_are_told_from_galaxies_where_the_psf_changes():
    rng = np.random.default_rng(1)
    n, side = 300, CONFIG.side
    xy = rng.uniform(0, 1000, (n, 2))
    is_star = np.arange(n) < 60
    size = 1.5 * np.exp(0.08 * (xy[:, 0] / 500 - 1))
    size *= np.where(is_star, 1 + 0.005 * rng.normal(size=n), rng.uniform(1.15, 2.5, n))
    found = Candidates(
        np.zeros((n, side, side)), np.zeros((n, side, side)), xy, np.zeros((n, 2)), size,
        np.zeros((n, 2)),
    )  # fmt: skip
    chosen = choose_stars(found, (1000, 1000), CONFIG)
    true = {tuple(place) for place in xy[is_star]}
    kept = {tuple(place) for place in chosen.xy}
    assert len(kept & true) > 55
    assert len(kept - true) < 3


def test_a_tile_with_too_few_stars_is_refused_by_name(tmp_path, capsys):
    write_tile(make_scene(2), 0, 3, str(tmp_path / "tiles"))
    with pytest.raises(SystemExit) as end:
        main(["psf", str(tmp_path / "tiles"), str(tmp_path / "out"), "--bands", "i"])
    assert end.value.code == 2
    assert "a PSF needs 5" in capsys.readouterr().err


def test_whether_a_sky_is_taken_off_is_the_layouts_choice(tmp_path, monkeypatch):
    asked = []

    def ask(input, out, config, *_):
        asked.append(config.background)
        raise ConfigError("seen")

    monkeypatch.setattr("raydeblend.stellar_psf.make.make_psfs", ask)
    Patch().write(tmp_path, "i", noise(Patch().shape))
    with pytest.raises(SystemExit):
        main(["psf", str(tmp_path), str(tmp_path / "out"), "--bands", "i"])
    (header,), _ = find_tiles(str(tmp_path), ("i",))
    assert asked == ["auto"]
    assert default_background(header) == "none"
