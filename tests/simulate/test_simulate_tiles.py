import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits as astrofits
from astropy.wcs import WCS
from s3 import s3_server  # noqa: F401

from raydeblend import fits
from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import Galaxies
from raydeblend.simulate.rendering import MASK_PLANES, draw_sources, observe, render_tile
from raydeblend.simulate.scene import Grid, Scene, make_scene
from raydeblend.simulate.tiles import simulate_tiles, write_tile
from raydeblend.survey import get_survey
from raydeblend.tile import Box

HSC = get_survey("HSC")
BANDS = ("g", "i")


def one_source(magnitude, xy=(100.3, 99.6), star=False, size=201):
    """A scene of one galaxy or one star, of the same magnitude in both bands."""
    n = 0 if star else 1
    galaxies = Galaxies(
        bands=BANDS,
        magnitude=np.full((n, 2), magnitude),
        bulge_fraction=np.full((n, 2), 0.3),
        disk_radius=np.full(n, 0.6),
        bulge_radius=np.full(n, 0.3),
        disk_g=np.full((n, 2), 0.1),
        bulge_g=np.full((n, 2), 0.1),
        redshift=np.full(n, 0.5),
    )
    flux = np.full((1, 2), 10 ** (0.4 * (31.4 - magnitude)))
    grid = Grid(1, size, 0, HSC.pixel_scale)
    return Scene(HSC, grid, np.array([xy]), flux, galaxies)


@pytest.mark.parametrize("star", [False, True])
@pytest.mark.parametrize("magnitude", [19.0, 22.0])
def test_flux_of_an_isolated_source_is_the_truth(magnitude, star):
    scene = one_source(magnitude, star=star)
    for band, pixels in enumerate(render_tile(scene, 0, seed=5)):
        good = pixels.mask == 0
        light = draw_sources(scene, Box(0, 0, 201, 201), band)
        # Noise of the sum, and the light that may fall off the stamp.
        sigma = np.sqrt(pixels.variance[good].sum())
        missing = light[~good].sum()
        error = pixels.image[good].sum() + missing - scene.flux[0, band]
        assert abs(error) < 4 * sigma + 0.005 * scene.flux[0, band]
        assert light.sum() == pytest.approx(scene.flux[0, band], rel=0.005)


def test_a_source_lies_where_the_scene_says():
    scene = one_source(19.0, xy=(100.3, 99.6))
    light = draw_sources(scene, Box(0, 0, 201, 201), 0)
    y, x = np.mgrid[:201, :201]
    assert (light * x).sum() / light.sum() == pytest.approx(100.3, abs=0.01)
    assert (light * y).sum() / light.sum() == pytest.approx(99.6, abs=0.01)


def test_noise_is_the_survey_s():
    for band in HSC.bands:
        pixels = observe(np.zeros((400, 400)), band, 1e9, np.random.default_rng(2))
        good = pixels.mask == 0
        assert pixels.image[good].std() == pytest.approx(band.sky_sigma, rel=0.01)
        assert abs(pixels.image[good].mean()) < 5 * band.sky_sigma / 400
        assert np.sqrt(pixels.variance.mean()) == pytest.approx(band.sky_sigma, rel=0.01)


def test_photon_noise_of_a_bright_source_is_in_the_variance():
    band = HSC.band("i")
    flat = np.full((400, 400), 5000.0)
    pixels = observe(flat, band, 1e9, np.random.default_rng(3))
    residual = (pixels.image - flat)[pixels.mask == 0]
    expected = band.sky_sigma**2 + 5000 / band.electrons_per_njy
    assert residual.var() == pytest.approx(expected, rel=0.02)
    assert pixels.variance.mean() == pytest.approx(expected, rel=0.01)


def test_bright_stars_saturate_and_faint_ones_do_not():
    for magnitude, saturates in ((16.0, True), (18.5, False)):
        pixels = render_tile(one_source(magnitude, star=True), 0, seed=1)[1]
        saturated = (pixels.mask & 1 << MASK_PLANES["SAT"]) != 0
        assert saturated[100, 100] == saturates
        assert saturated.sum() < 500
        if saturates:
            assert np.ptp(pixels.image[saturated]) == 0


def test_bad_columns_are_masked():
    bad = np.zeros((2000, 2000), dtype=bool)
    pixels = observe(np.zeros((2000, 2000)), HSC.band("g"), 1e9, np.random.default_rng(0))
    bad = (pixels.mask & 1 << MASK_PLANES["BAD"]) != 0
    assert 0 < bad.mean() < 4 / 512
    assert (pixels.image[bad] == 0).all()


def test_neighbors_share_the_light_in_their_overlap():
    grid = Grid(2, 128, 40, HSC.pixel_scale)
    scene = make_scene(HSC, ("i",), grid, density=60, seed=4)
    left, right = (draw_sources(scene, grid.box(tile), 0) for tile in (0, 1))
    assert grid.box(1) == Box(0, 88, 128, 216)
    assert left[:, 88:].max() > 5 * HSC.band("i").sky_sigma
    assert np.array_equal(left[:, 88:], right[:, :40])


def test_density_sets_the_number_and_the_faint_limit():
    grid = Grid(4, 1000, 0, HSC.pixel_scale)
    area = (2128 * HSC.pixel_scale / 60) ** 2  # with a margin of 64 pixels
    for density, faint in ((46.0, 25.0), (100.0, 26.09)):
        scene = make_scene(HSC, BANDS, grid, density, seed=0)
        assert len(scene.galaxies) == pytest.approx(density * area, abs=4 * (density * area) ** 0.5)
        assert scene.galaxies.magnitude[:, 1].max() == pytest.approx(faint, abs=0.02)


def test_truth_and_tiles_agree(tmp_path):
    done = []
    result = simulate_tiles(str(tmp_path), "HSC", BANDS, 1, 160, seed=2, on_tile=done.append)
    assert done == ["r00c00"]
    truth = pq.read_table(result.truth)
    assert truth.num_rows == result.n_sources
    assert truth.schema.field("flux_i").metadata[b"unit"] == b"nJy"
    assert all(field.metadata[b"description"] for field in truth.schema)
    stars = truth["is_star"].to_numpy()
    assert truth["half_light_radius"].is_null().to_numpy().tolist() == stars.tolist()

    (header,), failures = fits.find_tiles(str(tmp_path), BANDS)
    assert not failures
    tile = fits.read_tile(header, header.box, HSC)
    assert tile.flags == 0
    wcs = WCS(astrofits.Header.fromstring(header.wcs))
    x, y = wcs.wcs_world2pix(truth["ra"].to_numpy(), truth["dec"].to_numpy(), 0)
    assert ((x > -0.5) & (x < 159.5) & (y > -0.5) & (y < 159.5)).all()
    assert header.pixel_scale == pytest.approx(HSC.pixel_scale)
    scene = make_scene(HSC, BANDS, Grid(1, 160, 0, HSC.pixel_scale), 60.0, 2)
    rows = truth["id"].to_numpy()
    assert np.stack([x, y], axis=1) == pytest.approx(scene.xy[rows], abs=1e-6)
    assert truth["flux_i"].to_numpy() == pytest.approx(scene.flux[rows, 1])
    residual = tile.image[1] - draw_sources(scene, header.box, 1)
    chi2 = (residual**2 / tile.variance[1])[~tile.unusable[1]].mean()
    assert chi2 == pytest.approx(1, abs=0.03)


def test_the_same_seed_gives_the_same_pixels_with_and_without_ray(ray_local, tmp_path):
    options = {"n_tiles": 3, "size": 64, "overlap": 8, "seed": 7}
    result = simulate_tiles(str(tmp_path / "ray"), "HSC", BANDS, **options)
    assert result.tiles == ("r00c00", "r00c01", "r01c00")
    grid = Grid(3, 64, 8, HSC.pixel_scale)
    scene = make_scene(HSC, BANDS, grid, 60.0, 7)
    for tile in (2, 0, 1):
        write_tile(scene, tile, 7, str(tmp_path / "alone"))
    for path in result.images:
        name = path.rsplit("/", 1)[1]
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()
    other = render_tile(scene, 0, seed=8)[0].image
    assert not np.array_equal(other, render_tile(scene, 0, seed=7)[0].image)


def test_tiles_on_s3(s3_server):  # noqa: F811
    result = simulate_tiles("s3://tiles/sim", "HSC", BANDS, 1, 64, seed=1)
    assert result.images == ("s3://tiles/sim/r00c00_g.fits", "s3://tiles/sim/r00c00_i.fits")
    (header,), _ = fits.find_tiles("s3://tiles/sim", BANDS)
    assert fits.read_tile(header, header.box, HSC).image.shape == (2, 64, 64)


def test_a_missing_plane_of_sky_does_not_divide_by_zero():
    """A band that counts no electron at all still has a positive variance."""
    dark = dataclasses.replace(HSC.band("g"), sky_electrons=0.0)
    pixels = observe(np.zeros((20, 20)), dark, 1e9, np.random.default_rng(0))
    assert (pixels.variance > 0).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_tiles": 0}, "number of tiles must be at least 1, not 0"),
        ({"size": 8}, "at least 32 pixels a side, not 8"),
        ({"overlap": 64}, "overlap must be from 0 to below the tile's 64, not 64"),
        ({"density": 0.0}, "density must be between 0 and 1000"),
        ({"bands": ("g", "q")}, "HSC has no band 'q'"),
        ({"survey": "SDSSX"}, "unknown survey 'SDSSX'"),
        ({"out": "/proc/nothing"}, "cannot write /proc/nothing"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, changes, sentence):
    arguments = {"out": str(tmp_path), "survey": "HSC", "bands": BANDS, "n_tiles": 1, "size": 64}
    with pytest.raises(ConfigError, match=sentence):
        simulate_tiles(**{**arguments, **changes})
    assert list(tmp_path.iterdir()) == []
