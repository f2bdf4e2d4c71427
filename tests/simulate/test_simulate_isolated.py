import dataclasses

import numpy as np
import pytest

from raydeblend.simulate.galaxies import draw_galaxies
from raydeblend.simulate.isolated import render_galaxy, render_group
from raydeblend.simulate.protocols import wang2022_blends
from raydeblend.survey import get_survey, psf_profile

BANDS = ("g", "r", "i")
LSST = get_survey("LSST")


@pytest.fixture(scope="module")
def galaxies():
    return draw_galaxies(12, BANDS, np.random.default_rng(5), faint=24)


def test_flux_is_in_sky_sigmas(galaxies) -> None:
    small = dataclasses.replace(
        galaxies, disk_radius=np.full(12, 0.2), bulge_radius=np.full(12, 0.1)
    )
    psfs = [psf_profile(LSST, band) for band in BANDS]
    image = render_galaxy(small, 0, LSST, psfs, 96)
    for band, name in enumerate(BANDS):
        table = LSST.band(name)
        electrons = 10 ** (0.4 * (31.4 - small.magnitude[0, band])) * table.electrons_per_njy
        expected = electrons / np.sqrt(table.sky_electrons)
        assert image[band].sum() == pytest.approx(expected, rel=0.02)


def test_offset_moves_the_centroid(galaxies) -> None:
    psfs = [psf_profile(LSST, "r")]
    one = dataclasses.replace(galaxies, bands=("r",), magnitude=galaxies.magnitude[:, 1:2])
    image = render_galaxy(one, 3, LSST, psfs, 80, angle=30, offset=(2.25, -4.5))[0]
    y, x = np.indices(image.shape)
    assert (image * x).sum() / image.sum() == pytest.approx(39.5 + 2.25, abs=0.05)
    assert (image * y).sum() / image.sum() == pytest.approx(39.5 - 4.5, abs=0.05)


def test_a_group_shares_a_psf_within_the_seeing_range(galaxies) -> None:
    group = render_group(galaxies, LSST, np.random.default_rng(1), size=48)
    assert group.images.shape == (12, 3, 48, 48)
    np.testing.assert_allclose(group.psf.sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(group.sky_sigma[0] ** 2, LSST.band("g").sky_electrons, rtol=1e-5)


def test_protocol_has_the_fixed_layout_and_unit_sky() -> None:
    arrays = wang2022_blends(6, seed=1)
    assert arrays["blend3"].shape == (6, 3, 80, 80)
    assert arrays["isolated3"].shape == (6, 3, 3, 80, 80)
    noise = arrays["blend2"] - arrays["isolated2"].sum(axis=1)
    assert noise.std() == pytest.approx(1, abs=0.02)
    flux = arrays["isolated3"].sum(axis=(2, 3, 4))
    assert (np.diff(flux, axis=1) <= 0).all()
    peak = arrays["isolated2"][:, 0].sum(axis=1).reshape(6, -1).argmax(axis=1)
    found = np.stack([peak % 80, peak // 80], axis=1)
    np.testing.assert_allclose(found, arrays["xy2"][:, 0], atol=1.0)
    np.testing.assert_array_equal(arrays["blend2"], wang2022_blends(6, seed=1)["blend2"])
