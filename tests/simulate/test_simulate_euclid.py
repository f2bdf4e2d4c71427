"""Euclid VIS galaxies: their population, sizes, PSF, split, shards and test sets."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.table import Table
from scipy import stats

from raydeblend.errors import ConfigError
from raydeblend.simulate import euclid
from raydeblend.simulate.euclid_blends import ANNULUS, SIZE, nemani2023_blends
from raydeblend.simulate.euclid_real import load_real, magnitudes, render_real, within_isophote
from raydeblend.simulate.euclid_shards import (
    EuclidConfig,
    check_euclid,
    make_euclid_shard,
    render_euclid_shards,
)
from raydeblend.simulate.hst import HstStamps
from raydeblend.simulate.shards import read_shard
from raydeblend.survey import get_survey

SHARED = Path("/work/shared/data")
COSMOS = SHARED / "catalogs/cosmos_sersic_f814w_23.5.fits"
GALSIM = SHARED / "hst/galsim_cosmos_100"
needs_data = pytest.mark.skipif(not COSMOS.exists(), reason="../shared/data is absent")


@needs_data
def test_the_units_of_the_cosmos_fits_are_those_of_galsims_own() -> None:
    name = "real_galaxy_catalog_23.5_example_fits.fits"
    theirs = Table.read(GALSIM / name)
    ours = euclid.read_cosmos_sersic(str(COSMOS))
    identifier = np.asarray(Table.read(COSMOS)["ID"])[ours.galaxy]
    rows = [(i, np.flatnonzero(identifier == ident)) for i, ident in enumerate(theirs["IDENT"])]
    pairs = [(i, found[0]) for i, found in rows if len(found)]
    assert len(pairs) > 50
    ours_circular = [ours.radius[k] * np.sqrt(ours.axis_ratio[k]) for _, k in pairs]
    np.testing.assert_allclose(ours_circular, [theirs["hlr"][i][0] for i, _ in pairs], rtol=1e-4)
    # GalSim's fluxes are counts per second at F814W's zero point of 25.94.
    total = [25.94 - 2.5 * np.log10(theirs["flux"][i][0]) for i, _ in pairs]
    assert np.median(ours.magnitude[[k for _, k in pairs]] - total) == pytest.approx(0, abs=0.05)


def test_counts_rise_as_drawn() -> None:
    galaxies = euclid.draw_euclid(20_000, np.random.default_rng(0), faint=24.0)
    assert galaxies.magnitude.max() <= 24
    fainter = np.mean(galaxies.magnitude > 23)
    # The cumulative counts go as 10^(0.31 m).
    assert fainter == pytest.approx(1 - 10**-0.31, abs=0.02)


@needs_data
def test_the_distributions_resemble_the_fits_they_stand_for() -> None:
    fits = euclid.read_cosmos_sersic(str(COSMOS))
    drawn = euclid.draw_euclid(4000, np.random.default_rng(1), faint=23.0)
    resampled = euclid.draw_euclid(4000, np.random.default_rng(2), fits, faint=23.0)
    for values in ("radius", "axis_ratio"):
        first, second = (np.log(getattr(g, values)[:, 0]) for g in (drawn, resampled))
        assert stats.ks_2samp(first, second).statistic < 0.1, values
    difference = drawn.bulge_fraction.mean() - resampled.bulge_fraction.mean()
    assert abs(difference) < 0.05


@pytest.mark.parametrize("index", [0.8, 1.5, 2.5, 4.0])
def test_bulge_and_disk_together_have_the_size_of_the_single_profile(index: float) -> None:
    one = np.array([1.0])
    galaxies = euclid.to_double(one, one * 0.5, one * index, one, np.array([1]))
    half_light = euclid.double_sersic(galaxies, 0).calculateHLR(scale=0.01, size=1024)
    assert half_light == pytest.approx(0.5, rel=0.12)


def test_the_psf_has_the_tabulated_width() -> None:
    survey = get_survey("Euclid_VIS")
    drawn = euclid.vis_psf(survey).drawImage(nx=301, ny=301, scale=0.005, method="no_pixel")
    width = galsim.Image(drawn.array, scale=0.005).calculateFWHM()
    assert width == pytest.approx(survey.bands[0].psf_fwhm, rel=0.04)


def test_images_hold_the_flux_of_their_magnitude() -> None:
    galaxies = euclid.draw_euclid(12, np.random.default_rng(3), faint=22.0)
    group = euclid.render_euclid(galaxies, np.random.default_rng(4))
    band = get_survey("Euclid_VIS").bands[0]
    expected = 10 ** (0.4 * (31.4 - galaxies.magnitude)) / band.sky_sigma
    flux = group.images.sum(axis=(1, 2, 3), dtype=np.float64)
    assert np.all(flux < 1.01 * expected)
    assert np.median(flux / expected) > 0.93
    # An aperture of 2 arcsec has a noise of sqrt(pi) / 0.1 pixels: the paper's m_lim.
    limit = 31.4 - 2.5 * np.log10(band.sky_sigma * np.sqrt(np.pi) / 0.1)
    assert limit == pytest.approx(27.1, abs=0.25)


def test_shards_are_the_same_again_and_know_their_split(tmp_path: Path) -> None:
    config = EuclidConfig(group=12, seed=5)
    first, second = render_euclid_shards(str(tmp_path), config, 20)
    shard = read_shard(first)
    assert shard.group.images.shape == (12, 1, 80, 80)
    assert shard.group.bands == ("IE",)
    np.testing.assert_array_equal(shard.is_validation, euclid.is_validation(shard.galaxy_id))
    again = make_euclid_shard(config, 1, check_euclid(str(tmp_path), config))
    np.testing.assert_array_equal(read_shard(second).group.images, again.group.images)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"group": 0}, "group"),
        ({"faint": 10.0}, "faint"),
        ({"realistic": 0.5}, "hst"),
        ({"catalog": "/no/such.fits"}, "such.fits"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], word: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=word):
        check_euclid(str(tmp_path), EuclidConfig(**change))


def test_images_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    render_euclid_shards(str(tmp_path), EuclidConfig(group=2), 2)
    with pytest.raises(ConfigError, match="other settings"):
        render_euclid_shards(str(tmp_path), EuclidConfig(group=2, seed=1), 2)


def hst_like(n: int = 16) -> HstStamps:
    """Gaussian galaxies of known flux and size through a Gaussian PSF, with HST's noise."""
    rng = np.random.default_rng(0)
    psf = galsim.Gaussian(fwhm=0.11)
    images = []
    for k in range(n):
        galaxy = galsim.Convolve(galsim.Gaussian(half_light_radius=0.3 + 0.01 * k), psf)
        images.append(galaxy.drawImage(nx=128, ny=128, scale=0.06).array * 10_000)
    noisy = np.stack(images)[:, None] + rng.normal(0, 1.0, (n, 1, 128, 128))
    stamp = psf.drawImage(nx=41, ny=41, scale=0.06).array[None]
    return HstStamps(
        noisy.astype(np.float32), stamp, 0.06, ("F814W",), np.arange(n), np.zeros(n, int),
        np.ones(n, bool),
    )  # fmt: skip


def test_real_galaxies_keep_their_shape_and_never_become_brighter() -> None:
    stamps = hst_like()
    own = magnitudes(stamps)
    np.testing.assert_allclose(own, 31.4 - 2.5 * np.log10(10_000), atol=0.2)
    group, galaxy = render_real(stamps, 8, np.random.default_rng(1), faint=own.min() + 1e-3)
    images = group.images[:, 0].astype(np.float64)
    flux = images.sum(axis=(1, 2)) * get_survey("Euclid_VIS").bands[0].sky_sigma
    np.testing.assert_allclose(flux, 10_000, rtol=0.05)
    psf = euclid.vis_psf(get_survey("Euclid_VIS"))
    for image, number in zip(images, galaxy, strict=True):
        known = galsim.Convolve(galsim.Gaussian(half_light_radius=0.3 + 0.01 * number), psf)
        expected = known.drawImage(nx=80, ny=80, scale=0.1).array
        # Random angles and places within a pixel do not change how many pixels are how bright.
        ours, theirs = (np.sort(i.ravel())[::-1][:60].cumsum() for i in (image, expected))
        np.testing.assert_allclose(ours / image.sum(), theirs / expected.sum(), rtol=0.07)


def test_noise_outside_a_galaxy_is_not_truth() -> None:
    clean = within_isophote(hst_like(1).images[0, 0])
    assert np.mean(clean == 0) > 0.7
    assert clean.sum() == pytest.approx(10_000, rel=0.02)


@pytest.mark.skipif(not GALSIM.exists(), reason="../shared/data is absent")
def test_galsims_galaxies_become_vis_stamps() -> None:
    stamps = load_real(str(GALSIM))
    group, galaxy = render_real(stamps, 4, np.random.default_rng(2))
    assert group.images.shape == (4, 1, 80, 80)
    assert np.isin(galaxy, stamps.galaxy).all()
    peak = group.images[:, 0, 35:45, 35:45].max(axis=(1, 2))
    assert np.all(peak >= 0.5 * group.images.max(axis=(1, 2, 3)))


def test_a_test_set_has_the_first_galaxy_in_the_middle() -> None:
    arrays = nemani2023_blends(6, seed=7)
    middle = (SIZE - 1) / 2
    assert arrays["blend1"].shape == (6, 1, 64, 64)
    assert arrays["isolated2"].shape == (6, 2, 1, 64, 64)
    assert np.abs(arrays["xy2"][:, 0] - middle).max() <= 0.5
    distance = np.linalg.norm(arrays["xy2"][:, 1] - middle, axis=1)
    assert np.all((distance >= ANNULUS[0]) & (distance <= ANNULUS[1]))
    y, x = np.indices((64, 64))
    for image, (x0, y0) in zip(arrays["isolated2"][:, 1, 0], arrays["xy2"][:, 1], strict=True):
        near = np.hypot(x - x0, y - y0) < 5
        centroid = ((image * near * x).sum(), (image * near * y).sum()) / (image * near).sum()
        np.testing.assert_allclose(centroid, (x0, y0), atol=0.4)
    noise = arrays["blend1"] - arrays["isolated1"][:, 0]
    assert np.std(noise[:, :, :8]) == pytest.approx(1, abs=0.05)


def test_a_test_set_is_drawn_from_the_galaxies_kept_apart() -> None:
    galaxies = euclid.draw_euclid(50, np.random.default_rng(0), validation=True)
    assert euclid.is_validation(galaxies.galaxy).all()
    with pytest.raises(ConfigError, match="kept for validation"):
        nemani2023_blends(1, 0, real=hst_like(1).take(np.array([False])))
